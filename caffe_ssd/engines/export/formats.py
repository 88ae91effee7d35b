"""The formats, which file names ask for them, and who writes each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caffe_ssd.engines.export.onnx_file import write_onnx
from caffe_ssd.engines.export.openvino_ir import write_openvino
from caffe_ssd.engines.export.part import Request
from caffe_ssd.engines.export.safetensors_file import write_safetensors
from caffe_ssd.engines.export.torch_files import write_program, write_torchscript
from caffe_ssd.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file.

    Args:
        suffix: of its names.
        write: writes what is requested to a path; returns what it wrote, in lines.
        takes_int8: whether it can hold a net in 8 bits.
        holds_net: whether it holds the net, for some shape of its input, or its weights only.
        takes_heads: whether it can end before DetectionOutput.
    """

    suffix: str
    write: Callable[[Request, Path], list[str]]
    takes_int8: bool = False
    holds_net: bool = True
    takes_heads: bool = False


FORMATS = {
    "onnx": Format(suffix=".onnx", write=write_onnx, takes_int8=True, takes_heads=True),
    "openvino": Format(suffix=".xml", write=write_openvino, takes_int8=True),
    "torch": Format(suffix=".pt2", write=write_program),
    "torchscript": Format(suffix=".pt", write=write_torchscript),
    "safetensors": Format(suffix=".safetensors", write=write_safetensors, holds_net=False),
}


def format_of(path: str, name: str | None) -> str:
    """The format that a file's name asks for.

    Args:
        path: the file.
        name: of the format, if it was said.

    Raises:
        UsageError: the name ends as that of no format, or of another than was said.
    """
    suffix = Path(path).suffix.lower()
    asked = next((each for each, form in FORMATS.items() if form.suffix == suffix), None)
    endings = ", ".join(f"{form.suffix} ({each})" for each, form in FORMATS.items())
    if asked is None:
        raise UsageError(f"output {path}: the name must end in one of {endings}")
    if name not in (None, asked):
        raise UsageError(
            f"output {path} is a name for format {asked}; files of format {name} end in "
            f"{FORMATS[name].suffix}"
        )
    return asked
