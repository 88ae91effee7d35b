"""Records what data layers make of drawn pictures: `python -m tests.recorded.make_drawn GOLDEN`.

Photographs are not copied, so tests of pixels need others. First every recorded case of a data
layer must come out on the photographs as the reference had it; then the same layers run on the
drawn pictures of tests/data/drawn.py, and every eleventh pixel of at most three images is kept.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.data.drawn import drawn_database
from tests.data.layer_cases import CASES, Case, build, check_photographs, pixels
from tests.recorded.make import HERE, pack, zipped

EVERY, IMAGES = 11, 3


def members(golden: Path) -> Iterator[tuple[str, bytes]]:
    """One file per case, after the case has passed on photographs."""
    fixed = [case for case in CASES if "mirrored" not in case]  # mirroring is random
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({case["db"] for case in fixed}):
            drawn_database(Path(folder), name)
        for case in fixed:
            check_photographs(case, golden)
            yield f"{case['name']}.npz", recorded(case, Path(folder))


def recorded(case: Case, databases: Path) -> bytes:
    """The sparse pixels of all batches of a case."""
    layer = build(case, databases)
    batches = [layer()[0].numpy() for _ in case["outputs"]]
    return zipped(
        {f"data_{i}": pixels(case, b)[:IMAGES, :, ::EVERY, ::EVERY] for i, b in enumerate(batches)}
    )


def main() -> None:
    """Parse the command line and write the archive."""
    parser = argparse.ArgumentParser(description="Record data layers on drawn pictures.")
    parser.add_argument("golden", type=Path, metavar="GOLDEN", help="folder of the recorded data")
    content = pack("drawn", members(parser.parse_args().golden))
    (HERE / "drawn.tar.xz").write_bytes(content)
    print(f"drawn.tar.xz  {len(content) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
