"""SSD-Caffe on PyTorch: nets, layers, data, solvers, and what a person needs of them.

    detector = caffe_ssd.Detector("deploy.prototxt", "x.caffemodel", labels="labelmap.prototxt")
    for picture, found in detector.stream(["a.jpg", "folder/", array]):
        print(found)
    caffe_ssd.score("test.prototxt", "x.caffemodel", protocols=["reference", "voc2007"]).map

`import caffe_ssd` imports none of it before it is asked for, as PyTorch alone takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffe_ssd.scoring.detections import DetectedObject, Detections
    from caffe_ssd.scoring.detector import Detector
    from caffe_ssd.scoring.report import Report
    from caffe_ssd.scoring.scales import MultiScale
    from caffe_ssd.scoring.score import score

__version__ = "0.1.0"

__all__ = ["DetectedObject", "Detections", "Detector", "MultiScale", "Report", "score"]

_HOMES = {
    "DetectedObject": "detections",
    "Detections": "detections",
    "Detector": "detector",
    "MultiScale": "scales",
    "Report": "report",
    "score": "score",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"caffe_ssd.scoring.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
