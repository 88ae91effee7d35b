"""How long a training's passes take on this machine: some real ones, on random pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from caffe_ssd.net.net import build_net
from caffe_ssd.net.without_data import fed_by_hand, images, label_blob, objects
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState

_MOST_PASSES = 5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was measured.

    Args:
        seconds_per_pass: forward and backward, the fastest of those timed.
        batch: images in a pass.
        passes: that were timed.
        idle_share: part of the measured time in which this process did not calculate: on the CPU
            others had the machine.
        peak_bytes: most memory on the device at once; None on the CPU, where nothing counts it.
    """

    seconds_per_pass: float
    batch: int
    passes: int
    idle_share: float
    peak_bytes: int | None

    @property
    def seconds_per_image(self) -> float:
        """Of a pass, shared among its images."""
        return self.seconds_per_pass / self.batch


def try_passes(
    param: NetParameter,
    *,
    batch: int,
    size: int,
    num_classes: int,
    device: torch.device,
    seconds: float,
) -> Trial:
    """Run forward and backward passes of a training net on random pictures.

    Args:
        param: upgraded; its first layer, which reads the data, is left out.
        batch: images in a pass.
        size: height and width of the pictures in pixels.
        num_classes: with the background.
        device: where to run.
        seconds: after which no further pass begins; one is always timed, after one untimed.
    """
    fed = fed_by_hand(param, batch=batch, size=size)
    net = build_net(fed, NetState(phase="TRAIN")).to(device)
    inputs = {
        "data": images(batch, size=size).to(device),
        "label": label_blob(objects(batch, num_classes=num_classes)).to(device),
    }
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    worked = time.process_time()
    begin = time.monotonic()
    end = begin + seconds
    while len(times) <= 1 or (time.monotonic() < end and len(times) <= _MOST_PASSES):
        start = time.monotonic()
        net(inputs).loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - start)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    idle = 1 - (time.process_time() - worked) / (time.monotonic() - begin)
    return Trial(
        seconds_per_pass=min(times[1:]),
        batch=batch,
        passes=len(times) - 1,
        idle_share=max(0.0, idle),
        peak_bytes=peak,
    )
