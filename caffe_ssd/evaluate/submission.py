"""Packs result files as the evaluation servers of VOC and COCO want them.

Source: the development kit of VOC2012, section "Submission of results"; cocodataset.org, "Upload".

VOC: an archive with `results/VOC2012/Main/comp4_det_test_CLASS.txt` for every class, comp3 for nets
trained on nothing but VOC's own data. COCO: a zip with one `detections_SET_NAME_results.json`.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.evaluate.result_reader import PREFIXES, voc_files
from caffe_ssd.files import atomic_writer

VOC_FOLDER = "results/VOC2012/Main"
_COCO_NAME = re.compile(r"detections_(test|val|train|minival)[-\w]*_\w[-\w]*_results\.json")


def pack(
    results: Path, target: Path, *, categories: Sequence[str], prefix: str | None = None
) -> list[str]:
    """Pack results for a server.

    Args:
        results: a folder of VOC files, or a COCO file.
        target: the archive: `.tar`, `.tar.gz` or `.tgz` for VOC, `.zip` for COCO.
        categories: every class of the VOC challenge; not used for COCO.
        prefix: beginning of the names of the VOC files; they get a standard one in the archive.

    Returns:
        Names in the archive.

    Raises:
        FileError: a file cannot be read or written.
        DataError: a class has no file, or a COCO file does not have a server's name.
        UsageError: the archive's ending does not fit.
    """
    if results.is_dir():
        return _pack_voc(results, target, categories, prefix)
    if results.suffix == ".json":
        return _pack_coco(results, target)
    raise UsageError(f"{results}: a folder of VOC files or a .json file of COCO can be packed")


def _pack_voc(
    results: Path, target: Path, categories: Sequence[str], prefix: str | None
) -> list[str]:
    if not target.name.endswith((".tar", ".tar.gz", ".tgz")):
        raise UsageError(f"{target}: VOC's server takes a .tar, .tar.gz or .tgz file")
    if not categories:
        raise UsageError("packing VOC files needs a label map, which names the classes")
    files = voc_files(results, tuple(categories), prefix)
    missing = [name for name in categories if name not in files]
    if missing:
        raise DataError(f"{results} lacks files of {', '.join(missing)}; the server wants them all")
    start = next((each for each in PREFIXES if _begins(files, each)), PREFIXES[0])
    mode = "w" if target.suffix == ".tar" else "w:gz"
    names = [f"{VOC_FOLDER}/{start}{name}.txt" for name in categories]
    with atomic_writer(target) as file, tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, path in zip(names, files.values(), strict=True):
            content = _read(path)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mtime = int(path.stat().st_mtime)
            archive.addfile(entry, io.BytesIO(content))
    return names


def _pack_coco(results: Path, target: Path) -> list[str]:
    if target.suffix != ".zip":
        raise UsageError(f"{target}: COCO's server takes a .zip file")
    if _COCO_NAME.fullmatch(results.name) is None:
        raise DataError(
            f"{results.name} must be called detections_SET_NAME_results.json, as "
            "detections_test-dev2017_mine_results.json, for COCO's server; rename it"
        )
    content = _read(results)
    with (
        atomic_writer(target) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr(results.name, content)
    return [results.name]


def _begins(files: dict[str, Path], prefix: str) -> bool:
    return all(path.name.startswith(prefix) for path in files.values())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"Could not open file {path}: {error.strerror}") from error
