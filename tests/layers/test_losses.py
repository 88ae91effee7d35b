"""Losses and Accuracy: gradients, normalisation, ties, and gradients that do not exist."""

from __future__ import annotations

import math

import pytest
import torch

from caffe_ssd.errors import LayerError, LayerParamError, ProtoError, ShapeError
from caffe_ssd.proto.caffe_pb2 import BlobProto
from tests.layers.build import build, draw

LABELS = torch.tensor([1.0, 0.0, 3.9])  # cut to 1, 0, 3


@pytest.mark.parametrize(
    ("mode", "divisor"), [("FULL", 6), ("VALID", 4), ("BATCH_SIZE", 3), ("NONE", 1)]
)
def test_softmax_loss_normalisation(mode, divisor):
    settings = f"loss_param {{ ignore_label: 2 normalization: {mode} }}"
    layer = build("SoftmaxWithLoss", settings, (3, 4, 2), (3, 2))
    scores = draw(3, 4, 2)
    labels = torch.tensor([[2.0, 1.0], [0.0, 2.0], [3.0, 3.0]])
    log_p = scores.log_softmax(1)
    total = -(log_p[0, 1, 1] + log_p[1, 0, 0] + log_p[2, 3, 0] + log_p[2, 3, 1])
    torch.testing.assert_close(layer(scores, labels), total / divisor)


def test_softmax_loss_is_capped_but_its_gradient_is_not():
    layer = build("SoftmaxWithLoss", "", (1, 2), (1,))
    scores = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = layer(scores, torch.ones(1))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1.17549435e-38))
    torch.testing.assert_close(scores.grad, torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize(
    ("layer_type", "settings", "second"),
    [
        ("SoftmaxWithLoss", "loss_param { ignore_label: 0 }", LABELS),
        ("SigmoidCrossEntropyLoss", "", draw(3, 4, seed=1).sigmoid()),
        ("HingeLoss", "hinge_loss_param { norm: L2 }", LABELS),
        ("HingeLoss", "", LABELS),
    ],
)
def test_gradient(layer_type, settings, second):
    layer = build(layer_type, settings, (3, 4), tuple(second.shape))
    x = draw(3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, second.double()), (x,))


def test_logistic_gradients():
    x = draw(3, 4, dtype=torch.float64).softmax(1).requires_grad_()
    layer = build("MultinomialLogisticLoss", "", (3, 4), (3,))
    assert torch.autograd.gradcheck(lambda x: layer(x, LABELS), (x,))
    layer = build("InfogainLoss", "", (3, 4), (3,), (1, 1, 4, 4))
    matrix = draw(1, 1, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: layer(x, LABELS, matrix), (x,))


def test_euclidean_loss_pairs_items_of_different_shapes():
    layer = build("EuclideanLoss", "", (2, 3, 4), (2, 12))
    x, y = draw(2, 3, 4).requires_grad_(), draw(2, 12, seed=1).requires_grad_()
    loss = layer(x, y)
    torch.testing.assert_close(loss, (x.flatten(1) - y).square().sum() / 4)
    loss.backward()
    torch.testing.assert_close(x.grad.flatten(1), -y.grad)


def test_contrastive_loss_is_its_definition():
    first, second = draw(4, 5), draw(4, 5, seed=1)
    similar = torch.tensor([1.0, 0.0, 0.0, 1.0])
    squared = (first - second).square().sum(1)
    for legacy, apart in (
        ("false", (4 - squared.sqrt()).clamp(min=0).square()),
        ("true", (4 - squared).clamp(min=0)),
    ):
        settings = f"contrastive_loss_param {{ margin: 4 legacy_version: {legacy} }}"
        layer = build("ContrastiveLoss", settings, (4, 5), (4, 5), (4,))
        want = torch.where(similar == 1, squared, apart).sum() / 8
        torch.testing.assert_close(layer(first, second, similar), want)


@pytest.mark.parametrize(
    ("layer_type", "second", "what"),
    [
        ("SoftmaxWithLoss", (3,), "labels"),
        ("SigmoidCrossEntropyLoss", (3, 4), "targets"),
        ("HingeLoss", (3,), "labels"),
        ("MultinomialLogisticLoss", (3,), "labels"),
    ],
)
def test_labels_have_no_gradient(layer_type, second, what):
    layer = build(layer_type, "", (3, 4), second)
    loss = layer(draw(3, 4).sigmoid().requires_grad_(), torch.ones(second, requires_grad=True))
    with pytest.raises(LayerError, match=f"no gradient with respect to its {what}"):
        loss.backward()


