"""Draw the loss, the learning rate's drops and the test scores of a training.

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
    """Write the picture."""
    figure, axis = plt.subplots(figsize=(8, 4.5), dpi=120)
    train = results["train"]
    iterations = [record["iteration"] for record in train]
    axis.plot(iterations, [record["loss"] for record in train], color="tab:blue", label="loss")
    for before, after in pairwise(train):
        if after["lr"] < 0.9 * before["lr"]:
            axis.axvline(after["iteration"], color="gray", linestyle=":", linewidth=1)
    axis.set(xlabel="iteration", ylabel="smoothed loss", title=title)
    axis.grid(alpha=0.3)
    scores = axis.twinx()
    tests = results["test"]
    for name in tests[0]["outputs"] if tests else []:
        values = [record["outputs"][name][0] for record in tests]
        scores.plot([record["iteration"] for record in tests], values, "o-", color="tab:orange")
        scores.set(ylabel=name, ylim=(0, 1))
    figure.tight_layout()
    figure.savefig(output)


def main():
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", help="a _results.jsonl beside a snapshot")
    parser.add_argument("--output", default="curve.png", help="picture to write (%(default)s)")
    parser.add_argument("--title", default="", help="written above the curve")
    args = parser.parse_args()
    try:
        results = read_results(args.results)
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.results}: not a results file of caffe train: {error}", file=sys.stderr)
        return 1
    if not results["train"]:
        print(f"{args.results}: no training lines in it", file=sys.stderr)
        return 1
    draw_curve(results, args.output, args.title)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
