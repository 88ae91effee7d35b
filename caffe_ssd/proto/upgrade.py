"""Brings old net and solver messages up to date, step by step in the reference's order.

Spec: caffe-net.md section 2.

1. V0 -> V1: `layers` with a nested `layer` (`upgrade_v0`).
2. Transformation fields of V1 data layers move to `transform_param` (`upgrade_v1`).
3. V1 -> V2: `layers` become `layer` (`upgrade_v1`).
4. `input` with `input_shape` or `input_dim` becomes an Input layer.
5. BatchNorm layers with exactly three `param` entries lose them.

Quirk: input names without any shape are dropped, as old weight files have them.
Quirk: step 5 also drops names, so BatchNorm statistics cannot be shared through a file.
"""

from __future__ import annotations

import logging

from caffe_ssd.errors import ProtoError, SolverError
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, SolverParameter
from caffe_ssd.proto.upgrade_v0 import is_v0, upgrade_v0
from caffe_ssd.proto.upgrade_v1 import move_data_transforms, upgrade_v1

logger = logging.getLogger(__name__)

_DIMS_PER_INPUT = 4
_BATCH_NORM_BLOBS = 3
_SOLVER_TYPES = {
    SolverParameter.SGD: "SGD",
    SolverParameter.NESTEROV: "Nesterov",
    SolverParameter.ADAGRAD: "AdaGrad",
    SolverParameter.RMSPROP: "RMSProp",
    SolverParameter.ADADELTA: "AdaDelta",
    SolverParameter.ADAM: "Adam",
}


def upgrade_net(net: NetParameter) -> NetParameter:
    """A copy of a net message in the current format.

    Raises:
        ProtoError: see `upgrade_net_in_place`.
    """
    upgraded = NetParameter()
    upgraded.CopyFrom(net)
    upgrade_net_in_place(upgraded)
    return upgraded


def upgrade_net_in_place(net: NetParameter) -> None:
    """Bring a net message up to date; weights are copied at most once per step that applies.

    Args:
        net: changed; after an error it may be half upgraded.

    Raises:
        ProtoError: the net mixes `layer` with `layers`, has an unknown V0 layer type, has padding
            that belongs to no convolution or pooling, or gives too few input shapes.
    """
    if len(net.layers) > 0:
        if len(net.layer) > 0:
            raise ProtoError(
                f"the net has {len(net.layer)} `layer` and {len(net.layers)} old-style `layers` "
                "entries; only one of the two kinds is allowed"
            )
        if is_v0(net):
            upgrade_v0(net)
        move_data_transforms(net)
        upgrade_v1(net)
    if len(net.input) > 0:
        _upgrade_inputs(net)
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == _BATCH_NORM_BLOBS:
            del layer.param[:]


def upgrade_solver(solver: SolverParameter) -> SolverParameter:
    """A copy of a solver message whose deprecated `solver_type` has become `type`.

    Raises:
        SolverError: both are given.
    """
    upgraded = SolverParameter()
    upgraded.CopyFrom(solver)
    upgrade_solver_in_place(upgraded)
    return upgraded


def upgrade_solver_in_place(solver: SolverParameter) -> None:
    """Turn the deprecated `solver_type` into `type`; the message is changed.

    Raises:
        SolverError: both are given.
    """
    if not solver.HasField("solver_type"):
        return
    if solver.HasField("type"):
        old = SolverParameter.SolverType.Name(solver.solver_type)
        raise SolverError(
            f"the solver has both type: {solver.type!r} and the deprecated solver_type: {old}; "
            "keep only type"
        )
    solver.type = _SOLVER_TYPES[solver.solver_type]
    solver.ClearField("solver_type")


def _upgrade_inputs(net: NetParameter) -> None:
    shapes = _input_shapes(net)
    if shapes is not None:
        layer = LayerParameter(name="input", type="Input", top=net.input)
        for dims in shapes:
            layer.input_param.shape.add(dim=dims)
        net.layer.insert(0, layer)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)


def _input_shapes(net: NetParameter) -> list[list[int]] | None:
    """One shape per input, or None when the net gives none at all."""
    count = len(net.input)
    if len(net.input_shape) > 0:
        shapes = [list(shape.dim) for shape in net.input_shape]
        given = f"{len(shapes)} input_shape"
    elif len(net.input_dim) > 0:
        dims = list(net.input_dim)
        shapes = [dims[i : i + _DIMS_PER_INPUT] for i in range(0, len(dims), _DIMS_PER_INPUT)]
        if len(shapes[-1]) < _DIMS_PER_INPUT and len(shapes) <= count:
            shapes.pop()
        given = f"{len(dims)} input_dim"
    else:
        return None
    if len(shapes) < count:
        raise ProtoError(
            f"the net has {count} inputs ({', '.join(net.input)}) but {given} entries; "
            "each input needs one input_shape, or four input_dim"
        )
    if len(shapes) > count:
        logger.warning("%s entries for %d inputs: the rest is ignored", given, count)
    return shapes[:count]
