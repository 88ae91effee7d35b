"""Which nets a solver's settings ask for, and in which states.

Spec: caffe-solver.md section 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from caffe_ssd.errors import FileError, SolverError
from caffe_ssd.log import (
    NET_FILE,
    NET_PARAM,
    TRAIN_NET_FILE,
    TRAIN_NET_PARAM,
)
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase, SolverParameter
from caffe_ssd.proto.lenient import Lenient
from caffe_ssd.proto.text import read_net
from caffe_ssd.proto.upgrade import upgrade_net

_TRAIN_SOURCES = {
    "net": NET_FILE,
    "net_param": NET_PARAM,
    "train_net": TRAIN_NET_FILE,
    "train_net_param": TRAIN_NET_PARAM,
}


@dataclass(frozen=True, kw_only=True)
class NetSource:
    """One net to build.

    Args:
        param: the upgraded definition, not filtered yet.
        state: the state to filter it by.
        origin: where it comes from, in the words of the log.
    """

    param: NetParameter
    state: NetState
    origin: str


def train_source(solver: SolverParameter, *, lenient: Lenient = False) -> NetSource:
    """The train net; its origin is logged.

    Args:
        solver: the settings.
        lenient: skip fields of the net's file that are unknown, with a warning.

    Raises:
        SolverError: not exactly one of the fields that name a train net is set.
        FileError: its file cannot be read.
        ProtoError: its text is wrong.
    """
    field = _train_field(solver)
    _TRAIN_SOURCES[field].write(path=getattr(solver, field))
    return _source(solver, field, Phase.Value("TRAIN"), solver.train_state, lenient=lenient)


def test_sources(solver: SolverParameter, *, lenient: Lenient) -> list[NetSource]:
    """The test nets: those given explicitly, then copies of the general one; see `train_source`.

    Raises:
        SolverError: test_iter, test_state or test_interval do not fit them.
        FileError: a file cannot be read.
        ProtoError: a text is wrong.
    """
    _check_counts(solver)
    fields = [("test_net_param", i) for i in range(len(solver.test_net_param))]
    fields += [("test_net", i) for i in range(len(solver.test_net))]
    general = "net_param" if solver.HasField("net_param") else "net"
    fields += [(general, 0)] * (len(solver.test_iter) - len(fields))
    nothing = NetState()
    states = list(solver.test_state) or [nothing] * len(fields)
    return [
        _source(solver, field, Phase.Value("TEST"), state, index, lenient=lenient)
        for (field, index), state in zip(fields, states, strict=True)
    ]


def _train_field(solver: SolverParameter) -> str:
    given = [field for field in _TRAIN_SOURCES if solver.HasField(field)]
    if len(given) != 1:
        found = f"got {' and '.join(given)}" if given else "got none"
        raise SolverError(f"give exactly one of {', '.join(_TRAIN_SOURCES)}; {found}")
    return given[0]


def _check_counts(solver: SolverParameter) -> None:
    num_explicit = len(solver.test_net_param) + len(solver.test_net)
    num_iters = len(solver.test_iter)
    has_general = solver.HasField("net") or solver.HasField("net_param")
    if num_iters < num_explicit or (num_iters > num_explicit and not has_general):
        wanted = f"{num_explicit} or more" if has_general else str(num_explicit)
        raise SolverError(
            f"give one test_iter per test net: {num_explicit} test nets want {wanted}, "
            f"got {num_iters}"
        )
    if len(solver.test_state) not in (0, num_iters):
        raise SolverError(
            f"give no test_state or one per test net ({num_iters}), got {len(solver.test_state)}"
        )
    if num_iters and solver.test_interval <= 0:
        raise SolverError(
            f"test_interval must be > 0 when there are test nets, got {solver.test_interval}"
        )


def _source(
    solver: SolverParameter,
    field: str,
    phase: int,
    own: NetState,
    index: int = 0,
    *,
    lenient: Lenient,
) -> NetSource:
    value = getattr(solver, field)
    if field.startswith("test_"):
        value = value[index]
    if isinstance(value, NetParameter):
        param, origin = upgrade_net(value), field
    else:
        param, origin = _read_net(value, field, lenient=lenient), f"{field} file: {value}"
    state = NetState(phase=phase)  # type: ignore[arg-type]
    state.MergeFrom(param.state)
    state.MergeFrom(own)
    return NetSource(param=param, state=state, origin=origin)


def _read_net(path: str, field: str, *, lenient: Lenient) -> NetParameter:
    try:
        return read_net(path, lenient=lenient)
    except FileError as error:
        raise FileError(
            f"the solver's {field}: {error}; relative paths begin at the current folder"
        ) from error
