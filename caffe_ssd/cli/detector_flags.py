"""From the flags that `detect` and `serve` share to the detector they describe."""

from __future__ import annotations

import argparse

from caffe_ssd import devices
from caffe_ssd.cli.flags import engine_of, only_device, weights_of
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.engine_choice import AUTO
from caffe_ssd.scoring.scales import MultiScale


def detector_of(args: argparse.Namespace, *, multi_scale: MultiScale | None = None) -> Detector:
    """The detector that the flags of `detect` and `serve` describe.

    Args:
        args: the flags.
        multi_scale: how often it looks at each picture; None for once.
    """
    device = only_device(args)
    choice = engine_of(args, device, default=AUTO)
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
