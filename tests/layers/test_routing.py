"""Layers that move, combine or make blobs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from tests.layers.build import build, draw

SHAPE = (2, 4, 6, 5)


def test_split_adds_gradients_in_the_order_of_the_tops():
    """With a float32 sum the order shows: (1 + 1e8) - 1e8 is 0, (1e8 - 1e8) + 1 is 1."""
    for diffs, want in (((1.0, 1e8, -1e8), 0.0), ((1e8, -1e8, 1.0), 1.0)):
        x = torch.zeros(1, requires_grad=True)
        tops = build("Split", "", (1,), tops=3)(x)
        torch.autograd.backward(tops, [torch.tensor([diff]) for diff in diffs])
        assert x.grad.item() == want


@pytest.mark.parametrize("num_tops", [1, 2, 5])
def test_split_hands_on_the_same_memory(num_tops):
    x = draw(2, 3)
    tops = build("Split", "", (2, 3), tops=num_tops)(x)
    tops = tops if isinstance(tops, tuple) else (tops,)
    assert len(tops) == num_tops
    assert all(top.data_ptr() == x.data_ptr() for top in tops)


def test_concat_and_slice_are_inverse():
    x = draw(*SHAPE)
    cut = build("Slice", "slice_param { axis: 2 slice_point: 1 slice_point: 4 }", SHAPE, tops=3)
    parts = cut(x)
    assert [part.shape[2] for part in parts] == [1, 3, 2]
    shapes = [tuple(part.shape) for part in parts]
    assert torch.equal(build("Concat", "concat_param { axis: -2 }", *shapes)(*parts), x)


def test_single_concat_and_slice_pass_the_bottom_on():
    x = draw(*SHAPE)
    assert build("Concat", "", SHAPE)(x) is x
    assert build("Slice", "", SHAPE)(x) is x


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ("shape { dim: 0 dim: -1 }", (2, 120)),
        ("shape { dim: 0 dim: -1 } axis: 1 num_axes: 2", (2, 4, 6, 5)),
        ("shape { dim: 3 dim: 2 } axis: 2 num_axes: 1", (2, 4, 3, 2, 5)),
        ("shape { dim: 1 } axis: -1", (2, 4, 6, 5, 1)),
        ("shape { dim: 1 } axis: 0 num_axes: 0", (1, 2, 4, 6, 5)),
        ("shape { dim: 30 } axis: -3", (2, 4, 30)),
        ("shape {} axis: 4", (2, 4, 6, 5)),
    ],
)
def test_reshape(settings, want):
    layer = build("Reshape", f"reshape_param {{ {settings} }}", SHAPE)
    x = draw(*SHAPE)
    assert layer.top_shapes(SHAPE) == (want,)
    assert torch.equal(layer(x), x.reshape(want))


def test_scale_covers_axes_from_its_axis():
    x = draw(*SHAPE)
    layer = build("Scale", "scale_param { axis: 1 num_axes: 2 bias_term: true }", SHAPE)
    factor, bias = layer.blobs
    assert factor.shape == bias.shape == (4, 6)
    assert torch.equal(factor.data, torch.ones(4, 6))
    factor.data = draw(4, 6, seed=1)
    bias.data = draw(4, 6, seed=2)
    torch.testing.assert_close(layer(x), x * factor[..., None] + bias[..., None])
    empty = build("Scale", "scale_param { filler {} }", SHAPE)
    assert not empty.blobs[0].any()


@pytest.mark.parametrize(
    ("layer_type", "settings"),
    [("Scale", ""), ("Scale", "scale_param { bias_term: true }"), ("Bias", ""), ("ReLU", "")],
)
def test_channels_last_is_kept(layer_type, settings):
    x = draw(*SHAPE).to(memory_format=torch.channels_last)
    y = build(layer_type, settings, SHAPE)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layer_type", ["Scale", "Bias"])
@pytest.mark.parametrize("second", [(), (4,), (4, 6), SHAPE])
def test_affine_gradient(layer_type, second):
    axis = 0 if second == SHAPE else 1
    settings = f"{layer_type.lower()}_param {{ axis: {axis} }}"
    layer = build(layer_type, settings, SHAPE, second)
    x = draw(*SHAPE, dtype=torch.float64).requires_grad_()
    y = draw(*second, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x, y))


def test_eltwise_maximum_ties():
    layer = build("Eltwise", "eltwise_param { operation: MAX }", (1,), (1,), (1,))
    bottoms = [torch.ones(1, requires_grad=True) for _ in range(3)]
    layer(*bottoms).backward()
    assert [None if b.grad is None else b.grad.item() for b in bottoms] == [0, 1, 0]


def test_eltwise_unstable_product_divides():
    zero, two = torch.zeros(1, requires_grad=True), torch.full((1,), 2.0, requires_grad=True)
    for stable, want in (("true", 2.0), ("false", float("nan"))):
        zero.grad = None
        settings = f"eltwise_param {{ operation: PROD stable_prod_grad: {stable} }}"
        build("Eltwise", settings, (1,), (1,))(zero, two).backward()
        np.testing.assert_equal(zero.grad.item(), want)


def test_inner_product_flattens_from_its_axis():
    filler = 'weight_filler { type: "uniform" } bias_filler { type: "uniform" }'
    x = draw(*SHAPE)
    for axis, lead in ((0, ()), (2, (2, 4)), (-1, (2, 4, 6))):
        settings = f"inner_product_param {{ num_output: 3 axis: {axis} {filler} }}"
        layer = build("InnerProduct", settings, SHAPE)
        weight, bias = layer.blobs
        want = x.reshape(*lead, -1) @ weight.t() + bias
        torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)
        turned = build("InnerProduct", settings.replace("3", "3 transpose: true", 1), SHAPE)
        assert turned.blobs[0].shape == weight.shape[::-1]


def test_embed_names_an_index_out_of_range():
    layer = build("Embed", "embed_param { num_output: 3 input_dim: 4 }", (2,))
    with pytest.raises(LayerError, match=r"indices must lie in 0..3, got 4"):
        layer(torch.tensor([0.0, 4.0]))


def test_argmax_ties_put_the_higher_index_first():
    x = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    layer = build("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", (1, 4))
    assert layer(x).tolist() == [[[2, 1, 3], [3, 3, 2]]]
    layer = build("ArgMax", "argmax_param { top_k: 2 axis: 1 }", (1, 4))
    assert layer(x).tolist() == [[2, 1]]


def test_filter_keeps_items():
    x, y = draw(4, 3), draw(4, 2, 5)
    layer = build("Filter", "", (4, 3), (4, 2, 5), (4, 1), tops=2)
    assert layer.top_shapes((4, 3), (4, 2, 5), (4, 1)) == ((4, 3), (4, 2, 5))
    first, second = layer(x, y, torch.tensor([[0.0], [2.0], [0.0], [-1.0]]))
    assert torch.equal(first, x[[1, 3]])
    assert torch.equal(second, y[[1, 3]])
    assert layer(x, y, torch.zeros(4, 1))[0].shape == (0, 3)


def test_crop_and_tile():
    x = draw(*SHAPE)
    crop = build("Crop", "crop_param { axis: 2 offset: 2 offset: 1 }", SHAPE, (1, 1, 3, 4))
    assert torch.equal(crop(x, torch.zeros(1, 1, 3, 4)), x[:, :, 2:5, 1:5])
    tile = build("Tile", "tile_param { axis: 2 tiles: 3 }", SHAPE)
    np.testing.assert_array_equal(tile(x), np.tile(x, (1, 1, 3, 1)))


def test_parameter_shares_its_blob():
    layer = build("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }")
    assert layer().data_ptr() == layer.blobs[0].data_ptr()
    layer().sum().backward()
    assert torch.equal(layer.blobs[0].grad, torch.ones(2, 3))


@pytest.mark.parametrize(("kind", "warns"), [("gaussian", True), ("constant", False)])
def test_dummy_data_warns_on_resume_that_it_draws_anew(kind, warns, caplog):
    settings = f'dummy_data_param {{ shape {{ dim: 2 }} data_filler {{ type: "{kind}" }} }}'
    layer = build("DummyData", settings)
    layer.seek(0)
    assert not caplog.messages
    layer.seek(3)
    assert ("layer 'layer' (DummyData): random tops are drawn anew" in caplog.text) == warns


def test_dummy_data_refills_random_tops_only():
    settings = """dummy_data_param {
        shape { dim: 2 } shape { dim: 3 }
        data_filler { value: 7 } data_filler { type: "uniform" }
    }"""
    layer = build("DummyData", settings, tops=2)
    constant, first = layer()
    constant[0] = 5
    again, second = layer()
    assert again.tolist() == [5, 7]
    torch.testing.assert_close(first, torch.tensor([0.0894332379, 0.518739164, 0.115377702]))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("layer_type", "settings", "bottoms", "message"),
    [
        ("Reshape", 'bottom: "x" top: "x"', [SHAPE], "in place, but top 'x'"),
        ("Reshape", "reshape_param { shape { dim: [-1, -1] } }", [SHAPE], "at most one dim"),
        ("Reshape", "reshape_param { shape { dim: 1 } axis: 5 }", [SHAPE], "axis 5 is out of"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: 0 } axis: 3 }", [SHAPE], "copies axis 4"),
        ("Flatten", "flatten_param { axis: 3 end_axis: 1 }", [SHAPE], "end_axis 1 lies before"),
        ("Concat", "concat_param { axis: 1 concat_dim: 1 }", [SHAPE], "either axis or concat_dim"),
        ("Slice", "slice_param { slice_point: 2 }", [SHAPE], r"1 tops need 0 slice points"),
        ("Eltwise", "eltwise_param { coeff: 1 }", [SHAPE] * 2, r"one value per bottom \(2\)"),
        ("Eltwise", "eltwise_param { operation: MAX coeff: [1, 2] }", [SHAPE] * 2, "needs .* SUM"),
        ("Crop", "crop_param { axis: 1 offset: [1, 2] }", [SHAPE] * 2, r"cropped axis \(3\)"),
        ("Tile", "", [SHAPE], "tiles must be given and positive, got 0"),
        ("ArgMax", "argmax_param { top_k: 7 }", [(2, 6)], r"1\.\.6, .* got 7"),
        ("Embed", "embed_param { input_dim: 4 }", [(3,)], "num_output must be positive, got 0"),
        ("InnerProduct", "", [SHAPE], "num_output must be positive, got 0"),
        ("Scale", "scale_param { axis: 2 num_axes: 3 }", [SHAPE], "reach beyond a bottom"),
        ("Bias", "bias_param { num_axes: -2 }", [SHAPE], "-1 or more, got -2"),
        ("DummyData", "dummy_data_param {}", [], "num takes one value or one per top"),
    ],
)
def test_param_refusals(layer_type, settings, bottoms, message):
    with pytest.raises(LayerParamError, match=rf"layer 'layer' \({layer_type}\): .*{message}"):
        build(layer_type, settings, *bottoms)


@pytest.mark.parametrize(
    ("layer_type", "settings", "bottoms", "message"),
    [
        ("Reshape", "reshape_param { shape { dim: [7, -1] } }", [SHAPE], "cannot infer a size"),
        ("Reshape", "reshape_param { shape { dim: [2, 7] } }", [SHAPE], "another number of elem"),
        ("Concat", "", [SHAPE, (2, 3, 6, 4)], "may differ in axis 1 only"),
        ("Eltwise", "", [SHAPE], "takes at least 2 bottoms, got 1"),
        ("Eltwise", "", [SHAPE, (2, 4, 5, 6)], "must have the same shape"),
        ("Crop", "crop_param { offset: 3 }", [SHAPE, (2, 4, 4, 4)], "leaves bottom 0"),
        ("Scale", "", [SHAPE, (4, 5)], "the scale .* must match the axes it covers"),
        ("Bias", "bias_param { axis: 0 }", [SHAPE, (2, 5)], "the bias .* must match"),
        ("Filter", "", [(3, 4), (2,)], "as many items as the selector"),
        ("Filter", "", [(3, 4), (3, 2)], "one value per item"),
        ("BatchReindex", "", [(3, 4), (2, 1)], r"\(N, ...\) and \(M\)"),
    ],
)
def test_shape_refusals(layer_type, settings, bottoms, message):
    with pytest.raises(ShapeError, match=rf"layer 'layer' \({layer_type}\): .*{message}"):
        build(layer_type, settings, *bottoms)


def test_slice_refuses_pieces_that_do_not_fit():
    with pytest.raises(ShapeError, match="axis 1 of size 4 cannot be cut into 3 equal pieces"):
        build("Slice", "", SHAPE, tops=3)
    with pytest.raises(LayerParamError, match="must be positive and increase"):
        build("Slice", "slice_param { slice_point: [2, 2] }", SHAPE, tops=3)
    with pytest.raises(ShapeError, match="must lie below 4"):
        build("Slice", "slice_param { slice_point: 4 }", SHAPE, tops=2)


def test_layers_refuse_shapes_that_no_longer_fit():
    layer = build("InnerProduct", "inner_product_param { num_output: 3 }", SHAPE)
    with pytest.raises(ShapeError, match="must have 120 elements from axis 1 on"):
        layer.top_shapes((2, 4, 6, 4))
    with pytest.raises(ShapeError, match=r"blobs of shape \[4\] do not fit"):
        build("Scale", "", SHAPE).top_shapes((2, 5, 6, 5))
