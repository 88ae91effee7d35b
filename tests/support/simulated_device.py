"""A CUDA device that is simulated: the CPU's numbers under a device's rules of placement.

Tensors say that they lie on `cuda:0` and hold tensors of the CPU. Operations that a device would
refuse raise `PlacementError`: tensors of several places, `numpy()` of a tensor there, operators of
the CPU alone. What would make the host wait for the device is counted in `WAITS`, by line.

It knows nothing of kernels, streams, memory and how exact a device computes. As it changes PyTorch
for good, it belongs in a process of its own: see tests/device/scenarios.py.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import shutil
import subprocess
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tests.support.simulated_graph import ANSWERS, SimulatedGraph, check_not_capturing
from tests.support.simulated_peers import patch_distributed

SOURCE = Path(__file__).with_suffix(".cpp")
WAITS: Counter[str] = Counter()
USED: set[str] = set()  # devices on which anything was computed

aten = torch.ops.aten

# Operators whose result, or its size, the host must know.
_WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "bincount"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
# Operators that take tensors of the host beside those of the device.
_MOVING = {aten._to_copy.default, aten.copy_.default}
_INDEXING = {
    *(aten.index.Tensor, aten.index_put.default, aten.index_put_.default),
    *(aten._index_put_impl_.default, aten._unsafe_index.Tensor),
}
# Operators that do not even take a single number from the host.
_STRICT = {
    *("cat", "stack", "mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward"),
    *("gather", "scatter", "scatter_", "scatter_add", "scatter_add_", "index_select"),
    *("index_add", "index_add_", "embedding", "native_batch_norm"),
}


class PlacementError(RuntimeError):
    """What a real device would refuse."""


def compiler() -> str | None:
    """The C++ compiler, None where there is none."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def build(folder: Path) -> Path:
    """Compile the guard, unless it lies in the folder already.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    root = Path(torch.__file__).parent
    key = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    made = folder / f"simulated_guard_{key}.so"
    if made.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    library = root / "lib"
    fresh = made.with_suffix(f".{os.getpid()}")
    subprocess.run(
        [
            *(str(compiler()), "-O0", "-shared", "-fPIC", "-std=c++20", str(SOURCE)),
            *(
                f"-I{root / 'include'}",
                f"-L{library}",
                "-lc10",
                "-ltorch_cpu",
                "-ltorch",
                f"-Wl,-rpath,{library}",
            ),
            *("-o", str(fresh)),
        ],
        check=True,
        capture_output=True,
    )
    fresh.replace(made)
    return made


def install(guard: Path) -> None:
    """Make this process have simulated devices, as many as SIMULATED_DEVICES says."""
    ctypes.CDLL(str(guard)).register_guard()
    importlib.import_module("torch._dynamo")  # it looks at torch.cuda, which is about to change
    _patch_cuda(int(os.environ.get("SIMULATED_DEVICES", "1")))
    for name in ("tensor", "as_tensor"):
        setattr(torch, name, _made_on_host(getattr(torch, name)))
    for kind in (torch.nn.Parameter, OnDevice):
        kind.data = property(_base_data.__get__, _set_data)  # type: ignore[assignment]
    torch.__future__.set_swap_module_params_on_conversion(True)
    patch_distributed(lambda x: x.detach().held if isinstance(x, OnDevice) else None)
    _Everywhere().__enter__()
    _watch_threads()


def _watch_threads() -> None:
    """What PyTorch sees of operators is a thread's own: new threads see it, too."""
    run = threading.Thread.run

    def watched(thread: threading.Thread) -> None:
        with _Everywhere():
            run(thread)

    threading.Thread.run = watched  # type: ignore[method-assign]


