"""The files that the data layers and the Python layer of minimal_nets.py read."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np

from tests.data.databases import datum, picture, write_lmdb, write_small_database

GAIN = """
import caffe


class Gain(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 2

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += (bottom[0].data * top[0].diff).sum()
        bottom[0].diff[...] = self.blobs[0].data * top[0].diff
"""


def write_files(folder: Path) -> None:
    """Write what the data layers and the Python layer read."""
    (folder / "minimal_gain.py").write_text(GAIN)
    write_small_database(folder / "lmdb")
    write_lmdb(folder / "plain", [datum(picture(seed=n), label=n) for n in range(3)])
    with h5py.File(folder / "data.h5", "w") as file:
        file["t0"] = np.arange(12, dtype=np.float32).reshape(4, 3)
        file["t1"] = np.arange(4, dtype=np.float32)
    (folder / "h5.txt").write_text(f"{folder}/data.h5\n")
    lines = []
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((20, 30, 3), 40 * i, np.uint8))
        lines.append(f"{i}.png {i}")
    (folder / "images.txt").write_text("\n".join(lines))
    (folder / "windows.txt").write_text(
        "# 0\n0.png\n3\n20\n30\n2\n1 0.9 2 1 20 12\n0 0.1 0 0 9 15\n"
    )
    writer = cv2.VideoWriter(
        str(folder / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24)
    )
    for i in range(4):
        writer.write(np.full((24, 32, 3), 50 * i, np.uint8))
    writer.release()
