"""Nets written as Python: `L.Convolution(n.data, num_output=64, kernel_size=3)`.

`layers` makes layers of any type, `params` gives the constants of their messages, `NetSpec` names
the results, `to_proto` turns them into a NetParameter.

    n = NetSpec()
    n.data = layers.Input(shape=dict(dim=[1, 3, 300, 300]))
    n.conv1 = layers.Convolution(n.data, num_output=64, kernel_size=3)
    n.relu1 = layers.ReLU(n.conv1, in_place=True)
    n.pool1 = layers.Pooling(n.relu1, pool=params.Pooling.MAX, kernel_size=2, stride=2)
    message = n.to_proto()

Spec: caffe-net.md section 16.
Quirk: an in-place layer is named after its own attribute, its top after the bottom.
(`layer_keywords` has the part on keywords.)
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from caffe.layer_keywords import FieldValueError, assign_proto, own_param_fields, set_keyword
from caffe_ssd.errors import CaffeError
from caffe_ssd.proto import caffe_pb2
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter

__all__ = [
    "Function",
    "Layers",
    "NetSpec",
    "Parameters",
    "Top",
    "assign_proto",
    "layers",
    "param_name_dict",
    "params",
    "to_proto",
]


def param_name_dict() -> dict[str, str]:
    """Return the field of the message that belongs to a layer type, without `_param`.

    `Pooling` -> `pooling`, `Normalize` -> `norm`.
    """
    return {name: field[: -len("_param")] for name, field in own_param_fields().items()}


class UnknownTopError(CaffeError, AttributeError, KeyError):
    """A NetSpec has no top of this name."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the quoted form


class Top:
    """One output of a layer; what other layers take as a bottom.

    Args:
        fn: the layer that makes it.
        n: its position among that layer's tops.
    """

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> NetParameter:
        """Return the net that makes this top, with automatic names."""
        return to_proto(self)

    def update(self, params: Mapping[str, Any]) -> None:
        """Add keywords to the layer that makes this top."""
        self.fn.params.update(params)


class Function:
    """One layer before it has a name; made by `layers.Type(...)`.

    Args:
        type_name: the layer's `type`.
        inputs: the tops that become its bottoms, in order.
        params: its keywords; `ntop` (default 1) and `in_place` (default False) are taken out.

    Raises:
        FieldValueError: an input is not a single Top.
    """

    def __init__(self, type_name: str, inputs: Iterable[Top], params: Mapping[str, Any]) -> None:
        self.type_name = type_name
        self.inputs = tuple(inputs)
        for index, top in enumerate(self.inputs):
            if not isinstance(top, Top):
                raise FieldValueError(
                    f"bottom {index} must be a Top, got {_describe(top)}", layer_type=type_name
                )
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def to_proto(self) -> NetParameter:
        """Return the net that ends in this layer, with automatic names."""
        return to_proto(self)


Producer = Top | Function


def _describe(value: object) -> str:
    if isinstance(value, tuple) and all(isinstance(item, Top) for item in value):
        return f"a tuple of {len(value)} tops (pass them one by one)"
    if isinstance(value, Function):
        return f"a {value.type_name} layer without tops"
    return f"{type(value).__name__} {value!r}"


class _Emitter:
    """Turns functions into layer messages, each once, bottoms first."""

    def __init__(self, names: Mapping[Producer, str]) -> None:
        self.layers: OrderedDict[Function, LayerParameter] = OrderedDict()
        self._names = dict(names)
        self._used: Counter[str] = Counter()

    def emit(self, last: Function) -> None:
        # A stack, not recursion: a deep net would meet Python's recursion limit.
        stack: list[tuple[Function, Iterator[Top]]] = [(last, iter(last.inputs))]
        while stack:
            fn, bottoms = stack[-1]
            pending = next((top.fn for top in bottoms if top.fn not in self.layers), None)
            if pending is not None:
                stack.append((pending, iter(pending.inputs)))
                continue
            stack.pop()
            if fn not in self.layers:
                self.layers[fn] = self._message(fn)

    def _message(self, fn: Function) -> LayerParameter:
        layer = LayerParameter(type=fn.type_name)
        layer.bottom.extend(self.layers[top.fn].top[top.n] for top in fn.inputs)
        if fn.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend(self._name(top, fn) for top in fn.tops)
        layer.name = self._name(fn.tops[0] if fn.tops else fn, fn)
        for key, value in fn.params.items():
            set_keyword(layer, key, value)
        return layer

    def _name(self, producer: Producer, fn: Function) -> str:
        if producer not in self._names:
            self._used[fn.type_name] += 1
            self._names[producer] = f"{fn.type_name}{self._used[fn.type_name]}"
        return self._names[producer]


class NetSpec:
    """Names for tops, in the order of assignment, as attributes or items.

    Assigning a layer without tops (`ntop=0`) names the layer.
    """

    tops: OrderedDict[str, Producer]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, (Top, Function)):
            raise FieldValueError(f"{name!r} must be set to a Top, got {_describe(value)}")
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        self.__setattr__(key, value)

    def __getitem__(self, item: str) -> Any:
        self._check(item)
        return self.tops[item]

    def __delitem__(self, name: str) -> None:
        self._check(name)
        del self.tops[name]

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tops

    def _check(self, name: str) -> None:
        if name not in self.tops:
            close = get_close_matches(name, self.tops, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"it has {list(self.tops)}"
            raise UnknownTopError(f"the net has no top {name!r}; {hint}")

    def keys(self) -> list[str]:
        """Return the assigned names in order."""
        return list(self.tops)

    def vals(self) -> list[Producer]:
        """Return the assigned tops in order."""
        return list(self.tops.values())

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Add keywords to the layer that makes the top `name`; given ones are replaced."""
        producer = self[name]
        fn = producer.fn if isinstance(producer, Top) else producer
        fn.params.update(params)

    def to_proto(self) -> NetParameter:
        """Return the net: every layer that the assigned tops need, bottoms first.

        Raises:
            UnknownFieldError: a keyword is no field of its message.
            FieldValueError: a keyword's value does not fit.
            EmptyListError: a keyword's value is an empty list.
        """
        # A top that was assigned twice has its last name.
        return _emit(self.tops.values(), {top: name for name, top in self.tops.items()})


def to_proto(*tops: Producer) -> NetParameter:
    """Return the net that makes the given tops, with automatic names throughout."""
    return _emit(tops, {})


def _emit(producers: Iterable[Producer], names: Mapping[Producer, str]) -> NetParameter:
    emitter = _Emitter(names)
    for producer in producers:
        emitter.emit(producer.fn if isinstance(producer, Top) else producer)
    net = NetParameter()
    net.layer.extend(emitter.layers.values())
    return net


class Layers:
    """`layers.Type(*bottoms, **keywords)` makes a layer of any type."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def make(*inputs: Top, **params: Any) -> Any:
            fn = Function(name, inputs, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return make


class _Constants:
    """The constants of one parameter message."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._message, name)
        except AttributeError:
            enums = self._message.DESCRIPTOR.enum_types
            constants = ", ".join(value for enum in enums for value in enum.values_by_name)
            text = f"{self._message.__name__} has no constant {name!r}; its constants: {constants}"
            raise AttributeError(text) from None


class Parameters:
    """`params.Pooling.MAX` is the constant MAX of PoolingParameter."""

    def __getattr__(self, name: str) -> Any:
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            close = get_close_matches(f"{name}Parameter", dir(caffe_pb2), n=3)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise AttributeError(f"there is no message {name}Parameter{hint}")
        return _Constants(message)


layers = Layers()
params = Parameters()
_param_names = param_name_dict()
