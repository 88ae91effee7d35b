"""The passes of an iteration, several joined into one, and those of several devices on one.

Spec: caffe-solver.md sections 2 and 8. An iteration of G devices makes `iter_size` passes on each.
A process that stands for some of them makes theirs in the order

    pass 0 of device 0, pass 0 of device 1, ..., pass 1 of device 0, ...

and may make several neighbours of this row in one. Gradients, losses and statistics stay what they
are pass by pass (`Net.use_groups`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from caffe_ssd.errors import SolverError
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.layers.run_context import Groups
from caffe_ssd.net import Net, build_net
from caffe_ssd.random import CaffeRandom
from caffe_ssd.solver.sources import NetSource


@dataclass(frozen=True, kw_only=True)
class PassPlan:
    """The passes of an iteration as they are made.

    Args:
        iter_size: passes of a device.
        num_devices: devices that this process stands for.
        joined: how many passes are made as one.

    Raises:
        SolverError: the iteration's passes cannot be joined so.
    """

    iter_size: int
    num_devices: int = 1
    joined: int = 1

    def __post_init__(self) -> None:
        if self.num_devices < 1:
            raise SolverError(f"there must be at least 1 device, got {self.num_devices}")
        total = self.iter_size * self.num_devices
        if self.joined < 1 or total % self.joined:
            devices = f" x {self.num_devices} devices" if self.num_devices > 1 else ""
            raise SolverError(
                f"groups of {self.joined} passes do not divide the {total} of an iteration "
                f"(iter_size {self.iter_size}{devices})"
            )

    def __iter__(self) -> Iterator[Groups | None]:
        """Of each pass that is made, what it stands for; None for a pass of its own."""
        total = self.iter_size * self.num_devices
        for first in range(0, total, self.joined):
            numbers = range(first, first + self.joined)
            devices = tuple(number % self.num_devices for number in numbers)
            is_plain = self.num_devices == 1 and self.joined == 1
            yield None if is_plain else Groups(devices=devices, num_devices=self.num_devices)

    @property
    def batches_at_once(self) -> int:
        """How many batches each device reads for a pass, at most."""
        return -(-self.joined // self.num_devices)


def nets_of_other_devices(
    source: NetSource, runtime: Runtime, num_devices: int, seed: int
) -> list[Net]:
    """The train nets of devices behind the first one, for the data that they read.

    Args:
        source: the net's definition.
        runtime: surroundings of the first device.
        num_devices: how many devices there are, with the first one.
        seed: the first device's `random_seed`; each has its own, as where it is by itself.
    """
    nets = []
    for device in range(1, num_devices):
        rng = CaffeRandom()
        if seed >= 0:
            rng.seed(seed + device)
        surroundings = replace(runtime, rng=rng, rank=runtime.rank + device)
        nets.append(build_net(source.param, source.state, surroundings))
    return nets
