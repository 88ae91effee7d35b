"""Files and folders written the same way under Python 2.7 and 3."""

import os

_replace = getattr(os, "replace", os.rename)  # Python 2.7 has only the second


def make_folder(path):
    """Make a folder, and those above it, unless it exists."""
    if not os.path.isdir(path):
        os.makedirs(path)


def write_whole(path, data):
    """Write bytes through a temporary file beside the file, so that it is whole or not there."""
    unfinished = "{}.{}.tmp".format(path, os.getpid())
    with open(unfinished, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _replace(unfinished, path)
