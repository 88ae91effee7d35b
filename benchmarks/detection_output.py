"""DetectionOutput beside OpenVINO's operator of that name, and what judging a test set takes.

example: python -m benchmarks.detection_output --rounds 9

8,732 priors, and scores above the threshold are either few, some 40 in an image as behind a trained
detector, or nearly all, as random predictions make them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.pairs import alternate, benchmark_parser
from caffe_ssd.boxes.coding import CodeType
from caffe_ssd.boxes.detection import DetectionRule
from caffe_ssd.evaluate.mean_ap import MeanAPAccumulator
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.detection_output import DetectionOutput

NUM_PRIORS = 8732
VARIANCES = np.float32([0.1, 0.1, 0.2, 0.2])
RULE = DetectionRule(confidence_threshold=0.01, nms_threshold=0.45, top_k=400, keep_top_k=200)
TEST_SET = 4952
FOUND = 200


def bottoms(classes: int, batch: int, *, many: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Location codes, scores and priors."""
    rng = np.random.default_rng(0)
    center, side = rng.random((2, NUM_PRIORS, 2))
    side = 0.3 * side + 0.02
    boxes = np.concatenate([center - side / 2, center + side / 2], 1).reshape(-1)
    priors = np.stack([boxes, np.tile(VARIANCES, NUM_PRIORS)])[None].astype(np.float32)
    loc = rng.normal(size=(batch, 4 * NUM_PRIORS)).astype(np.float32)
    if many:
        scores = torch.from_numpy(rng.normal(scale=1.5, size=(batch, NUM_PRIORS, classes)))
        scores = scores.float().softmax(2)
    else:
        shape = (batch, NUM_PRIORS, classes)
        hit = rng.random(shape) < 40 / (NUM_PRIORS * max(1, classes - 1))
        scores = torch.from_numpy(np.where(hit, rng.random(shape), 0.009).astype(np.float32))
    return torch.from_numpy(loc), scores.flatten(1), torch.from_numpy(priors)


def own(classes: int, blobs: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    """A call of the layer."""
    layer = DetectionOutput(num_classes=classes, rule=RULE, code_type=CodeType.CENTER_SIZE)
    return lambda: layer(*blobs)


def openvino(blobs: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    """A call of a model that is the operator alone."""
    import openvino as ov
    from openvino import opset8

    loc, conf, priors = (blob.numpy() for blob in blobs)
    inputs = [opset8.parameter(list(x.shape), np.float32) for x in (loc, conf)]
    settings = {
        "background_label_id": 0,
        "top_k": RULE.top_k,
        "keep_top_k": [RULE.keep_top_k],
        "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
        "share_location": True,
        "nms_threshold": RULE.nms_threshold,
        "confidence_threshold": RULE.confidence_threshold,
        "normalized": True,
    }
    output = opset8.detection_output(*inputs, opset8.constant(priors), settings)
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    request = (
        ov.Core()
        .compile_model(ov.Model([output], inputs, "output"), "CPU", threads)
        .create_infer_request()
    )
    for index, array in enumerate((loc, conf)):
        request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
    return lambda: request.infer()


def output_table(rounds: int, largest: int) -> str:
    """Milliseconds of both, best and median, and the median of the ratios."""
    lines = [
        "| classes | batch | candidates | DetectionOutput ms | OpenVINO ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for classes in (2, 21, 81, 601):
        for batch in (1, 8):
            for many in (False, True):
                if many and classes * batch > largest:
                    continue  # OpenVINO's takes minutes
                blobs = bottoms(classes, batch, many=many)
                count = (blobs[1].view(batch, NUM_PRIORS, classes)[..., 1:] > 0.01).sum()
                things = {"own": own(classes, blobs), "peer": openvino(blobs)}
                times = alternate(things, rounds=rounds, warm_up=1)
                cells = " | ".join(
                    f"{1e3 * min(times.seconds[name]):.3g} / {1e3 * times.median(name):.3g}"
                    for name in ("own", "peer")
                )
                ratio = times.ratio("own", "peer")
                lines.append(f"| {classes} | {batch} | {int(count):,} | {cells} | {ratio:.2f} |")
    return "\n".join(lines)


def evaluation_table() -> str:
    """Seconds for a test set, in batches of 1 and 8."""
    rng = np.random.default_rng(0)
    sizes = [ImageSize(name=str(i), height=375, width=500) for i in range(TEST_SET)]
    lines = ["| batch | DetectionEvaluate s | mAP s |", "|---|---|---|"]
    for batch in (1, 8):
        found, objects = np.zeros((batch * FOUND, 7)), np.zeros((batch * 3, 8))
        for rows in (found, objects):
            rows[:, 0] = np.repeat(np.arange(batch), len(rows) // batch)
            rows[:, 1] = rng.integers(1, 21, len(rows))
            rows[:, 3:5], rows[:, 5:7] = 0.6 * rng.random((2, len(rows), 2))
            rows[:, 5:7] += rows[:, 3:5]
        found[:, 2] = rng.random(len(found))
        blobs = [torch.from_numpy(rows.astype(np.float32))[None, None] for rows in (found, objects)]
        layer = DetectionEvaluate(num_classes=21, evaluate_difficult_gt=False, sizes=sizes)
        accumulator, start = MeanAPAccumulator(), time.perf_counter()
        tops = [layer(*blobs).numpy() for _ in range(TEST_SET // batch)]
        judged = time.perf_counter()
        for top in tops:
            accumulator.update(top)
        accumulator.compute()
        end = time.perf_counter()
        lines.append(f"| {batch} | {judged - start:.2f} | {end - judged:.2f} |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser(__doc__, rounds=9, threads=1)
    parser.add_argument(
        "--largest",
        type=int,
        default=81,
        help="many candidates only up to so many classes times images (%(default)s)",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(output_table(args.rounds, args.largest), "", evaluation_table(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
