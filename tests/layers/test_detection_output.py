"""DetectionOutput against a naive loop and the vectors of the spec."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_ssd.boxes.coding import CodeType, decode
from caffe_ssd.errors import LayerError, LayerParamError
from caffe_ssd.layers.registry import LayerSpec, build_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter
from tests.boxes.naive import naive_nms, random_boxes
from tests.layers.test_multibox_loss import PRIORS

SHAPES = ((2, 24), (2, 18), (1, 2, 24))


def build(settings="", *, head="num_classes: 3 code_type: CENTER_SIZE", shapes=SHAPES):
    text = (
        'name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" '
        'top: "out" phase: TEST detection_output_param { '
        f"{head} {settings} }}"
    )
    param = text_format.Parse(text, LayerParameter())
    return build_layer(LayerSpec(param=param, bottoms=shapes))


def example():
    boxes = torch.tensor(PRIORS)
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2]).expand(6, 4)
    return (
        (0.05 * (torch.arange(48) % 7) - 0.1).reshape(2, 24),
        (0.09 * (7 * torch.arange(36) % 11)).reshape(2, 18),
        torch.stack([boxes, variances]).reshape(1, 2, 24),
    )


def assert_rows(have, want):
    torch.testing.assert_close(have[0, 0], torch.tensor(want), rtol=0, atol=2e-6)


def test_the_defaults_of_the_spec():
    rows = build()(*example())
    assert rows.shape == (1, 1, 12, 7)
    assert_rows(rows[:, :, :1], [[0, 1, 0.63, -0.0040, -0.0040101, 0.396, 0.40001]])
    want = [0.63, 0.45, 0.27, 0.9, 0.81, 0.09, 0.9, 0.72, 0.63, 0.72, 0.54, 0.36]
    torch.testing.assert_close(rows[0, 0, :, 2], torch.tensor(want))


def test_the_limits_of_the_spec():
    rows = build("keep_top_k: 3 nms_param { nms_threshold: .45 top_k: 4 }")(*example())
    want = [
        [0, 1, 0.63, -0.004, -0.00401, 0.396, 0.40001],
        [0, 2, 0.9, -0.00202014, 0.597955, 0.20202, 0.804045],
        [0, 2, 0.81, 0.12999, 0.096, 0.52601, 0.496],
        [1, 1, 0.9, 0.495838, 0.50996, 0.912162, 0.90204],
        [1, 1, 0.72, 0.00498013, 0.604995, 0.20102, 0.803005],
        [1, 2, 0.72, -0.00409091, -0.00416218, 0.408091, 0.412162],
    ]
    torch.testing.assert_close(rows[0, 0], torch.tensor(want), rtol=0, atol=1e-5)


def test_the_adaptive_threshold_of_the_spec():
    assert build("nms_param { nms_threshold: .9 eta: .8 }")(*example()).shape[2] == 16


def test_nothing_found_gives_a_row_for_each_image():
    rows = build("confidence_threshold: .99")(*example())
    assert rows[0, 0].tolist() == [[0, *[-1] * 6], [1, *[-1] * 6]]


def test_no_background_class():
    labels = build("background_label_id: -1")(*example())[0, 0, :, 1]
    assert set(labels.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("top_k", [-1, 12, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_matches_a_naive_loop(top_k, shared):
    num_priors, num_classes, threshold = 40, 3, 0.45
    generator = torch.Generator().manual_seed(7)
    priors = random_boxes(num_priors, seed=8) + torch.tensor([0, 0, 0.05, 0.1])
    num_loc = 1 if shared else num_classes
    loc = torch.rand(2, num_priors, num_loc, 4, generator=generator) - 0.5
    scores = (torch.rand(2, num_priors, num_classes, generator=generator) * 20).round() / 20
    variances = torch.full((num_priors, 4), 0.2)
    layer = build(
        f"confidence_threshold: 0.25 keep_top_k: 15 share_location: {str(shared).lower()} "
        f"nms_param {{ nms_threshold: {threshold} top_k: {top_k} }}",
        shapes=((2, num_priors * num_loc * 4), (2, num_priors * 3), (1, 2, num_priors * 4)),
    )
    have = layer(
        loc.flatten(1), scores.flatten(1), torch.stack([priors, variances]).reshape(1, 2, -1)
    )

    want = []
    for image in range(2):
        found = []
        for label in range(1, num_classes):
            boxes = decode(
                loc[image, :, 0 if shared else label], priors, variances, CodeType.CENTER_SIZE
            )
            column = scores[image, :, label]
            order = [i for i in range(num_priors) if column[i] > 0.25]
            order = sorted(order, key=lambda i: -column[i])[: top_k if top_k > -1 else None]
            for i in naive_nms(boxes[order], threshold):
                prior = order[i]
                found.append([image, label, column[prior].item(), *boxes[prior].tolist()])
        best = sorted(range(len(found)), key=lambda i: -found[i][2])[:15]
        want += [found[i] for i in sorted(best)]
    assert_rows(have, want)


def crowd(num_priors=500):
    """Two images: in the first the best 450 boxes are one, in the second all stand apart."""
    left = torch.arange(num_priors).remainder(50) / 50
    top = torch.arange(num_priors).div(50, rounding_mode="floor") / 10
    priors = torch.stack([left, top, left + 0.02, top + 0.1], 1)
    loc = torch.zeros(2, num_priors, 4)
    loc[0, :450] = priors[0] - priors[:450]
    score = torch.linspace(0.9, 0.1, num_priors).repeat(2, 1)
    conf = torch.stack([1 - score, score], 2)
    blob = torch.stack([priors, torch.ones(num_priors, 4)]).reshape(1, 2, -1)
    return loc.flatten(1), conf.flatten(1), blob


def build_for_crowd(num_images):
    return build(
        "confidence_threshold: 0.05 keep_top_k: 5",
        head="num_classes: 2 code_type: CORNER",
        shapes=((num_images, 2000), (num_images, 1000), (1, 2, 2000)),
    )


def test_images_may_take_more_looks_than_others():
    """64 boxes are looked at first; the first image has its second detection behind 450."""
    loc, conf, priors = crowd()
    rows = build_for_crowd(2)(loc, conf, priors)[0, 0]
    score = conf.reshape(2, -1, 2)[0, :, 1]
    assert rows[:, 0].tolist() == [0] * 5 + [1] * 5
    assert rows[:5, 2].tolist() == score[[0, 450, 451, 452, 453]].tolist()
    assert rows[5:, 2].tolist() == score[:5].tolist()


def test_a_batch_gives_what_its_images_give():
    loc, conf, priors = crowd()
    together, alone = build_for_crowd(2), build_for_crowd(1)
    images = [alone(loc[i, None], conf[i, None], priors)[0, 0] for i in range(2)]
    images[1][:, 0] = 1
    assert together(loc, conf, priors)[0, 0].tolist() == torch.cat(images).tolist()


def test_boxes_beyond_all_numbers_are_rows_like_others():
    loc, conf, priors = example()
    loc[:, 2::4] = 2000  # the logarithm of a width
    rows = build("background_label_id: -1")(loc, conf, priors)[0, 0]
    assert rows[:, 3].isinf().any()


def test_double_precision_is_kept():
    rows = build()(*(bottom.double() for bottom in example()))
    assert rows.dtype == torch.float64


def test_a_flat_prior_is_refused_when_it_is_decoded():
    loc, conf, priors = example()
    priors[0, 0, 4 * 2 + 2] = 0.5
    with pytest.raises(LayerError, match="prior 2 must have a width and a height"):
        build()(loc, conf, priors)


def saving(tmp_path, **changes):
    """Text of a complete save_output_param, with the files it needs."""
    (tmp_path / "labels.prototxt").write_text(
        'item { name: "none" label: 0 } item { name: "cat" label: 1 } item { name: "dog" label: 2 }'
    )
    (tmp_path / "sizes.txt").write_text("12 300 500\n0034 300 500\n")
    fields = {
        "output_directory": tmp_path / "new" / "results",
        "output_name_prefix": "val",
        "output_format": "ILSVRC",
        "label_map_file": tmp_path / "labels.prototxt",
        "name_size_file": tmp_path / "sizes.txt",
    }
    fields |= changes
    body = " ".join(f'{name}: "{value}"' for name, value in fields.items() if value is not None)
    return f"save_output_param {{ {body} }}"


def test_saving_writes_the_files_of_the_spec(tmp_path):
    settings = "keep_top_k: 3 nms_param { nms_threshold: .45 top_k: 4 } " + saving(tmp_path)
    layer = build(settings)
    assert not (tmp_path / "new").exists()
    layer(*example())
    assert (tmp_path / "new" / "results" / "val.txt").read_text().splitlines() == [
        "12 1 0.63 0 0 198 120",
        "12 2 0.9 0 179 101 240",
        "12 2 0.81 65 28 263 148",
        "0034 1 0.9 247 152 455 269",
        "0034 1 0.72 2 181 100 240",
        "0034 2 0.72 0 0 204 123",
    ]


def test_saving_needs_a_folder(tmp_path):
    assert build(saving(tmp_path, output_directory=None)).writer is None


@pytest.mark.parametrize(
    ("field", "tool"),
    [("label_map_file", "create_label_map"), ("name_size_file", "get_image_size")],
)
def test_a_missing_file_is_named_with_the_tool_that_makes_it(field, tool, tmp_path):
    with pytest.raises(LayerParamError, match=rf"save_output_param\.{field}: .*gone\.txt.*{tool}"):
        build(saving(tmp_path, **{field: tmp_path / "gone.txt"}))


def test_more_test_images_than_sizes_are_refused(tmp_path):
    settings = saving(tmp_path).replace("{", "{ num_test_image: 3", 1)
    with pytest.raises(LayerParamError, match=r"num_test_image must be from 1 to 2.* got 3"):
        build(settings)


def test_visualize_is_refused():
    with pytest.raises(LayerParamError, match=r"'out' \(DetectionOutput\): visualize is not"):
        build("visualize: true")


def test_bottoms_are_left_alone():
    bottoms = example()
    copies = [bottom.clone() for bottom in bottoms]
    build("keep_top_k: 3")(*bottoms)
    for bottom, copy in zip(bottoms, copies, strict=True):
        assert np.array_equal(bottom, copy)


def test_priors_of_other_shapes_mean_the_same():
    loc, scores, priors = example()
    want = build()(loc, scores, priors)
    for other in (priors[..., None], torch.cat([priors, torch.full_like(priors, torch.nan)])):
        layer = build(shapes=(*SHAPES[:2], tuple(other.shape)))
        assert torch.equal(layer(loc, scores, other), want)
