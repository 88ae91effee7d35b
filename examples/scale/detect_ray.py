#!/usr/bin/env python3
"""Detect on very many pictures with Ray Data: one detector per worker, results in files.

    python detect_ray.py pictures/ --model deploy.prototxt --weights x.caffemodel --output found
    python detect_ray.py shards/ --model ... --weights ... --output found --format parquet \\
        --address auto --workers 64 --gpus-per-worker 1

Sources are folders of pictures, lists (.txt), tar shards or folders of them, and LMDBs. They are
cut into parts; each part's results appear in the output folder as one whole file. A worker that
dies is started again by Ray and does its part anew; start the same command again to go on after
anything else. With --workers 0 everything runs in this process, without Ray and with the same
results. On a cluster all machines must see sources, model and output under the same names. See
docs/machines.md.
"""

import argparse
import hashlib
import logging
import os
import sys
import time
from pathlib import Path

from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import CaffeError, DataError, UsageError
from caffe_ssd.files import read_bytes
from caffe_ssd.scoring.part_plan import FORMATS, open_plan
from caffe_ssd.scoring.part_work import check_format, do_part


class Worker:
    """Does parts of a plan with a detector of its own, which is made in the worker's process.

    Args:
        plan: all parts.
        make_detector: the arguments of `Detector`.
        threads: of the CPU, for the net.
    """

    def __init__(self, plan, make_detector, threads):
        import torch

        from caffe_ssd import Detector

        if threads:
            torch.set_num_threads(threads)
        self.plan = plan
        self.detector = Detector(**make_detector)

    def __call__(self, row):
        """A row {"part": number} -> what became of it."""
        row = {"part": int(row["part"]), "process": os.getpid(), "failed": ""}
        start = time.perf_counter()
        done = {"pictures": 0, "unread": 0, "objects": 0}
        try:
            done = do_part(self.detector, self.plan, row["part"])._asdict()
        except CaffeError as error:  # the others parts go on
            row["failed"] = str(error)
        return {**row, **done, "seconds": time.perf_counter() - start}


def rows_of_ray(args, plan, parts, make_detector):
    """Do the parts in workers of a Ray cluster; yields their rows as they are done."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"this needs Ray ({install_hint('ray')}), or --workers 0") from error
    cores = None if args.address else max(args.workers * args.cpus_per_worker, 1)
    ray.init(
        address=args.address,
        num_cpus=cores,
        include_dashboard=None if args.address else False,
        logging_level=logging.WARNING,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Ray Data starts workers again and hands them their parts for ever; `do_part` sets the end.
    parts = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    rows = parts.map(
        Worker,
        fn_constructor_args=(plan, make_detector, args.cpus_per_worker),
        compute=ray.data.ActorPoolStrategy(size=args.workers, max_tasks_in_flight_per_actor=2),
        num_cpus=args.cpus_per_worker,
        num_gpus=args.gpus_per_worker,
    )
    try:
        yield from rows.iter_rows()
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"Ray gave up: {reason}; start again to go on") from error
    finally:
        ray.shutdown()


def rows_of_here(plan, parts, make_detector):
    """Do the parts in this process."""
    worker = Worker(plan, make_detector, 0)
    for part in parts:
        yield worker({"part": part})


def parse(arguments):
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE")
    add("--model", required=True, help="deploy.prototxt")
    add("--weights", required=True, help="caffemodel")
    add("--labels", help="label map with the names of the classes")
    add("--threshold", type=float, default=0.5, help="lowest score (%(default)s)")
    add("--engine", default="auto", help="what runs the net, as in `caffe detect` (%(default)s)")
    add("--precision", default="fp32", choices=("fp32", "bf16"))
    add("--batch", type=int, default=8, help="pictures in one pass (%(default)s)")
    add("--output", required=True, help="folder of plan and results")
    add("--format", default="jsonl", choices=FORMATS)
    add("--part-size", type=int, default=1000, help="pictures in a part (%(default)s)")
    add("--workers", type=int, default=2, help="0: this process alone, without Ray (%(default)s)")
    add("--cpus-per-worker", type=int, default=1)
    add("--gpus-per-worker", type=float, default=0)
    add("--address", help="of a Ray cluster, as `auto`; without it, one on this machine")
    args = parser.parse_args(arguments)
    if args.workers < 0:
        parser.error(f"--workers must be at least 0, got {args.workers}")
    return args


def detector_arguments(args):
    """The arguments of `Detector`; workers do not share our working folder."""
    return {
        "model": os.path.abspath(args.model),
        "weights": os.path.abspath(args.weights),
        "labels": None if args.labels is None else os.path.abspath(args.labels),
        "threshold": args.threshold,
        "engine": args.engine,
        "precision": args.precision,
        "batch": args.batch,
        "device": "cuda" if args.gpus_per_worker else "cpu",
    }


def settings_of(make_detector):
    """What results depend on: files by their content."""
    files = ("model", "weights", "labels")
    digests = {
        name: hashlib.sha256(read_bytes(make_detector[name])).hexdigest()
        for name in files
        if make_detector[name] is not None
    }
    return {name: value for name, value in make_detector.items() if name not in files} | digests


def run(args):
    """Do what is left to do of the plan; the exit status."""
    check_format(args.format)
    make_detector = detector_arguments(args)
    plan = open_plan(
        Path(args.output).absolute(),
        args.sources,
        size=args.part_size,
        format=args.format,
        settings=settings_of(make_detector),
    )
    parts = plan.missing()
    print(f"{len(plan.parts)} parts, {len(plan.parts) - len(parts)} of them done", flush=True)
    if not parts:
        return 0
    if args.workers:
        rows = rows_of_ray(args, plan, parts, make_detector)
    else:
        rows = rows_of_here(plan, parts, make_detector)
    pictures = unread = 0
    failed = []
    begin = None
    for count, row in enumerate(rows, 1):
        begin = time.perf_counter() - row["seconds"] if begin is None else begin
        pictures += row["pictures"]
        unread += row["unread"]
        if row["failed"]:
            failed.append(f"part {row['part']}: {row['failed']}")
        rate = pictures / (time.perf_counter() - begin)
        print(
            f"{count}/{len(parts)} parts: part {row['part']} by process {row['process']}, "
            f"{row['pictures']} pictures, {row['objects']} objects; {rate:.1f} images/s in all",
            flush=True,
        )
    print(f"{pictures} pictures, {unread} of them could not be read -> {plan.folder}")
    left = plan.missing()
    if failed or left:
        raise DataError(
            "\n  ".join(
                [f"{len(left)} of {len(plan.parts)} parts are left; start again to try", *failed]
            )
        )
    return 0


def main(arguments=None):
    """Run; returns the exit status."""
    try:
        return run(parse(arguments))
    except CaffeError as error:
        print(f"detect_ray: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main())