def test_other_inputs_without_gradient():
    one = torch.ones(3, requires_grad=True)
    embed = build("Embed", "embed_param { num_output: 2 input_dim: 4 }", (3,))
    reindex = build("BatchReindex", "", (3, 4), (3,))
    chosen = build("Filter", "", (3, 4), (3,))
    for top, what in (
        (embed(one), "indices"),
        (reindex(draw(3, 4), one), "indices"),
        (chosen(draw(3, 4), one), "selector"),
    ):
        with pytest.raises(LayerError, match=f"no gradient with respect to its {what}"):
            top.sum().backward()


@pytest.mark.parametrize("label", [4.0, -1.0])
def test_a_label_out_of_range_is_named(label):
    for layer_type in ("SoftmaxWithLoss", "HingeLoss", "Accuracy"):
        layer = build(layer_type, "", (1, 4), (1,))
        with pytest.raises(LayerError, match=rf"labels must lie in 0..3, got {label:g}"):
            layer(draw(1, 4), torch.tensor([label]))


def test_accuracy_ties_favour_the_higher_class():
    layer = build("Accuracy", "accuracy_param { top_k: 2 }", (4, 3), (4,))
    scores = torch.tensor([[1.0, 1.0, 1.0]]).repeat(4, 1)
    assert layer(scores, torch.tensor([0.0, 1.0, 2.0, 0.0])).item() == 0.5


def test_accuracy_per_class():
    layer = build("Accuracy", "accuracy_param { ignore_label: 1 }", (4, 3), (4,), tops=2)
    scores = torch.eye(3)[[0, 1, 2, 0]]
    accuracy, per_class = layer(scores, torch.tensor([0.0, 1.0, 2.0, 2.0]))
    assert accuracy.item() == pytest.approx(2 / 3)
    assert per_class.tolist() == [1, 0, 0.5]
    accuracy, per_class = layer(scores, torch.ones(4))
    assert math.isnan(accuracy)
    assert per_class.tolist() == [0, 0, 0]


def test_infogain_matrix_from_a_file(tmp_path):
    path = tmp_path / "matrix.binaryproto"
    blob = BlobProto(num=1, channels=1, height=4, width=4, data=torch.eye(4).flatten().tolist())
    path.write_bytes(blob.SerializeToString())
    layer = build("InfogainLoss", f'infogain_loss_param {{ source: "{path}" }}', (3, 4), (3,))
    x = draw(3, 4).softmax(1)
    want = build("MultinomialLogisticLoss", "", (3, 4), (3,))(x, LABELS)
    torch.testing.assert_close(layer(x, LABELS), want)
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(ProtoError, match=r"matrix\.binaryproto"):
        build("InfogainLoss", f'infogain_loss_param {{ source: "{path}" }}', (3, 4), (3,))


@pytest.mark.parametrize(
    ("layer_type", "bottoms", "message"),
    [
        ("SoftmaxWithLoss", [(2, 5, 3), (2, 5)], "have 6, labels have shape"),
        ("SoftmaxWithLoss", [(4, 5), (2,)], r"same first dimension, got \[4, 5\] and \[2\]"),
        ("SigmoidCrossEntropyLoss", [(4, 5), (4, 6)], "must have the same count"),
        ("EuclideanLoss", [(4, 5), (4, 6)], "same count per item"),
        ("HingeLoss", [(4, 5), (4, 2)], r"one label per item is needed, got shape \[4, 2\]"),
        ("InfogainLoss", [(4, 5), (4,), (1, 1, 4, 5)], "must be 5 x 5"),
        ("ContrastiveLoss", [(4, 5), (4, 6), (4,)], "equally many channels"),
        ("ContrastiveLoss", [(4, 5, 2), (4, 5, 2), (4,)], r"must have shape \(N, C\)"),
        ("ContrastiveLoss", [(4, 5), (4, 5)], "takes 3 bottoms, got 2"),
    ],
)
def test_shape_refusals(layer_type, bottoms, message):
    with pytest.raises(ShapeError, match=message):
        build(layer_type, "", *bottoms)


def test_param_refusals():
    with pytest.raises(LayerParamError, match="infogain matrix is missing"):
        build("InfogainLoss", "", (4, 5), (4,))
    with pytest.raises(LayerParamError, match=r"top_k must lie in 1\.\.5, .* got 6"):
        build("Accuracy", "accuracy_param { top_k: 6 }", (4, 5), (4,))
