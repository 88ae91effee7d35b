"""`caffe time -engine`: a net's forward pass under an engine beside the plain net's.

Both run alternately, so that a machine that becomes slower meanwhile does not favour either.
Inputs are random pixels: with zeros all boxes would have the same score.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from caffe_ssd import log
from caffe_ssd.cli.stopwatch import Stopwatch
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.scoring.engine_choice import EngineChoice, give_engine

logger = logging.getLogger(__name__)

_PIXEL_SPREAD = 60.0  # about that of photographs


def time_engine(net: Net, choice: EngineChoice, iterations: int, watch: Stopwatch) -> None:
    """Measure, and log the mean times and their ratio.

    Args:
        net: in phase TEST; it keeps the engine.
        choice: an engine.
        iterations: passes of each.
        watch: gets the times under "plain" and "engine".

    Raises:
        UsageError: the net has no layers for an engine.
    """
    plain = net.program
    engine = give_engine(net, choice)
    if engine is None:
        raise UsageError("the net has no layers that an engine could run")
    programs = {"plain": plain, "engine": net.program}
    inputs = _pictures(net)
    log.TIME_ITERATIONS.write(iterations=iterations)
    with torch.no_grad():
        for program in programs.values():  # prepares the engine
            net.program = program
            net(inputs)
        for _ in range(iterations):
            for name, program in programs.items():
                net.program = program
                with watch.measure(name):
                    net(inputs)
    log.TIME_MEAN_FORWARD.write(ms=watch.total("plain") / iterations)
    mean = watch.total("engine") / iterations
    logger.info("Average Forward pass with %s: %s ms.", engine.description, log.cpp_number(mean))
    logger.info("Speed-up: %.2f", watch.total("plain") / watch.total("engine"))


def _pictures(net: Net) -> dict[str, Tensor]:
    """Random content for the blobs that a caller feeds."""
    rng = torch.Generator().manual_seed(0)
    shapes = dict(zip(net.blob_names, net.blob_shapes, strict=True))
    return {name: torch.randn(shapes[name], generator=rng) * _PIXEL_SPREAD for name in net.inputs}
