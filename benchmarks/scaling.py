"""How DSOD's time grows with the batch, the picture, the classes and the objects to learn.

example: python -m benchmarks.scaling
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.nets import dsod300, images, label_blob, objects
from benchmarks.pairs import alternate, benchmark_parser
from benchmarks.training import Setting, make_solver
from caffe_ssd.engines.accelerate import accelerate
from caffe_ssd.layers.multibox_loss import MultiBoxLoss

ENGINES = ("torch", "openvino")


def detection(
    engine: str, *, variant: str = "DSOD300", data: str = "VOC0712", batch: int = 1
) -> Callable[[], object]:
    """A call that detects in one batch."""
    net = dsod300(variant=variant, data=data, batch=batch)
    accelerate(net, engine)
    x = images(batch, size=512 if variant == "DSOD512" else 300)

    def once() -> object:
        with torch.inference_mode():
            return net({"data": x})

    return once


def detection_table(rounds: int) -> str:
    """Milliseconds per picture of complete detection, by engine."""
    settings: dict[str, dict[str, object]] = {
        f"DSOD300, 21 classes, batch {batch}": {"batch": batch} for batch in (1, 2, 4, 8)
    }
    settings["DSOD300, 81 classes, batch 1"] = {"data": "coco"}
    settings["DSOD512, 21 classes, batch 1"] = {"variant": "DSOD512"}
    lines = [f"| ms per picture | {' | '.join(ENGINES)} |", "|---|" + "---|" * len(ENGINES)]
    for name, fields in settings.items():
        times = alternate({e: detection(e, **fields) for e in ENGINES}, rounds=rounds)  # type: ignore[arg-type]
        batch = int(str(fields.get("batch", 1)))
        cells = [f"{1e3 * times.median(engine) / batch:.0f}" for engine in ENGINES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def loss_table(rounds: int, batch: int = 4) -> str:
    """Milliseconds of MultiBoxLoss, forward and backward, by objects per image."""
    solver = make_solver(Setting(batch=batch))
    with torch.no_grad():
        kept = solver.net(solver.inputs, keep=["mbox_loc", "mbox_conf", "mbox_priorbox"]).blobs
    (layer,) = [module for module in solver.net.layers if isinstance(module, MultiBoxLoss)]

    def run(label: Tensor) -> Callable[[], None]:
        def once() -> None:
            loc, conf = (kept[n].detach().requires_grad_() for n in ("mbox_loc", "mbox_conf"))
            layer(loc, conf, kept["mbox_priorbox"], label).backward()

        return once

    counts = (1, 3, 10, 50)
    things = {str(n): run(label_blob(objects(batch, per_image=n))) for n in counts}
    times = alternate(things, rounds=rounds)
    lines = ["| objects per image | ms of MultiBoxLoss, batch 4 |", "|---|---|"]
    lines += [f"| {name} | {1e3 * times.median(name):.0f} |" for name in things]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser(__doc__, rounds=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(detection_table(args.rounds), "", loss_table(args.rounds), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
