"""DetectionEvaluate against the example of the spec."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.registry import LayerSpec, build_layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.proto.caffe_pb2 import LayerParameter
from tests.boxes.naive import naive_iou

DETECTIONS = [
    [0, 1, 0.3, 0.1, 0, 0.4, 0.3],
    [0, 1, 0.9, 0.7, 0.6, 0.8, 0.8],
    [0, 1, 0.7, 0, 0.1, 0.2, 0.3],
]
LABEL = [[0, 1, 0, 0.1, 0.1, 0.3, 0.3, 0], [0, 1, 1, 0.6, 0.6, 0.8, 0.8, 1]]


def blob(*rows):
    return torch.tensor(rows, dtype=torch.float32)[None, None]


@pytest.mark.parametrize(
    ("difficult", "num_pos", "verdicts"),
    [(True, 2, [[1, 0], [1, 0], [0, 1]]), (False, 1, [[0, 0], [1, 0], [0, 1]])],
)
def test_the_example_of_the_spec(difficult, num_pos, verdicts):
    layer = DetectionEvaluate(num_classes=3, overlap_threshold=0.3, evaluate_difficult_gt=difficult)
    rows = layer(blob(*DETECTIONS), blob(*LABEL))[0, 0]
    assert rows[:2].tolist() == [[-1, 1, num_pos, -1, -1], [-1, 2, 0, -1, -1]]
    torch.testing.assert_close(rows[2:, 2], torch.tensor([0.9, 0.7, 0.3]))
    assert rows[2:, 3:].tolist() == verdicts


def test_an_object_is_found_once_and_others_are_false_alarms():
    layer = DetectionEvaluate(num_classes=2)
    box = [0.1, 0.1, 0.3, 0.3]
    detections = blob([0, 1, 0.5, *box], [0, 1, 0.9, *box], [1, 1, 0.7, *box])
    rows = layer(detections, blob([0, 1, 0, *box, 0]))[0, 0, 1:]
    torch.testing.assert_close(rows[:, 2], torch.tensor([0.9, 0.5, 0.7]))
    assert rows[:, 3].tolist() == [1, 0, 0]


def sizes(count):
    return [ImageSize(name=str(i), height=10 * (i + 1), width=7 * (i + 1)) for i in range(count)]


def test_every_image_moves_the_sizes_on():
    """Image 0 has nothing detected, and still image 1 is judged by its own size."""
    layer = DetectionEvaluate(num_classes=2, sizes=sizes(5))
    layer(blob([1, 1, 0.9, 0.1, 0.1, 0.3, 0.3]), blob([0, 1, 0, 0.1, 0.1, 0.3, 0.3, 0]))
    assert layer.next_image == 2


def test_the_batch_size_may_be_told():
    layer = DetectionEvaluate(num_classes=2, sizes=sizes(5))
    found, gts = blob([0, 1, 0.9, 0.1, 0.1, 0.3, 0.3]), blob([1, 1, 0, 0.1, 0.1, 0.3, 0.3, 0])
    # The last image has neither objects nor detections.
    layer(found, gts, context=RunContext(device=torch.device("cpu"), batch_size=3))
    assert layer.next_image == 3


def random_rows(count, width, *, num_images, seed):
    """Rows by image, with ties of scores and overlaps."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, width), np.float32)
    rows[:, 0] = np.sort(rng.integers(0, num_images, count))
    rows[:, 1] = rng.integers(1, 4, count)
    rows[:, 2] = rng.integers(0, 6, count) / 5
    low, side = rng.integers(0, 4, (2, count, 2)) / 10
    rows[:, 3:5], rows[:, 5:7] = low, low + side + 0.2
    if width == 8:
        rows[:, 2], rows[:, 7] = 0, rng.integers(0, 2, count)
    return torch.from_numpy(rows)[None, None]


