"""A watched pass is the pass itself: who is told of what, and that no number changes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from caffe_ssd.layers.registry import Layer, Runtime
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.checkpoints import Segment
from caffe_ssd.net.passes import FusedBatchNorm
from caffe_ssd.net.plan import Step
from caffe_ssd.net.watching import Watcher, WatchingRunner, uses_of_blobs
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.random import CaffeRandom

DATA = """
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 }
  data_filler { value: 1 } data_filler { value: 0 } } }
"""
REGRESSION = """
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 4 weight_filler { value: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
READER = 'layer { name: "twice" type: "Power" bottom: "loss" top: "twice" power_param { scale: 2 }'


def conv(number: int, bottom: str) -> str:
    name = f"c{number}"
    return f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ num_output: 5 kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "b{number}" type: "BatchNorm" bottom: "{name}" top: "{name}" }}
layer {{ name: "s{number}" type: "Scale" bottom: "{name}" top: "{name}"
  scale_param {{ bias_term: true }} }}
layer {{ name: "r{number}" type: "ReLU" bottom: "{name}" top: "{name}" }}
"""


DEEP = (
    """
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 9 dim: 7 } shape { dim: 4 dim: 6 }
  data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
"""
    + "".join(conv(i, f"c{i - 1}" if i else "x") for i in range(6))
    + """
layer { name: "ip" type: "InnerProduct" bottom: "c5" top: "ip"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
)


def build(text: str) -> Net:
    state = NetState(phase=0)  # type: ignore[arg-type]
    runtime = Runtime(rng=CaffeRandom(3))
    return build_net(parse_text(text, NetParameter()), state, runtime)


class Record(Watcher):
    """Remembers who ran, and means of what was told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.told: dict[str, list[float | None]] = {}

    def _note(self, what: str, tensors: Sequence[Tensor | None]) -> None:
        self.ran.append(what)
        self.told[what] = [None if t is None else float(t.float().abs().mean()) for t in tensors]

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        self._note(step.param.name, tops)

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        self._note(f"-{step.param.name}", diffs)

    def learnt(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        self._note(f"*{step.param.name}", diffs)


def watched(net: Net) -> tuple[Record, Tensor]:
    record = Record()
    runner = WatchingRunner(net.context(), record, uses_of_blobs(net.layers))
    loss = net(runner=runner).loss
    if loss.requires_grad:
        loss.backward()
    runner.tell_learnt(net.steps, net.layers)
    return record, loss.detach()


@pytest.mark.parametrize(
    ("reader", "loss", "ran"),
    [
        ("", 18, ["-loss", "-ip"]),
        (READER + "loss_weight: 0.5 }", 18 + 36 / 2, ["-twice", "-loss", "-ip"]),
        (READER + "}", 18, []),  # an idle reader keeps its loss from training anything
    ],
)
def test_who_is_told(reader: str, loss: float, ran: list[str]) -> None:
    record, found = watched(build(DATA + REGRESSION + reader))
    assert found.item() == loss
    takes_part = [name for name in ran if name != "-ip"]
    assert [name for name in record.ran if name[0] == "-"] == takes_part  # x wants no diff
    assert [name.replace("*", "-") for name in record.ran if name[0] == "*"] == ran


def test_a_reader_s_gradient_replaces_the_weight() -> None:
    net = build(DATA + REGRESSION + READER + "loss_weight: 1 }")
    result = net()
    assert result.loss.item() == 18 + 36
    result.loss.backward()
    # d loss / d w = x^T (ip - y) / 2 = 3, times the reader's 2, without the weight's 1
    assert net.learnable[0].blob.grad is not None
    assert net.learnable[0].blob.grad.unique().tolist() == [6]


def test_batch_norm_counts_as_learning_where_the_prototxt_does_not_say() -> None:
    net = build(
        DATA + 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "bn" }'
        'layer { name: "l" type: "Reduction" bottom: "bn" top: "l" loss_weight: 1 }'
        'layer { name: "s" type: "Silence" bottom: "y" }'
    )
    assert [step.needs_backward for step in net.steps] == [False, True, True, False]
    assert net.steps[1].param_flags == (True, True, True)
    assert [entry.lr_mult for entry in net.learnable] == [0, 0, 0]


MODES = {
    "plain": (),
    "bf16": ("use_bfloat16",),
    "channels_last": ("use_channels_last",),
    "checkpoint": ("use_checkpoints",),
    "all": ("use_checkpoints", "use_channels_last", "use_bfloat16"),
}


@pytest.mark.parametrize("mode", MODES)
def test_no_number_changes(mode: str) -> None:
    nets = [build(DEEP) for _ in range(2)]
    for net in nets:
        for switch in MODES[mode]:
            getattr(net, switch)()
    if "checkpoint" in mode:
        assert any(isinstance(op.layer, Segment) for op in nets[0].program)
    for _ in range(2):
        loss = nets[0]().loss
        loss.backward()
        _, found = watched(nets[1])
        assert found.item() == loss.item()
    for mine, theirs in zip(nets[0].learnable, nets[1].learnable, strict=True):
        assert torch.equal(mine.blob, theirs.blob)  # the running statistics, too
        if mine.blob.grad is not None:
            assert torch.equal(mine.blob.grad, theirs.blob.grad)


@pytest.mark.parametrize("mode", ["plain", "checkpoint"])
def test_what_lies_inside_a_call_is_told(mode: str) -> None:
    plain, joined = build(DEEP), build(DEEP)
    plain.program = plain.plain_program
    for switch in MODES[mode]:
        getattr(joined, switch)()
    assert any(isinstance(op.layer, FusedBatchNorm | Segment) for op in joined.program)
    (want, _), (got, _) = watched(plain), watched(joined)
    forward = [name for name in want.ran if name[0] not in "-*"]
    assert [name for name in got.ran if name[0] not in "-*"] == forward
    assert got.told.keys() == want.told.keys()
    for name, means in want.told.items():
        found = got.told[name]
        assert [x is None for x in found] == [x is None for x in means], name
        for x, y in zip(found, means, strict=True):
            assert x is None or x == pytest.approx(y, rel=1e-4, abs=1e-6), name


def test_a_watched_pass_leaves_nothing_in_memory() -> None:
    net = build(DEEP)
    net.use_checkpoints()
    made: list[weakref.ref[Tensor]] = []

    class Listener(Watcher):
        def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
            made.extend(map(weakref.ref, tops))

    runner = WatchingRunner(net.context(), Listener(), uses_of_blobs(net.layers))
    result = net(runner=runner)
    result.loss.backward()
    del result, runner
    assert len(made) > 20
    assert not [each for each in made if each() is not None]
