"""Every exception this package raises on purpose.

* CaffeError
  - UsageError         a flag or argument makes no sense; the command line exits 2
  - FileError          a file cannot be opened or written
  - ProtoError         a prototxt, caffemodel or record cannot be read
  - DataError          a database, list, annotation, label map or image is wrong
  - WeightsError       weights do not fit the net
  - NetError           the graph cannot be run (unknown blob, duplicate top)
  - SolverError        the solver's settings are wrong, or a snapshot is not theirs
  - DivergedError      a training's numbers are not finite any more
  - PeerError          another process of a distributed training is gone or stuck
  - LayerError         one layer is wrong; carries the layer's name and type
    + UnknownLayerError
    + LayerParamError  its parameters are invalid
    + ShapeError       its bottoms or tops have the wrong number or shape
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CaffeError(RuntimeError):
    """Base class: `except CaffeError` catches all expected failures.

    It is a RuntimeError because that is what pycaffe raised.
    """


class UsageError(CaffeError):
    """A flag or argument makes no sense."""


class FileError(CaffeError):
    """A file cannot be opened or written."""


class ProtoError(CaffeError):
    """A prototxt, caffemodel or record cannot be read."""


class DataError(CaffeError):
    """A database, list, annotation, label map or image is wrong."""


class WeightsError(CaffeError):
    """Weights do not fit the net."""


class NetError(CaffeError):
    """The graph cannot be run."""


class SolverError(CaffeError):
    """The solver's settings are wrong."""


class DivergedError(CaffeError):
    """A loss or gradient of a training is not finite."""


class PeerError(CaffeError):
    """Another process of a distributed training has ended, or does not answer."""


class LayerError(CaffeError):
    """One layer cannot be built or run.

    Args:
        message: what is wrong and what is allowed, in the words of the prototxt.
        layer: the layer's `name`; filled in by the net when the layer does not know it.
        layer_type: the layer's `type`.
    """

    def __init__(self, message: str, *, layer: str = "", layer_type: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.layer = layer
        self.layer_type = layer_type

    def __str__(self) -> str:
        if not self.layer and not self.layer_type:
            return self.message
        kind = f" ({self.layer_type})" if self.layer_type else ""
        return f"layer {self.layer!r}{kind}: {self.message}"


class UnknownLayerError(LayerError):
    """No layer is registered under this type."""

    def __init__(self, layer_type: str, known: Iterable[str]) -> None:
        known = sorted(known)
        what = f"unknown layer type {layer_type!r}" if layer_type else "type is missing"
        spelled = {name.lower(): name for name in known}
        close = [spelled[name] for name in get_close_matches(layer_type.lower(), spelled, n=3)]
        hint = f"did you mean {', '.join(close)}? " if close else ""
        message = f"{what}; {hint}known types: {', '.join(known)}"
        super().__init__(message, layer_type=layer_type)


class LayerParamError(LayerError):
    """The layer's parameters are invalid."""


class ShapeError(LayerError):
    """The layer's bottoms or tops have the wrong number or shape."""


def plural(count: int, noun: str) -> str:
    """A number with its noun, for what is said to people."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun}{ending}"


def first_line(error: BaseException) -> str:
    """What an error says, as far as it fits into a line of another one; its type if nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__
