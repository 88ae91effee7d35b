"""MultiBoxLoss against the vectors of the spec."""

from __future__ import annotations

import pytest
import torch
from google.protobuf import text_format

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.layers.multibox_terms import softmax_loss
from caffe_ssd.layers.registry import LayerSpec, build_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter

# The example of ssd-layers.md section 12: 2 images, 6 priors, 3 classes.
PRIORS = [
    [0, 0, 0.4, 0.4],
    [0.1, 0.1, 0.5, 0.5],
    [0.5, 0.5, 0.9, 0.9],
    [0.55, 0.5, 0.95, 0.9],
    [0, 0.6, 0.2, 0.8],
    [0.12, 0.1, 0.52, 0.5],
]
LABEL = [
    [0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0],
    [0, 2, 0, 0.1, 0.12, 0.5, 0.5, 0],
    [0, 1, 1, 0, 0.7, 0.1, 0.9, 0],
    [1, 2, 0, 0.5, 0.5, 0.9, 0.9, 1],
]
SHAPES = ((2, 24), (2, 18), (1, 2, 24), (1, 1, 4, 8))


def build(settings="", *, extra="", shapes=SHAPES):
    bottoms = " ".join(f'bottom: "{name}"' for name in ("loc", "conf", "prior", "label"))
    text = (
        f'name: "mbox" type: "MultiBoxLoss" {bottoms} top: "loss" phase: TRAIN {extra} '
        f"multibox_loss_param {{ num_classes: 3 code_type: CENTER_SIZE {settings} }}"
    )
    param = text_format.Parse(text, LayerParameter())
    return build_layer(LayerSpec(param=param, bottoms=shapes))


def example(dtype=torch.float32):
    boxes = torch.tensor(PRIORS, dtype=dtype)
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2], dtype=dtype).expand(6, 4)
    return (
        (0.05 * (torch.arange(48) % 7) - 0.1).to(dtype).reshape(2, 24).requires_grad_(),
        (0.1 * (7 * torch.arange(36) % 11) - 0.5).to(dtype).reshape(2, 18).requires_grad_(),
        torch.stack([boxes, variances]).reshape(1, 2, 24),
        torch.tensor(LABEL, dtype=dtype)[None, None],
    )


@pytest.mark.parametrize(
    ("settings", "extra", "want"),
    [
        ("", "", 4.919527),
        ("neg_pos_ratio: .9", "", 4.032490),
        ("use_difficult_gt: false", "", 5.448767),
        ("overlap_threshold: .35 neg_overlap: .3", "", 4.674814),
        ("mining_type: NONE", "loss_param { normalization: FULL }", 2.049803),
        ("mining_type: HARD_EXAMPLE sample_size: 4", "", 4.176900),
        ("conf_loss_type: LOGISTIC", "", 7.241963),
        ("loc_loss_type: L2 loc_weight: 2 encode_variance_in_target: true", "", 14.909362),
        ("nms_param { nms_threshold: .5 top_k: 10 } use_prior_for_nms: true", "", 4.548213),
    ],
)
def test_vectors_of_the_spec(settings, extra, want):
    loss = build(settings, extra=extra)(*example())
    assert loss.shape == ()
    assert loss.item() == pytest.approx(want, abs=2e-6)


def test_gradients_of_the_spec():
    loc, conf, priors, label = example()
    build()(loc, conf, priors, label).backward()
    loc_grad, conf_grad = loc.grad.reshape(2, 6, 4), conf.grad.reshape(2, 6, 3)
    # The spec prints 5 decimals.
    for (image, prior), want in {
        (0, 1): [0.02, 0.03, 0.04, -0.02],
        (0, 4): [0.2, -0.2, 0.2, 0.03],
        (0, 5): [0.14, -0.07, -0.01, 0.05129],
        (1, 3): [0.2, 0, 0.01, 0.02],
        (0, 0): [0.0, 0, 0, 0],
    }.items():
        torch.testing.assert_close(loc_grad[image, prior], torch.tensor(want), rtol=0, atol=6e-6)
    for (image, prior), want in {
        (0, 0): [-0.15417, 0.09230, 0.06187],
        (0, 1): [0.09436, -0.13675, 0.04240],
        (1, 4): [-0.15417, 0.09230, 0.06187],
    }.items():
        torch.testing.assert_close(conf_grad[image, prior], torch.tensor(want), rtol=0, atol=6e-6)


def test_mining_with_overlap_and_no_top_k_has_no_limit():
    limited = build("nms_param { nms_threshold: .5 top_k: 12 }")(*example())
    assert build("nms_param { nms_threshold: .5 }")(*example()).item() == limited.item()


