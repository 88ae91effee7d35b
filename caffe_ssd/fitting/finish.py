"""After the training: which weights to use.

BatchNorm's running statistics lag behind in a short training, so the last weights are also tried
with statistics recomputed over training pictures, against the best weights of the tests on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from caffe_ssd.files import atomic_write, read_bytes
from caffe_ssd.fitting.plan import Plan
from caffe_ssd.fitting.quiet import quiet
from caffe_ssd.fitting.run_folder import RunFolder
from caffe_ssd.net.statistics import recompute_statistics
from caffe_ssd.net.weights import save_binary
from caffe_ssd.scoring.loading import load_net
from caffe_ssd.scoring.score import score

PASSES = 50


@dataclass(frozen=True)
class Candidate:
    """Weights and their mAP (11point) on the test pictures.

    Args:
        name: in words.
        path: the caffemodel.
        mean_ap: from 0 to 1.
    """

    name: str
    path: Path
    mean_ap: float


def choose_weights(
    run: RunFolder, plan: Plan, *, device: torch.device, workers: int | None
) -> list[Candidate]:
    """Score what there is, the best first, and copy the best to `run.detector`.

    Raises:
        CaffeError: weights cannot be read, scored or written.
    """
    last = run.snapshot(plan.iterations)
    recomputed = run.snapshots / f"{run.name}_recomputed.caffemodel"
    with quiet():
        _recompute(run, plan, last, recomputed, device, workers)
    paths = {"the last, statistics recomputed": recomputed, "the last": last}
    if run.best.exists():
        paths["the best of the tests on the way"] = run.best
    with quiet():
        found = [
            Candidate(name, path, _mean_ap(run, path, device, workers))
            for name, path in paths.items()
        ]
    found.sort(key=lambda each: -each.mean_ap)
    atomic_write(run.detector, read_bytes(found[0].path))
    return found


def recomputing_passes(plan: Plan) -> int:
    """Over how many training passes statistics are recomputed: fewer after very short trainings."""
    return max(2, min(PASSES, plan.iterations // 4))


def _recompute(
    run: RunFolder,
    plan: Plan,
    weights: Path,
    output: Path,
    device: torch.device,
    workers: int | None,
) -> None:
    net = load_net(
        str(run.prototxt("train")),
        [str(weights)],
        phase="TRAIN",
        device=device,
        workers=workers,
        saves_results=True,
        seed=plan.seed,
    )
    recompute_statistics(net, recomputing_passes(plan))
    save_binary(net, output)


def _mean_ap(run: RunFolder, weights: Path, device: torch.device, workers: int | None) -> float:
    report = score(str(run.prototxt("test")), [str(weights)], device=device, workers=workers)
    return report.map
