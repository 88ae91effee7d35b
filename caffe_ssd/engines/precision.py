"""Arithmetic other than float32, only ever by name.

bf16 keeps weights and blobs in bfloat16 up to the softmax. int8 rounds both to 8 bits, with a
scale per output channel of the weights and one per blob, found by running pictures through the
float32 net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from caffe_ssd.errors import UsageError

PRECISIONS = ("fp32", "bf16", "int8")


class Pictures(Protocol):
    """Inputs of a net for one picture each, (1, C, H, W); a list, or read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How an engine calculates.

    Args:
        name: one of `PRECISIONS`.
        calibration: for int8: inputs of the net, a few hundred.

    Raises:
        UsageError: an unknown name, or int8 without calibration.
    """

    name: str = "fp32"
    calibration: Pictures = ()

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise UsageError(f"no precision {self.name!r}; there are: {', '.join(PRECISIONS)}")
        if self.name == "int8" and len(self.calibration) == 0:
            raise UsageError(
                "int8 needs pictures to calibrate with, a few hundred of the real kind"
            )
