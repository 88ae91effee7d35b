"""Copies the recorded reference data into this folder: `python -m tests.recorded.make GOLDEN`.

GOLDEN is the folder that the numbers were recorded in (docs/fidelity.md tells how). Each part of
it, a folder, becomes one archive `<part>.tar.xz` beside this script; `bccd`, the annotations of the
data set, is read from ../data/bccd beside GOLDEN. tests/support/golden.py unpacks whatever archives
it finds, so a new part needs one command and no other change:

    python -m tests.recorded.make ../shared/golden forks

Pictures and released models are never copied. In an archive `.npz` files are not compressed one by
one: numbers that several cases share are then stored once, and reading them is faster. The same
folder gives the same archive, byte for byte.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}
NEITHER = {".md"}  # the recorder's own notes


def _any_array(name: str) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of one folder is copied.

    Args:
        files: glob patterns relative to the folder.
        folder: where it lies, relative to the part's own place in GOLDEN.
        arrays: which arrays of an `.npz` file are kept.
    """

    files: tuple[str, ...] = ("**/*",)
    folder: str = "."
    arrays: Callable[[str], bool] = _any_array


PARTS = {
    "layers": Part(),
    "solvers": Part(),
    "nets": Part(),
    "proto": Part(),
    "forks": Part(files=("**/*.npz", "errors.json", "raw_data/*")),
    # The longer trajectories start from 1.4 MB of photographs, the models from released weights.
    "training": Part(files=("images96.npz", "tiny96/*")),
    # Records of drawn shapes and of stripes, and the tiny nets trained on them, are here in full.
    "logs": Part(),
    "eval": Part(
        files=("*.json", "*.txt", "*.prototxt", "detections.npz", "results/*"),
        arrays=lambda name: name != "image0_data",
    ),
    # Photographs: labels are kept, pixels are not (make_drawn.py draws others).
    "data": Part(
        files=("db_facts.json", "layer/*", "random/*.npz", "random/*.json"),
        arrays=lambda name: not name.startswith(("data_", "sum_", "sumsq_")),
    ),
    "bccd": Part(
        files=("Annotations/*.xml", "ImageSets/**/*.txt", "*.txt", "*.prototxt", "LICENSE"),
        folder="../../data/bccd",
    ),
}


def members(root: Path, part: Part) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a part's files, sorted by extension so that like stands by like."""
    chosen = {path for pattern in part.files for path in root.glob(pattern) if path.is_file()}
    for path in sorted(chosen, key=lambda path: (path.suffix, path)):
        if path.suffix.lower() in PICTURES | NEITHER:
            continue
        content = path.read_bytes()
        if path.suffix == ".npz":
            with np.load(path) as data:
                content = zipped({name: data[name] for name in data.files if part.arrays(name)})
        yield path.relative_to(root).as_posix(), content


def zipped(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an `.npz` file, uncompressed and without times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    return out.getvalue()


def pack(name: str, files: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive that unpacks into the folder `name`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member, content in files:
            entry = tarfile.TarInfo(f"{name}/{member}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    # float32 numbers: the four bytes of each have statistics of their own.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2}]
    return lzma.compress(out.getvalue(), filters=filters)


def main() -> None:
    """Parse the command line, write the archives and print their sizes."""
    parser = argparse.ArgumentParser(
        description="Copy the recorded reference data into tests/recorded, one archive per part.",
        epilog=f"Known parts: {', '.join(PARTS)}. Another folder of GOLDEN is copied whole, "
        "without pictures.",
    )
    parser.add_argument("golden", type=Path, metavar="GOLDEN", help="folder of the recorded data")
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to copy (all known parts)")
    args = parser.parse_args()
    roots = {name: args.golden / name / PARTS.get(name, Part()).folder for name in args.parts}
    roots = roots or {name: args.golden / name / part.folder for name, part in PARTS.items()}
    for name, root in roots.items():
        root = Path(os.path.normpath(root))  # GOLDEN/bccd itself does not exist
        if not root.is_dir():
            parser.error(f"{root} is not a folder; GOLDEN must hold the part {name!r}")
        content = pack(name, members(root, PARTS.get(name, Part())))
        (HERE / f"{name}.tar.xz").write_bytes(content)
        print(f"{name}.tar.xz  {len(content) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