@pytest.mark.parametrize("difficult", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_batch_is_judged_as_its_images_are(known, difficult):
    settings = {
        "num_classes": 4,
        "evaluate_difficult_gt": difficult,
        "sizes": sizes(3) if known else None,
    }
    found = random_rows(120, 7, num_images=5, seed=1)
    gts = random_rows(25, 8, num_images=4, seed=2)  # none in the last one
    together = DetectionEvaluate(**settings)(found, gts)[0, 0]
    alone, layer = [], DetectionEvaluate(**settings)
    for image in range(5):
        parts = (rows[:, :, rows[0, 0, :, 0] == image] for rows in (found, gts))
        layer.next_image = 0  # the rows tell the image
        alone.append(layer(*parts)[0, 0])
    assert together[3:].tolist() == torch.cat([rows[3:] for rows in alone]).tolist()
    assert together[:3, 2].tolist() == sum(rows[:3, 2] for rows in alone).tolist()
    assert 0 < together[3:, 3].sum() < 120


def naive_verdicts(found, gts, threshold):
    """Spec ssd-layers.md section 4, one detection at a time; difficult objects count."""
    verdicts = []
    for image, label in sorted({(int(row[0]), int(row[1])) for row in found}):
        mine = [row for row in found if (row[0], row[1]) == (image, label)]
        objects = [row for row in gts if (row[0], row[1]) == (image, label)]
        hit = set()
        for row in sorted(mine, key=lambda row: -row[2] if objects else 0):
            overlaps = [naive_iou(row[3:7], each[3:7]) for each in objects]
            best = max(range(len(objects)), key=lambda i: overlaps[i], default=None)
            is_hit = best is not None and overlaps[best] >= threshold and best not in hit
            if is_hit:
                hit.add(best)
            verdicts.append([image, label, row[2], float(is_hit), float(not is_hit)])
    return verdicts


def test_matches_a_naive_loop():
    found = random_rows(150, 7, num_images=4, seed=3)
    gts = random_rows(30, 8, num_images=4, seed=4)
    rows = DetectionEvaluate(num_classes=4)(found, gts)[0, 0, 3:]
    assert rows.tolist() == naive_verdicts(found[0, 0].tolist(), gts[0, 0].tolist(), 0.5)


def test_labels_beyond_the_classes_have_rows_and_the_surplus_is_zero():
    """Labels of -1 have none, but where the image is -1 every other label counts for a row."""
    box = [0.1, 0.1, 0.3, 0.3]
    found = blob([-1, 5, 0.9, *box], [0, 7, 0.8, *box], [0, -1, 0.7, *box], [-1, -1, -1, *box])
    rows = DetectionEvaluate(num_classes=2)(found, blob([0, 1, 0, *box, 0]))[0, 0, 1:]
    torch.testing.assert_close(rows, torch.tensor([[0, 7, 0.8, 0, 1], [0, 0, 0, 0, 0]]))


def test_a_label_beyond_all_reason_is_refused():
    with pytest.raises(LayerError, match=r"number of an image or label .* rows are damaged"):
        DetectionEvaluate(num_classes=2)(blob([0, 2e12, 0.9, 0, 0, 1, 1]), blob(LABEL[0]))


def build(settings, shapes=((1, 1, 5, 7), (1, 1, 2, 8))):
    text = f"""
        name: "eval" type: "DetectionEvaluate" bottom: "det" bottom: "gt" top: "out" phase: TEST
        detection_evaluate_param {{ {settings} }}
    """
    param = text_format.Parse(text, LayerParameter())
    return build_layer(LayerSpec(param=param, bottoms=shapes))


def test_a_missing_size_file_is_named_with_the_tool_that_makes_it(tmp_path):
    with pytest.raises(LayerParamError, match=r"name_size_file: .*gone\.txt.*get_image_size"):
        build(f'num_classes: 2 name_size_file: "{tmp_path}/gone.txt"')


def test_a_bottom_of_another_width_is_refused():
    with pytest.raises(ShapeError, match=r"bottom 1 must have shape \(1, 1, rows, 8\)"):
        build("num_classes: 2", ((1, 1, 5, 7), (1, 1, 2, 7)))


def test_a_threshold_of_zero_is_refused():
    with pytest.raises(LayerParamError, match="overlap_threshold must be positive, got 0"):
        build("num_classes: 2 overlap_threshold: 0")


def test_a_detected_background_is_refused():
    with pytest.raises(LayerError, match="background label 0 is among the detections"):
        build("num_classes: 2")(blob([0, 0, 0.9, 0, 0, 1, 1]), blob(LABEL[0]))
