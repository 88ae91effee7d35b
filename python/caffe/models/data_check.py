"""Says which files a training or scoring lacks, and the command that makes each."""

import os
from typing import NamedTuple

from caffe.models.datasets import Dataset


class Need(NamedTuple):
    """Something that must exist, what it is, and the command that makes it."""

    path: str
    what: str
    command: str


def require(dataset: Dataset, training: bool) -> None:
    """Check that the files of a data set exist.

    Args:
        dataset: what is trained or scored on.
        training: whether its training data is needed too.

    Raises:
        ValueError: names each missing file and the command that makes it, in working order.
    """
    missing = [need for need in _needs(dataset, training) if not os.path.exists(need.path)]
    if not missing:
        return
    missing = _missing_lists(dataset, missing) + missing
    purpose = "train on" if training else "score on"
    lines = [f"the data to {purpose} is not complete; missing:"]
    for need in missing:
        lines += [f"  {need.path} ({need.what}), made by", f"      {need.command}"]
    raise ValueError("\n".join(lines))


def _needs(dataset: Dataset, training: bool) -> "list[Need]":
    label_map = f"create_label_map --include_background NAMES {dataset.label_map}"
    sizes = f"get_image_size {dataset.root} {dataset.test_list} {dataset.name_size_file}"
    test_data = _convert(dataset, dataset.test_list, dataset.test_data)
    needs = [
        Need(dataset.label_map, "label map", label_map),
        Need(dataset.name_size_file, "sizes of the test images", sizes),
        Need(dataset.test_data, "test data", test_data),
    ]
    if training:
        command = _convert(dataset, dataset.train_list, dataset.train_data)
        needs.append(Need(dataset.train_data, "training data", command))
    return needs


def _convert(dataset: Dataset, image_list: str, database: str) -> str:
    flags = (
        f"--anno_type=detection --label_type={dataset.label_type} "
        f"--label_map_file={dataset.label_map} --check_label --encode_type=jpg --encoded"
    )
    return f"convert_annoset {flags} {dataset.root} {image_list} {database}"


def _missing_lists(dataset: Dataset, missing: "list[Need]") -> "list[Need]":
    """Return the image lists that the commands of `missing` read and that do not exist."""
    if not dataset.list_command:
        return []
    paths = [
        path
        for path in (dataset.train_list, dataset.test_list)
        if not os.path.exists(path) and any(f" {path} " in need.command for need in missing)
    ]
    if not paths:
        return []
    return [Need(", ".join(paths), "images and annotations", dataset.list_command)]
