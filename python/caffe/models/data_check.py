"""Says which files a training or scoring lacks, and the command that makes each."""

import os
from collections import OrderedDict

from caffe.models.records import record


class Need(
    record(
        "Need",
        "path",
        "what",
        "command",
    )
):
    """Something that must exist, what it is, and the command that makes it."""


def require(dataset, published, training):
    """Check that the files of a data set exist.

    Args:
        dataset: what is trained or scored on.
        published: the data set that it is, or that its paths differ from.
        training: whether its training data is needed too.

    Raises:
        ValueError: names each missing file and the command that makes it.
    """
    missing = [
        need for need in needs(dataset, published, training) if not os.path.exists(need.path)
    ]
    if not missing:
        return
    lines = ["the data to {} on is not complete".format("train" if training else "score")]
    for command in OrderedDict.fromkeys(need.command for need in missing):
        made = [need for need in missing if need.command == command]
        lines += ["  missing: {} ({})".format(need.path, need.what) for need in made]
        lines += ["  made by:", "      {}".format(command)]
    if published.label_map in [need.path for need in missing]:
        lines.append("  (the label map is part of this project: start the script in its folder,")
        lines.append("  or in one that `caffe examples DIR` has written)")
    raise ValueError("\n".join(lines))


def needs(dataset, published, training):
    """Return what a training or scoring needs, a list of `Need`; see `require`."""
    label_map = "create_label_map --include_background NAMES {}".format(dataset.label_map)
    sizes = "get_image_size ROOT/ LISTFILE {}".format(dataset.name_size_file)
    convert = (
        "convert_annoset --anno_type=detection --label_map_file={} "
        "--check_label --encode_type=jpg --encoded ROOT/ LISTFILE"
    ).format(dataset.label_map)
    needs = [
        Need(dataset.label_map, "label map", label_map),
        Need(dataset.name_size_file, "sizes of the test images", sizes),
        Need(dataset.test_data, "test data", "{} {}".format(convert, dataset.test_data)),
    ]
    if training:
        needs.append(
            Need(dataset.train_data, "training data", "{} {}".format(convert, dataset.train_data))
        )
    # One command makes a published data set, except for the label map, which it reads.
    prepared = {published.name_size_file, published.test_data, published.train_data}
    return [
        need._replace(command=published.preparation) if need.path in prepared else need
        for need in needs
    ]