def test_two_forwards_without_backward_do_not_influence_each_other():
    layer, (loc, conf, priors, label) = build(), example()
    first = layer(loc, conf, priors, label)
    layer(loc, conf, priors, label[:, :, 3:])
    assert layer(loc, conf, priors, label).item() == first.item()


@pytest.mark.parametrize("settings", ["", "conf_loss_type: LOGISTIC", "mining_type: NONE"])
def test_the_gradient_is_the_true_one(settings):
    layer, (loc, conf, priors, label) = build(settings), example(torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: layer(a, b, priors, label), (loc, conf))


def test_without_ground_truth_gradients_are_zero():
    loc, conf, priors, _ = example()
    loss = build()(loc, conf, priors, torch.full((1, 1, 1, 8), -1.0))
    loss.backward()
    assert loss.item() == 0
    assert not loc.grad.any()
    assert not conf.grad.any()


def test_half_precision_predictions_are_summed_in_single():
    loc, conf, priors, label = example()
    loss = build()(loc.bfloat16(), conf.bfloat16(), priors, label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(4.919527, rel=1e-2)


def test_softmax_loss_is_limited_but_its_gradient_is_not():
    logits = torch.tensor([[200.0, 0, 0]], requires_grad=True)
    loss = softmax_loss(logits, torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(87.33655)
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1, 0]]))


def test_a_background_label_in_the_ground_truth_is_refused():
    loc, conf, priors, label = example()
    label[0, 0, 2, 1] = 0
    with pytest.raises(LayerError, match="background label 0 is in the ground truth"):
        build()(loc, conf, priors, label)


def test_a_label_beyond_the_classes_is_refused():
    loc, conf, priors, label = example()
    label[0, 0, 2, 1] = 3
    with pytest.raises(LayerError, match="labels must be from 0 to 2, got 3"):
        build()(loc, conf, priors, label)


def test_predictions_that_do_not_fit_are_refused():
    with pytest.raises(
        ShapeError, match=r"'mbox' \(MultiBoxLoss\): bottom 1 must have shape \(N, 18\), 3 numbers"
    ):
        build(shapes=((2, 24), (2, 19), *SHAPES[2:]))


def test_a_gradient_to_the_priors_is_refused():
    flags = "propagate_down: true propagate_down: true propagate_down: true propagate_down: false"
    with pytest.raises(LayerParamError, match="got true, true, true, false"):
        build(extra=flags)


def test_mining_needs_shared_locations():
    with pytest.raises(LayerParamError, match="mining needs share_location"):
        build("share_location: false", shapes=((2, 72), *SHAPES[1:]))


def test_priors_and_labels_of_other_shapes_mean_the_same():
    loc, conf, priors, label = example()
    want = build()(loc, conf, priors, label)
    deep, batched = priors[..., None], torch.cat([priors, torch.full_like(priors, torch.nan)])
    for other in (deep, batched):
        shapes = (*SHAPES[:2], tuple(other.shape), (2, 2, 8))
        assert torch.equal(build(shapes=shapes)(loc, conf, other, label.view(2, 2, 8)), want)
    with pytest.raises(ShapeError, match="bottom 3 must have rows of 8 numbers"):
        build(shapes=(*SHAPES[:3], (1, 1, 8, 4)))


def test_why_a_loss_is_zero():
    loc, conf, priors, label = example()
    layer = build("overlap_threshold: .35")
    assert layer.reason_for_zero(loc, conf, priors, label) == ""
    nothing = layer.reason_for_zero(loc, conf, priors, torch.full((1, 1, 1, 8), -1.0))
    assert nothing == "there is no box in this batch's data"
    label[..., 3:7] = torch.tensor([0.95, 0.1, 0.99, 0.2])
    assert layer(loc, conf, priors, label).item() == 0
    assert layer.reason_for_zero(loc, conf, priors, label) == (
        "no prior matches any box of this batch (overlap_threshold 0.35)"
    )


def test_two_classes_fold_all_objects_into_one(caplog):
    param = text_format.Parse(
        'name: "m" type: "MultiBoxLoss" bottom: "l" bottom: "c" bottom: "p" bottom: "g" top: "x" '
        "phase: TRAIN multibox_loss_param { num_classes: 2 code_type: CENTER_SIZE }",
        LayerParameter(),
    )
    layer = build_layer(LayerSpec(param=param, bottoms=((2, 24), (2, 12), *SHAPES[2:])))
    loc, conf, priors, label = example()
    folded = label.clone()
    folded[..., 1] = 1
    with caplog.at_level("INFO"):
        first, second = (layer(loc, conf[:, :12], priors, gts) for gts in (label, label))
    assert first == second == layer(loc, conf[:, :12], priors, folded)
    assert caplog.text.count("labels above 1 count as 1") == 1
