"""CUDA graphs on the simulated device (simulated_device.py).

Capturing notes every operator with its arguments; what it would compute is thrown away, and what it
would have written to is as before. A replay calls the same operators with the same tensors and the
same numbers of the host, and leaves the results in the same memory. Whatever the host would have
decided anew stays decided, as on a real device. What would make the host wait, or sends something
from the host, cannot be captured.

It knows nothing of streams and pools of memory, and captures on one device at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

_GARBAGE = {True: float("nan"), False: 77}


class CaptureError(RuntimeError):
    """What a real device refuses while it captures."""


class SimulatedGraph:
    """Stands for `torch.cuda.CUDAGraph`."""

    current: SimulatedGraph | None = None  # the one that captures

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._own: dict[int, Any] = {}  # memory that the graph has made, by address
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # memory that it writes to

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator for the shapes of its results, and note it."""
        for x in _written(func, args, kwargs):
            memory = x.untyped_storage()
            if memory.data_ptr() not in self._own and memory.data_ptr() not in self._before:
                whole = torch.empty(0, dtype=torch.uint8).set_(memory)
                self._before[memory.data_ptr()] = whole, whole.clone()
        given = {id(x) for x in _tensors((args, kwargs))}
        read = {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
        made = func(*args, **kwargs)
        fresh = []
        for x in _tensors(made):
            memory = x.untyped_storage()
            is_new = id(x) not in given and memory.data_ptr() not in read
            fresh.append(is_new)
            if is_new:
                self._own[memory.data_ptr()] = memory
        self.calls.append((func, args, kwargs, (made, fresh)))
        return made

    def replay(self) -> None:
        """Run all operators again."""
        if SimulatedGraph.current is not None:
            raise CaptureError("a graph is replayed while another one is captured")
        with _disable_current_modes(), torch.no_grad():
            for func, args, kwargs, (made, fresh) in self.calls:
                again = func(*args, **kwargs)
                pairs = zip(_tensors(made), _tensors(again), fresh, strict=True)
                for x, y, is_new in pairs:
                    if is_new:
                        x.copy_(y)

    def ended(self, random: Tensor) -> None:
        """Nothing of what was captured has happened."""
        for whole, before in self._before.values():
            whole.copy_(before)
        for _, _, _, (made, fresh) in self.calls:
            for x, is_new in zip(_tensors(made), fresh, strict=True):
                if is_new:
                    x.fill_(_GARBAGE[x.is_floating_point()])
        torch.set_rng_state(random)


@contextmanager
def _capture(graph: SimulatedGraph, **how: Any) -> Iterator[None]:
    if how.get("capture_error_mode") != "thread_local":
        raise CaptureError("threads that load data must be let go on")
    random = torch.get_rng_state()
    SimulatedGraph.current = graph
    try:
        yield
    except BaseException as error:
        SimulatedGraph.current = None
        raise CaptureError("operation failed due to a previous error during capture") from error
    finally:
        SimulatedGraph.current = None
        with _disable_current_modes(), torch.no_grad():
            graph.ended(random)


class _Stream:
    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_stream(self, other: _Stream) -> None:
        """Everything is done when it is asked for."""


def check_not_capturing(what: str) -> None:
    """Refuse what a device refuses while it captures."""
    if SimulatedGraph.current is not None:
        raise CaptureError(f"operation not permitted when stream is capturing: {what}")


def get_rng_state(device: Any = None) -> Tensor:
    """Of the device, whose random numbers are the host's here."""
    check_not_capturing("get_rng_state")
    return torch.get_rng_state()


def set_rng_state(state: Tensor, device: Any = None) -> None:
    """Of the device, likewise."""
    check_not_capturing("set_rng_state")
    torch.set_rng_state(state)


ANSWERS: dict[str, Any] = {
    "CUDAGraph": SimulatedGraph,
    "graph": _capture,
    "graph_pool_handle": lambda: (0, 0),
    "Stream": _Stream,
    "stream": lambda stream: nullcontext(),
    "current_stream": _Stream,
    "get_rng_state": get_rng_state,
    "set_rng_state": set_rng_state,
}


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(tree) if isinstance(x, Tensor)]


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += _tensors(value)
    return found
