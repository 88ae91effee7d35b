"""A trained net from its files, as scoring, detecting, timing and exporting need it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import torch

from caffe_ssd.devices import default_workers
from caffe_ssd.errors import CaffeError, NetError, ProtoError
from caffe_ssd.layers.registry import Code, Runtime
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.loading import load_weights
from caffe_ssd.net.net_log import build_logged_net
from caffe_ssd.net.state import without_result_files
from caffe_ssd.net.told_by_weights import settle_by_weights
from caffe_ssd.net.weights import OTHER_NET_ADVICE
from caffe_ssd.proto.binary import is_binary
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.lenient import Lenient
from caffe_ssd.proto.text import read_net, read_solver

PathLike = str | os.PathLike[str]

CPU = torch.device("cpu")


def load_net(
    model: PathLike | NetParameter,
    weights: PathLike | Sequence[PathLike] = (),
    *,
    phase: str = "TEST",
    level: int | None = None,
    stages: Sequence[str] = (),
    device: torch.device = CPU,
    workers: int | None = 0,
    lenient: Lenient = False,
    saves_results: bool = False,
    is_logged: bool = False,
    is_deploy: bool = False,
    allow_unfilled: bool = False,
    code: Code = Code.RUN,
    seed: int | None = None,
) -> Net:
    """Build a net and give it its weights.

    Args:
        model: the net's prototxt, or what was read from it.
        weights: one or more caffemodel or HDF5 files, copied in this order.
        phase: TRAIN or TEST.
        level, stages: of the net's state; None and none leave what the prototxt says.
        device: where it shall run.
        workers: data worker processes; None for as many as the device deserves.
        lenient: skip unknown fields that cannot change a result, with a warning.
        saves_results: whether DetectionOutput writes the result files it names.
        is_logged: log the net's construction in Caffe's words.
        is_deploy: it must be a net that one feeds; files that are something else are told so.
        allow_unfilled: go on where the weights do not fill all learnable layers.
        code: what becomes of code that the prototxt names.
        seed: of what its layers draw; None for another one each time.

    Raises:
        CaffeError: a file cannot be read, the net not be built, or the weights do not fit.
    """
    paths = [weights] if isinstance(weights, str | os.PathLike) else weights
    if isinstance(model, NetParameter):
        param = model
    else:
        read = partial(_read_deploy, weights=paths) if is_deploy else read_net
        param = read(model, lenient=lenient)
    if not saves_results:
        param = without_result_files(param)
    state = NetState()
    state.MergeFrom(param.state)
    asked = NetState(phase=Phase.Value(phase), level=level, stage=stages)  # type: ignore[arg-type]
    state.MergeFrom(asked)
    workers = default_workers(device) if workers is None else workers
    build = build_logged_net if is_logged else build_net
    for path in paths:
        settle_by_weights(param, path)
    runtime = Runtime(data_workers=workers, code=code)
    if seed is not None:
        runtime.rng.seed(seed)
    net = build(param, state, runtime).to(device)
    load_weights(net, paths, advice=OTHER_NET_ADVICE, needs_all=not allow_unfilled)
    return net


def _read_deploy(
    model: PathLike, weights: Sequence[PathLike], *, lenient: Lenient = False
) -> NetParameter:
    """Read a net that one feeds with pictures, or say what the file is instead.

    Raises:
        FileError: a file cannot be opened.
        ProtoError: it is no prototxt of a net.
        NetError: the net reads its pictures from a data set.
    """
    name = os.fspath(model)
    if is_binary(model):
        swapped = [os.fspath(path) for path in weights if not is_binary(path)]
        hint = f", and {swapped[0]} is text: they seem to be swapped" if swapped else ""
        raise ProtoError(f"{name}: a binary file where the net's prototxt belongs{hint}")
    try:
        param = read_net(model, lenient=lenient)
    except ProtoError as error:
        if _is_solver(model):
            text = f"{name}: the prototxt of a solver, which says how to train; give the deploy net"
            raise ProtoError(text) from error
        raise
    readers = [layer for layer in param.layer if not layer.bottom]
    if not param.input and not any(layer.type == "Input" for layer in readers):
        what = ", ".join(f"{layer.name!r} ({layer.type})" for layer in readers if layer.top)
        source = f"; they come from layer {what}, as in nets that are trained or scored"
        raise NetError(
            f"{name}: no input that takes pictures{source if what else ''}; give the deploy net"
        )
    return param


def _is_solver(path: PathLike) -> bool:
    try:
        read_solver(path)
    except CaffeError:
        return False
    return True
