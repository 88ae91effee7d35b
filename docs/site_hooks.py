"""What MkDocs calls while it builds the site: reference pages, and links that leave docs/.

The reference has a page per part of the engine and per package beside it, and a page with the help
of every command. Nothing of it is kept in docs/.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from caffe_ssd.cli.main import ACTIONS
from caffe_ssd.cli.main import main as caffe

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = "reference/commands.md"
# Packages and where they lie. The engine's parts get a page each, the others one.
ENGINE = "caffe_ssd"
OTHERS = {"caffe": "python/caffe", "lmdb_tools": "lmdb_tools"}
_OUTWARD = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages behind those of the last section."""
    pages: list[Any] = [{"Commands": COMMANDS}]
    pages += [{name: _page(name)} for name in modules()]
    section = config.nav[-1]  # type: ignore[index]
    section["Reference"] += pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, COMMANDS, content=_commands()))
    for name in modules():
        files.append(File.generated(config, _page(name), content=_reference(name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn links to files of the project into links to what the site has of them."""
    return _OUTWARD.sub(lambda link: _inward(link[1], link[2]), markdown)


def modules() -> Iterator[str]:
    """The modules and packages with a page of their own."""
    yield ENGINE
    for path in sorted((ROOT / ENGINE).iterdir()):
        is_part = (path / "__init__.py").is_file() or path.suffix == ".py"
        if is_part and not path.name.startswith("_"):
            yield f"{ENGINE}.{path.stem}"
    for name, folder in OTHERS.items():
        yield name
        packages = (ROOT / folder).glob("*/__init__.py")
        yield from (f"{name}.{path.parent.name}" for path in sorted(packages))


def _page(module: str) -> str:
    return f"reference/{module}.md"


def _reference(name: str) -> str:
    """What stands on a module's page: itself and what lies in it, but for packages with a page."""
    whole = name not in (ENGINE, "caffe")
    text = f"# {name}\n\n::: {name}\n    options: {{show_submodules: {str(whole).lower()}}}\n"
    if name == "caffe":
        stems = sorted(path.stem for path in (ROOT / OTHERS[name]).glob("[!_]*.py"))
        text += "".join(f"\n::: caffe.{stem}\n" for stem in stems)
    return text


def _inward(text: str, target: str) -> str:
    """A link to the site's page about a file, or its text where the site has none."""
    path = target.partition("#")[0].rstrip("/")
    if path == "README.md":
        return f"[{text}]({COMMANDS if 'command' in target else 'index.md'})"
    words = path.removesuffix(".py").split("/")
    if words[0] == ENGINE and (path.endswith(".py") or (ROOT / path).is_dir()):
        return f"[{text}]({_page('.'.join(words[:2]))}#{'.'.join(words)})"
    return text


def _commands() -> str:
    parts = ["# Commands\n\nWhat `caffe ACTION --help` prints."]
    for action, summary in ACTIONS.items():
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            caffe([action, "--help"])
        parts.append(f"## caffe {action}\n\n{summary}\n\n```text\n{said.getvalue().strip()}\n```")
    return "\n\n".join(parts) + "\n"
