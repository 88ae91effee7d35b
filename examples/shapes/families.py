"""Train the small net of every family on the shapes of `python -m lmdb_tools.shapes`, and compare.

example: python examples/shapes/families.py --family GRP-DSOD --out families

Pictures and databases are made in OUT where it has none. A family that was trained there before is
only shown again; one that was interrupted goes on from its newest snapshot. In the end OUT has a
table (families.md) and the curves (families.png) of all families trained so far.
"""

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from caffe.models.datasets import read_label_map
from caffe.models.job import newest_snapshot
from caffe.models.shapes import SHAPES
from caffe.models.transfer import read_model

EXAMPLES = Path(__file__).resolve().parents[1]
SCRIPTS = {
    "DSOD": "dsod/DSOD300_pascal.py",
    "GRP-DSOD": "grp_dsod/GRP_DSOD320_pascal.py",
    "ScratchDet": "scratchdet/scratchdet_pascal.py",
    "SSD": "ssd/ssd_pascal.py",
}
NUM_SNAPSHOTS = 4  # in a training, with a test each


def run(words, folder):
    """Show a command and run it in a folder; raises CalledProcessError if it fails."""
    print("$", *words, flush=True)
    subprocess.run([str(word) for word in words], cwd=folder, check=True)


def make_data(out, num_train, num_test):
    """Draw the pictures and make their databases, as far as `out` has none."""
    if not (out / "shapes").exists():
        draw = ["-m", "lmdb_tools.shapes", "shapes", "--train", num_train, "--test", num_test]
        run([sys.executable, *draw], out)
    for part, data_base in (("trainval", SHAPES.train_data), ("test", SHAPES.test_data)):
        if not (out / data_base).exists():
            flags = ["--anno_type=detection", f"--label_map_file={SHAPES.label_map}"]
            flags += ["--check_label", "--encode_type=jpg", "--encoded"]
            run(["convert_annoset", *flags, "shapes/", f"shapes/{part}.txt", data_base], out)


def train(family, out, args):
    """Train a family's small net with the script of the family."""
    interval = max(1, args.max_iter // NUM_SNAPSHOTS)
    flags = ["--data", "shapes", "--variant", "tiny", "--gpu", args.gpu]
    flags += ["--max-iter", args.max_iter, "--name-size-file", SHAPES.name_size_file]
    flags += ["--test-interval", interval, "--snapshot-interval", interval]
    for folder, kind in (("model", ""), ("job", "/job"), ("output", "/results")):
        flags += [f"--{folder}-dir", family + kind]
    run([sys.executable, EXAMPLES / SCRIPTS[family], *flags, "--no-debug-info"], out)


def results_of(folder):
    """Return the records of a training; none if it has not ended with a test."""
    paths = sorted(folder.glob("*_results.jsonl"))
    return [json.loads(line) for line in paths[0].read_text().splitlines()] if paths else []


def last_test(records, max_iter):
    """Return the record of the test after the last iteration, or None."""
    tests = [record for record in records if record["kind"] == "test"]
    return tests[-1] if tests and tests[-1]["iteration"] >= max_iter else None


def seconds_spent(records):
    """Return how long a training took, breaks between its runs left out."""
    steps = pairwise(records)
    return sum(b["time"] - a["time"] for a, b in steps if b["kind"] != "start")


def row_of(family, folder, records, test):
    """Return a family's row of the table."""
    (scores,) = test["class_ap"].values()
    ((mean,),) = test["outputs"].values()
    prefix = str(next(folder.glob("*_results.jsonl"))).removesuffix("_results.jsonl")
    weights = read_model(newest_snapshot(prefix, ".caffemodel"))
    floats = sum(len(blob.data) for layer in weights.layer for blob in layer.blobs)
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    cells = [family, f"{floats:,}", test["iteration"], f"{seconds_spent(records) / 60:.1f}"]
    cells += [f"{losses[0]:.1f} -> {losses[-1]:.2f}"]
    cells += [f"{scores[label]:.3f}" for label in sorted(scores, key=int)]
    return [*cells, f"{mean:.3f}"]


def write_summary(out, max_iter):
    """Write the table and the curves of all families that have been trained; print the table."""
    names = read_label_map(str(out / SHAPES.label_map))
    classes = [names[label] for label in sorted(names) if label != 0]
    head = ["family", "floats", "iterations", "minutes", "loss", *classes, "mAP"]
    rows, trained = [head, ["---"] * len(head)], []
    for family in SCRIPTS:
        records = results_of(out / family)
        test = last_test(records, max_iter)
        if test is not None:
            rows.append(row_of(family, out / family, records, test))
            trained.append(family)
    table = "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
    (out / "families.md").write_text(table)
    print(table, end="")
    results = [next((out / family).glob("*_results.jsonl")) for family in trained]
    plot = [EXAMPLES / "plot_training.py", *[path.relative_to(out) for path in results]]
    run([sys.executable, *plot, "--labels", *trained, "--output", "families.png"], out)


def main():
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--family", choices=list(SCRIPTS), nargs="+", default=list(SCRIPTS), help="(all)")
    add("--out", type=Path, default=Path("families"), help="folder for everything (%(default)s)")
    add("--max-iter", type=int, default=1000, help="iterations of each (%(default)s)")
    add("--train", type=int, default=2000, help="pictures to learn from (%(default)s)")
    add("--test", type=int, default=300, help="pictures to score on (%(default)s)")
    add("--gpu", default="none", help="ids like 0,1, `all`, or `none` for the CPU (%(default)s)")
    args = parser.parse_args()
    out = args.out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        make_data(out, args.train, args.test)
        for family in args.family:
            if last_test(results_of(out / family), args.max_iter) is None:
                train(family, out, args)
        write_summary(out, args.max_iter)
    except subprocess.CalledProcessError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
