"""What is tried on the simulated device, each in a process of its own.

Started with the guard, the name of a scenario and its arguments (see test_simulated.py), it prints
one line of JSON, which the tests judge.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.support import simulated_device
from tests.support.simulated_device import WAITS

DEVICE = torch.device("cuda:0")


def training() -> dict[str, Any]:
    """Iterations of the demo's net on the CPU and on the device, and the waits of one."""
    from benchmarks.gpu_check.nets import TOY, memory_solver

    losses = {}
    for device in ("cpu", DEVICE):
        solver = memory_solver(TOY, 4, device)
        solver.step(3)
        WAITS.clear()
        solver.step(4)
        losses[str(device)] = solver.listed_losses
    waits = dict(WAITS)
    return {"losses": {name: listed() for name, listed in losses.items()}, "waits": waits}


def loss_settings() -> dict[str, Any]:
    """Loss and gradients of MultiBoxLoss in many settings, largest difference from the CPU's."""
    from tests.layers.test_multibox_loss import build, example

    found = {}
    for settings in (
        "",
        "neg_pos_ratio: .9",
        "use_difficult_gt: false",
        "overlap_threshold: .35 neg_overlap: .3",
        "match_type: BIPARTITE",
        "mining_type: NONE",
        "mining_type: NONE conf_loss_type: LOGISTIC",
        "mining_type: HARD_EXAMPLE sample_size: 4",
        "conf_loss_type: LOGISTIC",
        "use_prior_for_matching: false bp_inside: true",
        "loc_loss_type: L2 loc_weight: 2 encode_variance_in_target: true",
        "nms_param { nms_threshold: .5 top_k: 10 } use_prior_for_nms: true",
    ):
        results = []
        for device in ("cpu", DEVICE):
            loc, conf, priors, label = (x.detach().to(device) for x in example())
            loc.requires_grad_()
            conf.requires_grad_()
            loss = build(settings)(loc, conf, priors, label)
            loss.backward()
            results.append([x.detach().cpu() for x in (loss, loc.grad, conf.grad)])
        gaps = [float((a - b).abs().max()) for a, b in zip(*results, strict=True)]
        found[settings] = max(gaps)
    return found


def bad_priors() -> list[str]:
    """A prior that cannot be coded, found late, and later still."""
    from caffe_ssd.errors import LayerError
    from tests.layers.test_multibox_loss import build, example

    loc, conf, priors, label = (x.detach().to(DEVICE) for x in example())
    flawed = priors.clone()
    flawed[0, 1, 4] = 0
    layer = build()
    said = []
    for last in (flawed, priors):
        layer(loc.requires_grad_(), conf, flawed, label)
        layer(loc, conf, last, label)
        try:
            layer.check()
        except LayerError as error:
            layer.check()  # it is said once
            said.append(str(error))
    return said


def detection() -> dict[str, Any]:
    """DetectionOutput on the CPU and on the device, and the waits of one call."""
    from tests.layers.test_detection_output import build, example

    gaps, waits, lines = [], 0, set()
    for settings in (
        "",
        "keep_top_k: 3 nms_param { nms_threshold: .45 top_k: 4 }",
        "nms_param { nms_threshold: .9 eta: .8 }",
        "confidence_threshold: .99",
        "background_label_id: -1",
    ):
        layer = build(settings)
        want = layer(*example())
        bottoms = [x.to(DEVICE) for x in example()]
        WAITS.clear()
        have = layer(*bottoms)
        waits = max(waits, WAITS.total())
        lines |= set(WAITS)
        assert have.device == DEVICE
        gaps.append(float((have.cpu() - want).abs().max()))
    return {"gap": max(gaps), "waits": waits, "lines": sorted(lines)}


def labels_from_the_host() -> dict[str, Any]:
    """Who asks for what the host sent does not wait; who asks for something else gets that."""
    from caffe_ssd.layers.run_context import RunContext
    from caffe_ssd.layers.split import split

    context = RunContext(device=DEVICE)
    sent = torch.arange(8.0).reshape(1, 1, 1, 8)
    (top,) = context.received([sent])
    WAITS.clear()
    first, second = (context.on_host(x) for x in split(top, 2))
    early = WAITS.total()
    equal = torch.equal(first, sent) and torch.equal(second, sent)
    part = context.on_host(top[..., :4]).flatten().tolist()
    top += 1
    late = context.on_host(top).flatten().tolist()
    return {"waits": early, "equal": equal, "part": part, "late": late}


def recorded(number: str, of: str) -> dict[str, Any]:
    """Every `of`-th recorded case from `number` on; those that differ."""
    import caffe

    from benchmarks.gpu_check.recorded import check_case
    from tests.support.golden import GOLDEN

    caffe.set_mode_gpu()
    caffe.set_device(0)
    failed = {}
    paths = [p for part in ("layers", "solvers") for p in sorted((GOLDEN / part).rglob("*.npz"))]
    paths = paths[int(number) :: int(of)]
    for path in paths:
        try:
            check_case(path)
        except Exception as error:
            failed[f"{path.parent.name}/{path.stem}"] = f"{type(error).__name__}: {error}"
    return {"failed": failed, "count": len(paths)}


def command(*lines: str) -> dict[str, Any]:
    """The command `caffe`, once for each line of arguments; exit statuses, and devices used."""
    from caffe_ssd.cli.main import main

    statuses = [main(json.loads(line)) for line in lines]
    return {"statuses": statuses, "used": sorted(simulated_device.USED)}


SCENARIOS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        training,
        loss_settings,
        bad_priors,
        detection,
        labels_from_the_host,
        recorded,
        command,
    )
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    simulated_device.install(Path(sys.argv[1]))
    if sys.argv[2] != "command":
        os.chdir(tempfile.mkdtemp())
    from tests.device import graphs

    found = (SCENARIOS | graphs.SCENARIOS)[sys.argv[2]](*sys.argv[3:])
    print(json.dumps(found))