class OnDevice(torch.Tensor):
    """A tensor that says it lies on a device; `held` is the tensor it stands for."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=device,
            requires_grad=False,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.held!r}, {self.device})"

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise PlacementError(f"numpy() of a tensor on {self.device} at {_line()}")

    __array__ = numpy

    def tolist(self) -> Any:
        _waits("tolist")
        return self.detach().held.tolist()

    def data_ptr(self) -> int:
        return self.detach().held.data_ptr()


class _Everywhere(TorchDispatchMode):
    """Sees the operators that make tensors out of none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operator: check, count, compute on the CPU, and say where the result lies."""
    leaves = pytree.tree_leaves((args, kwargs))
    there = [x for x in leaves if isinstance(x, OnDevice)]
    wanted = _place(kwargs["device"]) if kwargs.get("device") is not None else None
    namespace, _, name = func._schema.name.partition("::")
    if name == "to":  # only inference mode lets it get here
        return _to(func, args, kwargs)
    if not there and (wanted is None or wanted.type != "cuda"):
        return func(*args, **kwargs)
    if namespace != "aten" or "mkldnn" in name:
        raise PlacementError(f"{func} is of the CPU alone, at {_line()}")
    _check_places(func, name, args, leaves)
    _count(func, name, args, wanted, there)
    held_args, held_kwargs = pytree.tree_map_only(OnDevice, lambda x: x.held, (args, kwargs))
    if wanted is not None:
        held_kwargs["device"] = torch.device("cpu")
        held_kwargs.pop("non_blocking", None)
    with _disable_current_modes():
        graph = SimulatedGraph.current
        if graph is None:
            made = func(*held_args, **held_kwargs)
        else:
            made = graph.call(func, held_args, held_kwargs)
    if func is aten.copy_.default:
        return args[0]
    device = wanted if wanted is not None else there[0].device
    if device.type == "cpu":
        return made
    USED.add(str(device))
    wrapped = pytree.tree_map_only(Tensor, lambda x: OnDevice(x, device), made)
    return _same_where_written(func, args, kwargs, wrapped)


def _check_places(func: Any, name: str, args: tuple[Any, ...], leaves: list[Any]) -> None:
    there = [x for x in leaves if isinstance(x, OnDevice)]
    here = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
    if func in _MOVING:
        return
    if len({x.device for x in there}) > 1:
        raise PlacementError(f"{func} of tensors on several devices at {_line()}")
    if not here or not there:
        return
    if func in _INDEXING:  # indices may come from the host, and so may one number
        values = args[2] if len(args) > 2 else None
        many = isinstance(values, Tensor) and not isinstance(values, OnDevice) and values.dim()
        if not isinstance(args[0], OnDevice) or many:
            raise PlacementError(f"{func} of tensors of host and device at {_line()}")
        return
    several = any(x.dim() or name in _STRICT for x in here)
    if several or (name.endswith("_") and not isinstance(args[0], OnDevice)):
        raise PlacementError(f"{func} of tensors of host and device at {_line()}")


def _count(
    func: Any, name: str, args: tuple[Any, ...], wanted: torch.device | None, there: list[OnDevice]
) -> None:
    """Count what makes the host wait."""
    if name in _WAITING:
        _waits(name)
    if func in _INDEXING:
        indices = pytree.tree_leaves(args[1])
        if any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in indices):
            _waits("index by marks")
        given = [*indices, *args[2:3]]
        if any(isinstance(x, Tensor) and not isinstance(x, OnDevice) for x in given):
            _waits("index from the host")
    if func is aten._to_copy.default and not there:
        check_not_capturing("something is sent from the host")
    if func is aten._to_copy.default and there and wanted is not None and wanted.type == "cpu":
        _waits("to the host")
    if func is aten.copy_.default and isinstance(args[0], OnDevice) != isinstance(
        args[1], OnDevice
    ):
        _waits("copy_ between host and device")


def _waits(what: str) -> None:
    """The host waits for the device."""
    check_not_capturing(what)
    WAITS[f"{what} {_line()}"] += 1


def _same_where_written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> Any:
    """An operator that writes to an argument gives back that very argument."""
    returns, given = func._schema.returns, {}
    for i, argument in enumerate(func._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            given.update(dict.fromkeys(argument.alias_info.before_set, value))
    if not given or not returns:
        return made
    outputs = [made] if len(returns) == 1 else list(made)
    for i, result in enumerate(returns):
        if result.alias_info is not None and result.alias_info.is_write:
            outputs[i] = given[next(iter(result.alias_info.before_set))]
    return outputs[0] if len(returns) == 1 else tuple(outputs)


def _to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    x, other = named["self"], named.get("other")
    device = named.get("device") or (x.device if other is None else other.device)
    dtype = named.get("dtype") or (x.dtype if other is None else other.dtype)
    if _place(device) == x.device and dtype == x.dtype and not named.get("copy"):
        return x
    return _run(aten._to_copy.default, (x,), {"device": _place(device), "dtype": dtype})


def _place(device: Any) -> torch.device:
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _line() -> str:
    """The innermost line of the project that is running."""
    root = SOURCE.parents[2]
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(root) and "tests" not in path.relative_to(root).parts:
            return f"{path.relative_to(root)}:{frame.lineno} {frame.line}"
    return "(outside the project)"


def _made_on_host(make: Any) -> Any:
    """`torch.tensor` and its like make the content on the host, and send it."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device).type != "cuda":
            return make(*args, **kwargs, **({} if device is None else {"device": device}))
        _waits("made on the host")
        return make(*args, **kwargs).to(_place(device))

    return made


_base_data: Any = torch._C.TensorBase.data


def _set_data(self: Tensor, value: Tensor) -> None:
    """Assignment to `data`, which a tensor may not survive if its place changes."""
    if not isinstance(value, OnDevice):
        _base_data.__set__(self, value)
        return
    grad, self.grad = self.grad, None
    torch.utils.swap_tensors(self, torch.nn.Parameter(value, requires_grad=self.requires_grad))
    if grad is not None and grad.device == value.device:
        self.grad = grad


def _patch_cuda(count: int) -> None:
    current = [0]

    def set_device(device: Any) -> None:
        current[0] = device if isinstance(device, int) else torch.device(device).index

    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    answers: dict[str, Any] = {
        "_lazy_init": nothing,
        "is_available": lambda: True,
        "is_bf16_supported": lambda *a, **k: True,
        "device_count": lambda: count,
        "set_device": set_device,
        "current_device": lambda: current[0],
        "get_device_name": lambda *a: "simulated",
        "get_device_capability": lambda *a: (9, 0),
        "synchronize": nothing,
        "empty_cache": nothing,
        "manual_seed": nothing,
        "manual_seed_all": nothing,
        "memory_allocated": lambda *a: 0,
        "max_memory_allocated": lambda *a: 0,
    }
    for name, answer in (answers | ANSWERS).items():
        setattr(torch.cuda, name, answer)
