"""From the flags that `detect` and `serve` share to the detector they describe."""

from __future__ import annotations

import argparse
import logging

from caffe_ssd import devices
from caffe_ssd.cli.flags import engine_of, only_device, weights_of
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.engine_choice import AUTO, PLAIN
from caffe_ssd.scoring.scales import MultiScale

logger = logging.getLogger(__name__)

# With so few passes ahead the plain net is done before an engine on the CPU is ready.
FEW = 10


def detector_of(
    args: argparse.Namespace,
    *,
    multi_scale: MultiScale | None = None,
    num_pictures: int | None = None,
) -> Detector:
    """The detector that the flags of `detect` and `serve` describe.

    Args:
        args: the flags.
        multi_scale: how often it looks at each picture; None for once.
        num_pictures: how many will come; None: many.
    """
    device = only_device(args)
    passes = (num_pictures or 0) * (1 if multi_scale is None else multi_scale.num_looks)
    few = device.type == "cpu" and 0 < passes <= FEW
    choice = engine_of(args, device, default=PLAIN if few else AUTO)
    if few and args.engine is None and choice.is_plain:
        logger.info("Engine: none; with so little to do no other is worth its start")
    devices.set_up_device(device, tf32=False)
    return Detector(
        args.model,
        weights_of(args),
        labels=args.label_map,
        engine=choice,
        device=device,
        threshold=args.threshold,
        mean=args.mean_value,
        scale=args.scale,
        size=args.input_size,
        multi_scale=multi_scale,
        batch=args.batch,
        lenient=args.lenient,
        allow_unfilled=args.allow_unfilled,
    )
