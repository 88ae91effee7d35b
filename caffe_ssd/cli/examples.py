"""`caffe examples`: the scripts and label maps of the package, listed or written to a folder.

An addition to the reference's actions. The commands that `caffe models` and the documentation show
are typed in a folder that holds `examples/` and `data/`: a checkout, or what this action writes.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.desk.console import show
from caffe_ssd.distribution import shipped_files, shipped_root
from caffe_ssd.errors import FileError
from caffe_ssd.files import atomic_write

DESCRIPTION = """\
List the scripts that train, score and demonstrate the published models, or write them and the
label maps to DIR: its folders examples/ and data/ are then those of the project, and the commands
that `caffe models` lists work in DIR."""
EXAMPLES = """\
  caffe examples              what there is
  caffe examples .            write it here
  caffe examples detectors && cd detectors && python examples/dsod/DSOD300_pascal.py --help"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    root = shipped_root()
    if not (root / "examples").is_dir():
        raise FileError(f"the examples are missing in {root}; install the package again")
    if args.folder is None:
        show(_listing(root))
        return 0
    written = write_examples(root, Path(args.folder), replace=args.force)
    show(f"wrote {written} files to examples/ and data/ in {args.folder}")
    return 0


def write_examples(root: Path, folder: Path, *, replace: bool = False) -> int:
    """Copy the scripts and label maps.

    Args:
        root: the folder that holds them.
        folder: gets `examples/` and `data/`; made where it is missing. Files that are there
            already with the same content stay as they are.
        replace: whether files with other content are replaced.

    Returns:
        How many files were written.

    Raises:
        FileError: a file is there with other content, and nothing was written; or one cannot be
            written.
    """
    files = {file: (root / file).read_bytes() for file in shipped_files(root)}
    there = [file for file in files if (folder / file).exists()]
    changed = [file for file in there if (folder / file).read_bytes() != files[file]]
    if changed and not replace:
        raise FileError(
            f"nothing was written: {len(changed)} files differ from the package's, as "
            f"{folder / changed[0]}; choose another folder, or -force to replace them"
        )
    new = [file for file in files if file not in there or file in changed]
    for file in new:
        target = folder / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"Could not make {target.parent}: {error.strerror}") from error
        atomic_write(target, files[file])
    return len(new)


def _listing(root: Path) -> str:
    scripts = {
        file.as_posix(): _first_line(root / file)
        for file in shipped_files(root)
        if file.suffix in (".py", ".sh")
    }
    width = max(map(len, scripts))
    lines = [f"{name:<{width}}  {text}".rstrip() for name, text in scripts.items()]
    maps = [file.parent.name for file in shipped_files(root) if file.suffix == ".prototxt"]
    lines += ["", f"and in data/ the label maps of {', '.join(maps)}"]
    lines += ["`caffe examples DIR` writes all of them to DIR."]
    return "\n".join(lines)


def _first_line(script: Path) -> str:
    """What a script says of itself, in a line."""
    text = script.read_text(encoding="utf-8")
    if script.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return text.splitlines()[1].lstrip("# ")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("examples", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", help="folder to write to; without it they are listed"
    )
    parser.add_switch("force", help="replace files that differ")
    return parser.parse_action(arguments)
