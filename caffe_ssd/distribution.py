"""What is installed: the package's name on the index, its extras, and the files that come along.

Nothing here needs another package, so `setup.py` can run this file while the package is built.
"""

from __future__ import annotations

from pathlib import Path

# As pip knows it. `caffe-ssd` on the public index is somebody else's.
NAME = "ssd-caffe"
# Where the package keeps the examples and label maps, beside this file; absent in a checkout.
SHARE = "share"
# Scripts and label maps, by folder. Lists, databases and results that the tools write into the
# same folders stay out.
_SHIPPED = {
    "examples": ("*.py", "*.sh", "*.slurm", "*.md", "*.ipynb"),
    "data": ("*.md", "labelmap_*.prototxt", "classes.txt", "labels.txt", "*_map.txt"),
}


def install_hint(extra: str) -> str:
    """The command that installs the packages of one of the extras."""
    return f"pip install '{NAME}[{extra}]'"


def shipped_files(root: Path) -> list[Path]:
    """The examples and label maps, relative to `root`, in order.

    Args:
        root: the folder that holds `examples/` and `data/`.
    """
    return sorted(
        path.relative_to(root)
        for folder, patterns in _SHIPPED.items()
        for pattern in patterns
        for path in (root / folder).rglob(pattern)
        if path.is_file() and not path.is_symlink()
    )


def shipped_root() -> Path:
    """The folder that holds `examples/` and `data/`: inside the package, or the checkout's root."""
    package = Path(__file__).resolve().parent
    share = package / SHARE
    return share if share.is_dir() else package.parent
