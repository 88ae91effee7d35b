"""Draw the loss, the learning rate's drops and the test scores of a training.

Several trainings are drawn over one another.

example: python examples/plot_training.py models/mine_results.jsonl --output curve.png
"""

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def read_results(path):
    """The records of a `_results.jsonl` that `caffe train` wrote, by kind, the last run's last."""
    kinds = {"train": {}, "test": {}}
    for line in Path(path).read_text().splitlines():
        record = json.loads(line)
        if record["kind"] in kinds:
            kinds[record["kind"]][record["iteration"]] = record  # a resumed run repeats some
    return {kind: [by_iter[i] for i in sorted(by_iter)] for kind, by_iter in kinds.items()}


def draw_curve(results, output, title):
    """Write the picture of one training: loss, scores, and where the learning rate drops."""
    figure, axis = plt.subplots(figsize=(8, 4.5), dpi=120)
    train = results["train"]
    _plot_loss(axis, train, color="tab:blue")
    for before, after in pairwise(train):
        if after["lr"] < 0.9 * before["lr"]:
            axis.axvline(after["iteration"], color="gray", linestyle=":", linewidth=1)
    axis.set(xlabel="iteration", ylabel="smoothed loss", title=title)
    axis.grid(alpha=0.3)
    scores = axis.twinx()
    for name in _outputs(results):
        _plot_score(scores, results, name, color="tab:orange")
        scores.set(ylabel=_shown(results, name), ylim=(0, 1))
    _save(figure, output)


def draw_comparison(trainings, output, title):
    """Write the picture of several trainings: losses on the left, scores on the right.

    Args:
        trainings: pairs of a name and what `read_results` returned.
        output: path of the picture.
        title: written above it.
    """
    figure, (losses, scores) = plt.subplots(1, 2, figsize=(10, 4.2), dpi=120)
    for label, results in trainings:
        (line,) = _plot_loss(losses, results["train"], label=label)
        for name in _outputs(results):
            _plot_score(scores, results, name, color=line.get_color())
            scores.set(ylabel=_shown(results, name), ylim=(0, 1))
    losses.set(xlabel="iteration", ylabel="smoothed loss")
    losses.legend()
    scores.set(xlabel="iteration")
    for axis in (losses, scores):
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    _save(figure, output)


def _outputs(results):
    """Names of the scores of a training's tests."""
    return list(results["test"][0]["outputs"]) if results["test"] else []


def _shown(results, name):
    """What a score is called: that of detections by its name in papers, not by the blob's."""
    return "mAP" if name in results["test"][0].get("class_ap", ()) else name


def _plot_loss(axis, train, **style):
    iterations = [record["iteration"] for record in train]
    return axis.plot(iterations, [record["loss"] for record in train], **style)


def _plot_score(axis, results, name, **style):
    iterations = [record["iteration"] for record in results["test"]]
    values = [record["outputs"][name][0] for record in results["test"]]
    axis.plot(iterations, values, "o-", **style)


def _save(figure, output):
    figure.tight_layout()
    figure.savefig(output)


def main():
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", help="a _results.jsonl beside a snapshot")
    parser.add_argument("--output", default="curve.png", help="picture to write (%(default)s)")
    parser.add_argument("--title", default="", help="written above the curve")
    parser.add_argument("--labels", nargs="+", help="names of several trainings (their paths)")
    args = parser.parse_args()
    labels = args.results if args.labels is None else args.labels
    if len(labels) != len(args.results):
        parser.error(f"{len(args.results)} results need as many --labels, not {len(labels)}")
    trainings = []
    for path in args.results:
        try:
            trainings.append(read_results(path))
        except (OSError, ValueError, KeyError) as error:
            print(f"{path}: not a results file of caffe train: {error}", file=sys.stderr)
            return 1
        if not trainings[-1]["train"]:
            print(f"{path}: no training lines in it", file=sys.stderr)
            return 1
    if len(trainings) == 1:
        draw_curve(trainings[0], args.output, args.title)
    else:
        draw_comparison(list(zip(labels, trainings, strict=True)), args.output, args.title)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
