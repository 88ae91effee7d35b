"""Blanks the fields of a protobuf text that its message does not know.

Files of other Caffe forks carry fields of their own. Without some of them they still mean the same
(`HARMLESS`); any other may change results, and is blanked only if the user names it. Blanking keeps
every line and column, so a later error points at the right place.

Spec: other-forks.md sections 18 and 19.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor

from caffe_ssd.proto.text_fields import TextField, position, walk_fields

# By message and field: the values with which it changes nothing (None: all), and what it is about.
HARMLESS: dict[str, tuple[frozenset[str] | None, str]] = {
    **dict.fromkeys(
        ("LayerParameter.quantization_param",),
        (None, "8-bit execution of the same weights; results here are those of the float net"),
    ),
    **dict.fromkeys(
        (
            *(
                f"LayerParameter.{name}"
                for name in (
                    *("forward_type", "backward_type", "forward_math", "backward_math", "engine"),
                    *("cudnn_math_override", "mn_param_grad_compress_param"),
                )
            ),
            *(
                f"NetParameter.{name}"
                for name in (
                    *("default_forward_type", "default_backward_type", "default_forward_math"),
                    *("default_backward_math", "default_conv_algos_override", "engine"),
                    *("default_cudnn_math_override", "reduce_buckets", "global_grad_scale"),
                    *("global_grad_scale_adaptive", "multinode", "compile_net_state"),
                )
            ),
            "BatchNormParameter.engine",
            "ConvolutionParameter.conv_algos_override",
            "ConvolutionParameter.cudnn_convolution_algo_seeker",
            "ConvolutionParameter.cudnn_math_override",
        ),
        (None, "how to calculate, not what"),
    ),
    **dict.fromkeys(
        (
            *(
                f"DataParameter.{name}"
                for name in ("threads", "parser_threads", "cache", "precache")
            ),
            *(f"SolverParameter.{name}" for name in ("layer_wise_reduce", "reduce_buckets")),
        ),
        (None, "speed only"),
    ),
    "SolverParameter.store_blobs_in_old_format": (None, "how snapshots are written"),
    "LayerParameter.shuffle_pattern": (None, "a note"),
    "PoolingParameter.avg_include_pad": (frozenset({"true"}), "as here"),
    "ConvolutionParameter.relu": (frozenset({"false"}), "as here"),
    "ReLUParameter.fuse": (frozenset({"false"}), "as here"),
    "BatchNormParameter.relu": (frozenset({"false"}), "as here"),
    "AnnotatedDataParameter.yolo_data_type": (frozenset({"0"}), "as here"),
    "TransformationParameter.caffe_yolo": (frozenset({"false"}), "as here"),
}


@dataclass(frozen=True, kw_only=True)
class Lenience:
    """Which unknown fields a text may have.

    Args:
        harmless: those that cannot change a result.
        skip: names of others, `field` or `message_field.field`.
    """

    harmless: bool = True
    skip: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return self.harmless or bool(self.skip)


Lenient: TypeAlias = bool | Lenience


def as_lenience(lenient: Lenient) -> Lenience:
    """True stands for the fields that cannot change a result, False for none."""
    return lenient if isinstance(lenient, Lenience) else Lenience(harmless=lenient)


@dataclass(frozen=True, kw_only=True)
class UnknownField:
    """One field that the text's message does not know.

    Args:
        name: as written.
        message: full name of the message it stood in.
        line: counted from 1.
        column: counted from 1.
        why: why it may be left out; empty if it may not.
    """

    name: str
    message: str
    line: int
    column: int
    why: str


def blank_unknown_fields(
    text: str, root: Descriptor, lenience: Lenience
) -> tuple[str, tuple[UnknownField, ...]]:
    """Replace unknown fields that may be left out by spaces, line ends kept.

    Text that is wrong otherwise passes through: the parser that follows complains about it.

    Args:
        text: protobuf text of the message `root`.
        root: the descriptor of that message.
        lenience: which may be left out.

    Returns:
        The blanked text, and all unknown fields in order.
    """
    pieces, unknown = [], []
    kept = 0
    for written in walk_fields(text, root):
        if written.field is not None:
            continue
        begin, end = written.begin, written.end
        why = _reason(written, lenience)
        if why:
            pieces += [text[kept:begin], re.sub(r"[^\n]", " ", text[begin:end])]
            kept = end
        line, column = position(text, begin)
        unknown.append(
            UnknownField(
                name=written.name,
                message=written.message.full_name,
                line=line,
                column=column,
                why=why,
            )
        )
    return "".join([*pieces, text[kept:]]), tuple(unknown)


def kept_fields(text: str, root: Descriptor, lenience: Lenience) -> Iterator[str]:
    """Names that are to be skipped but are known here, so that they keep their meaning."""
    if lenience.skip:
        known = {name for field in walk_fields(text, root) if field.field for name in _names(field)}
        yield from sorted(known & lenience.skip)


def _reason(written: TextField, lenience: Lenience) -> str:
    """Why a field may be left out; empty if it may not."""
    if lenience.skip.intersection(_names(written)):
        return "as -skip says"
    values, about = HARMLESS.get(f"{written.message.name}.{written.name}", (frozenset(), ""))
    is_harmless = lenience.harmless and (values is None or written.value in values)
    return about if is_harmless else ""


def _names(written: TextField) -> tuple[str, ...]:
    parent = written.parent
    return (written.name,) if parent is None else (written.name, f"{parent.name}.{written.name}")
