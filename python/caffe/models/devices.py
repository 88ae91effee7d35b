"""The GPUs of this machine, and the choice of them on a command line."""

import os
import subprocess


def count_gpus():
    """Return how many GPUs a process started here would see; 0 where there are none."""
    try:
        import torch
    except ImportError:  # the original's world
        return _count_by_driver()
    return int(torch.cuda.device_count())


def _count_by_driver():
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip()])
    try:
        listing = subprocess.check_output(["nvidia-smi", "-L"], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return 0
    return len(listing.decode("utf-8").strip().splitlines())


def choose_gpus(wanted, num_available, most=8):
    """Return device ids for the flag `--gpu`.

    Args:
        wanted: `all`, `none`, ids like `0,1,2`, or None for the first `most`.
        num_available: GPUs of this machine.
        most: how many to take where the flag is not given.

    Raises:
        ValueError: no list of ids, an id twice, or a GPU that is not there.
    """
    if wanted is None:
        return list(range(min(most, num_available)))
    if wanted == "none":
        return []
    if wanted == "all":
        if num_available == 0:
            raise ValueError("--gpu all: this machine has no GPU that can be used")
        return list(range(num_available))
    try:
        ids = [int(part) for part in wanted.split(",")]
    except ValueError:
        raise ValueError("--gpu must be ids like 0,1,2, all or none, got {!r}".format(wanted))
    if len(set(ids)) != len(ids):
        raise ValueError("--gpu names a GPU twice: {}".format(wanted))
    absent = [gpu for gpu in ids if not 0 <= gpu < num_available]
    if absent:
        there = "GPUs 0 to {}".format(num_available - 1) if num_available else "no GPU"
        raise ValueError(
            "--gpu {}: there is no GPU {}, this machine has {}".format(wanted, absent[0], there)
        )
    return ids
