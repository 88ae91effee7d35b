"""A compiled training step: the same but for rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caffe_ssd.errors import NetError
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.compiled import CompiledPart, use_compiled_parts
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from tests.net.test_checkpoints import dense_net, inputs

# Priors between the layers of the heads, a frozen layer at the beginning, dropout in the middle.
HEADS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 2 dim: 6 dim: 5 } } }
layer { name: "frozen" type: "Convolution" bottom: "x" top: "frozen" param { lr_mult: 0 }
  param { lr_mult: 0 } convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "a" type: "Convolution" bottom: "frozen" top: "a"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "prior" type: "PriorBox" bottom: "a" bottom: "x" top: "prior"
  prior_box_param { min_size: 2 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 2 kernel_size: 1 } }
MIDDLE
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "loss" }
"""
DROPOUT = """
layer { name: "drop" type: "Dropout" bottom: "b" top: "b" }
layer { name: "power" type: "Power" bottom: "b" top: "b" }
layer { name: "relu2" type: "ReLU" bottom: "b" top: "b" }
"""


def parts_of(text: str) -> tuple[Net, list[str]]:
    """A net that is to be compiled, and its program: a part's layers are joined by a plus."""
    net = build_net(parse_text(text, NetParameter(), "net.prototxt"), NetState(phase="TRAIN"))
    use_compiled_parts(net)
    return net, [
        "+".join(call.step.param.name for call in op.layer.program)
        if isinstance(op.layer, CompiledPart)
        else op.step.param.name
        for op in net.program
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own compiler warns of PyTorch
def test_a_step_is_the_same_but_for_rounding() -> None:
    plain, compiled = dense_net(2), dense_net(2)
    assert use_compiled_parts(compiled) > 5
    for _ in range(2):
        results = [net(inputs()) for net in (plain, compiled)]
        torch.testing.assert_close(results[1].loss, results[0].loss)
        assert results[0].blobs.keys() == results[1].blobs.keys()
        for net, result in zip((plain, compiled), results, strict=True):
            net.clear_diffs()
            result.loss.backward()
        for mine, other in zip(plain.learnable, compiled.learnable, strict=True):
            torch.testing.assert_close(other.blob, mine.blob)  # running statistics among them
            assert (mine.blob.grad is None) == (other.blob.grad is None)
            if mine.blob.grad is not None:
                torch.testing.assert_close(other.blob.grad, mine.blob.grad, rtol=1e-4, atol=1e-4)


def test_priors_do_not_cut_a_part() -> None:
    net, program = parts_of(HEADS.replace("MIDDLE", ""))
    *_, part, prior, loss = program
    assert (prior, loss) == ("prior", "loss")
    assert part.startswith("a+")
    assert part.endswith("+b")
    assert "frozen" in program
    with torch.no_grad():
        assert net({}).loss.isfinite()


def test_what_is_random_stays_outside() -> None:
    net, program = parts_of(HEADS.replace("MIDDLE", DROPOUT))
    assert program[-3:] == ["drop", "power+relu2", "loss"]
    with torch.no_grad():
        assert net({}).loss.isfinite()


def test_without_gradients_nothing_is_compiled() -> None:
    plain, compiled = dense_net(), dense_net()
    use_compiled_parts(compiled)
    with torch.no_grad():
        assert torch.equal(plain(inputs()).loss, compiled(inputs()).loss)


def test_what_cannot_be_compiled_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import Unsupported

    net = dense_net(2)
    use_compiled_parts(net)
    (part,) = (op.layer for op in net.program if isinstance(op.layer, CompiledPart))

    def fail(*_: Tensor) -> None:
        raise Unsupported("no such thing\n\nand a long story", case_name="test")

    monkeypatch.setattr(part, "_compiled", fail)
    with pytest.raises(
        NetError, match=r"cannot be compiled \(no such thing\); train it uncompiled"
    ):
        net(inputs())
