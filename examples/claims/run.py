"""Show the papers' claims in miniature: small nets on synthetic shapes, each from several seeds.

example: python examples/claims/run.py --claim bn batch --out claims

Each training has a folder of its own in OUT/runs and, when it has ended, a file in OUT/results; it
is not run again while that file is there, and an interrupted one goes on from its newest snapshot.
In the end OUT has a table with the papers' numbers beside (claims.md), a picture (claims.png), and
what was measured (measured.jsonl: a training per line, with its losses) of all that has been
trained so far. Everything takes about two hours on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).parents[1] / "shapes")]

from caffe.models.files import write_whole  # noqa: E402
from caffe.models.job import write_prototxt  # noqa: E402
from caffe.models.recipe import Places, make_nets, make_solver  # noqa: E402
from cells import CELLS, CLAIMS, COMPARISONS  # noqa: E402
from families import last_test, make_data, results_of, seconds_spent  # noqa: E402

LEARNT = 5.0  # percent of mAP; below it there is nothing to compare
DIVERGED = "not finite"  # in the line that ends a training whose numbers are not


def recipe_of(cell, seed, max_iter):
    """Return what is trained, at this length and from this seed."""
    schedule = cell.recipe.schedule.stretched(max_iter)
    schedule = schedule._replace(
        random_seed=seed,
        snapshot=max(1, max_iter // 4),
        test_interval=max_iter,
        accum_batch_size=schedule.accum_batch_size // cell.processes,
    )
    return cell.recipe._replace(schedule=schedule)


def write_files(cell, folder, seed, args):
    """Write the prototxt files of a training; `folder` is relative to where it will run."""
    dataset = cell.recipe.dataset._replace(num_test_image=args.test)
    recipe = recipe_of(cell, seed, args.max_iter)._replace(dataset=dataset)
    places = Places(*[str(folder)] * 3, output_dir=str(folder / "found"))
    messages = make_nets(recipe, places.output_dir)
    messages["solver"] = make_solver(recipe, places, [])
    for kind, message in messages.items():
        write_prototxt(str(args.out / folder / f"{kind}.prototxt"), message)


def result_path(cell, seed, args):
    """Return the file that says how a training ended."""
    return args.out / "results" / f"{cell.claim}-{cell.name}-{seed}.json"


def train(cell, seed, args):
    """Train, or go on with, one cell from one seed, and write its result.

    Raises:
        subprocess.CalledProcessError: the training failed, not for its numbers.
    """
    folder = Path("runs", cell.claim, cell.name, str(seed))
    (args.out / folder / "found").mkdir(parents=True, exist_ok=True)
    write_files(cell, folder, seed, args)
    flags = ["-solver", folder / "solver.prototxt", "-snapshot", "auto", *cell.flags]
    if cell.processes > 1:
        flags += ["-cpu_processes", cell.processes]
    command = [sys.executable, "-m", "caffe_ssd", "train", *map(str, flags)]
    print(f"{cell.claim} {cell.name}, seed {seed}", flush=True)
    log = args.out / folder / "train.log"
    with open(log, "ab") as file:
        threads = max(1, (os.cpu_count() or 1) // args.jobs)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        done = subprocess.run(command, cwd=args.out, env=environment, stdout=file, stderr=file)
    records = results_of(args.out / folder)
    test = last_test(records, args.max_iter)
    last_words = log.read_text(errors="replace")[-2000:]
    if done.returncode != 0 and DIVERGED not in last_words:
        print(last_words, file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)
    if done.returncode == 0 and test is None:
        return  # stopped on the way: the next run goes on
    result = {"diverged": done.returncode != 0, "map": 0.0, "seconds": seconds_spent(records)}
    if test is not None and not result["diverged"]:
        ((result["map"],),) = test["outputs"].values()
    result |= {"iterations": args.max_iter, "train": args.train, "test": args.test}
    write_whole(str(result_path(cell, seed, args)), json.dumps(result, indent=1).encode())


def train_all(args):
    """Train what has no result yet, some at a time.

    Raises:
        subprocess.CalledProcessError: one failed; those that have begun are still ended.
    """
    # Seed by seed, so that an early look has all cells.
    todo = [
        (cell, seed)
        for seed in args.seeds
        for cell in CELLS
        if cell.claim in args.claim and cell.name in (args.only or [cell.name])
        if not result_path(cell, seed, args).exists()
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(train, cell, seed, args) for cell, seed in todo]
        try:
            for job in as_completed(jobs):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def measured(args):
    """Return what all trainings that have ended gave, in the order of the tables."""
    found = []
    for cell in CELLS:
        prefix = f"{cell.claim}-{cell.name}-"
        names = [path.stem for path in (args.out / "results").glob(f"{prefix}*.json")]
        for seed in sorted(int(n[len(prefix) :]) for n in names if n[len(prefix) :].isdigit()):
            records = results_of(args.out / "runs" / cell.claim / cell.name / str(seed))
            losses = [round(each["loss"], 3) for each in records if each["kind"] == "train"]
            result = json.loads(result_path(cell, seed, args).read_text())
            who = {"claim": cell.claim, "net": cell.name, "seed": seed}
            found.append({**who, **result, "losses": losses})
    return found


def results(cell, found):
    """Return those of one cell."""
    return [each for each in found if (each["claim"], each["net"]) == (cell.claim, cell.name)]


def check_same(args):
    """Refuse to mix trainings of different lengths or data.

    Raises:
        ValueError: there are results of others.
    """
    wanted = {"iterations": args.max_iter, "train": args.train, "test": args.test}
    for path in sorted((args.out / "results").glob("*.json")):
        found = json.loads(path.read_text())
        if any(found[name] != value for name, value in wanted.items()):
            there = {name: found[name] for name in wanted}
            raise ValueError(f"{path} is of {there}, not of {wanted}; give another --out")


def verdict(worse, better):
    """Say whether the second list of mAPs is above the first, beyond their spread."""
    gain = mean(better) - mean(worse)
    if max(mean(worse), mean(better)) < LEARNT:
        return gain, "neither has learnt anything"
    spread = sum(stdev(each) if len(each) > 1 else 0 for each in (worse, better)) / 2
    if abs(gain) <= spread or gain == 0:
        return gain, "not visible at this size"
    return gain, "reproduced in direction" if gain > 0 else "opposite"


def table(head, rows):
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def percent(value):
    """Return a mAP of the papers as text."""
    return "-" if value is None else f"{value:.1f}"


def row_of(cell, found):
    """Return a cell's row of the table, or None if it was not trained."""
    own = results(cell, found)
    if not own:
        return None
    maps = [100 * each["map"] for each in own]
    spread = f"{stdev(maps):.1f}" if len(maps) > 1 else "-"
    diverged = sum(each["diverged"] for each in own)
    published = percent(cell.published)
    if cell.published_with is not None:
        published += f" ({percent(cell.published_with)} with it)"
    minutes = mean(each["seconds"] for each in own) / 60
    return [
        cell.name,
        published,
        f"{mean(maps):.1f}",
        spread,
        len(maps),
        diverged,
        f"{minutes:.1f}",
    ]


def sentence(worse, better, found):
    """Return what became of one comparison of the papers, as a line."""
    maps = [[100 * each["map"] for each in results(cell, found)] for cell in (worse, better)]
    gain, words = verdict(*maps)
    return f"- {better.name} over {worse.name}: {gain:+.1f}, {words}\n"


def summary(found):
    """Return all tables as text."""
    text = [
        "{iterations} iterations on {train} pictures, scored on {test}; mAP in ".format(**found[0])
        + "percent, the papers' on VOC2007. Spread: standard deviation over seeds.\n"
    ]
    head = ["net", "published", "here", "spread", "seeds", "diverged", "minutes"]
    for claim, title in CLAIMS.items():
        rows = [row_of(cell, found) for cell in CELLS if cell.claim == claim]
        rows = [row for row in rows if row is not None]
        if not rows:
            continue
        text.append(f"\n## {title}\n\n{table(head, rows)}\n")
        text += [
            sentence(worse, better, found)
            for worse, better in COMPARISONS
            if worse.claim == claim and results(worse, found) and results(better, found)
        ]
    return "".join(text)


def draw(found, path):
    """Write the picture: a bar per cell, a point per seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(CLAIMS), figsize=(8, 10), layout="constrained")
    for axis, (claim, title) in zip(axes, CLAIMS.items(), strict=True):
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_xlabel("mAP, percent", fontsize=8)
        cells = [cell for cell in CELLS if cell.claim == claim and results(cell, found)]
        for place, cell in enumerate(reversed(cells)):
            maps = [100 * each["map"] for each in results(cell, found)]
            axis.barh(place, mean(maps), color="#7aa6c2")
            axis.plot(maps, [place] * len(maps), "k.", markersize=4)
        axis.set_yticks(range(len(cells)), [cell.name for cell in reversed(cells)], fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def parse(arguments):
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--claim", choices=list(CLAIMS), nargs="+", default=list(CLAIMS), help="(all)")
    add("--only", nargs="+", metavar="NET", help="nets of these claims (all)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(%(default)s)")
    add("--out", type=Path, default=Path("claims"), help="folder for everything (%(default)s)")
    add("--max-iter", type=int, default=600, help="iterations of each (%(default)s)")
    add("--train", type=int, default=2000, help="pictures to learn from (%(default)s)")
    cores = os.cpu_count() or 1
    add("--jobs", type=int, default=cores, help="trainings at a time (%(default)s: the cores)")
    add("--test", type=int, default=300, help="pictures to score on (%(default)s)")
    args = parser.parse_args(arguments)
    names = [cell.name for cell in CELLS if cell.claim in args.claim]
    for name in args.only or ():
        if name not in names:
            parser.error(f"no net {name!r} in {', '.join(args.claim)}: {', '.join(names)}")
    args.out = args.out.resolve()
    return args


def main(arguments=None):
    """Run; returns the exit status."""
    args = parse(arguments)
    try:
        (args.out / "results").mkdir(parents=True, exist_ok=True)
        check_same(args)
        make_data(args.out, args.train, args.test)
        train_all(args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    found = measured(args)
    if not found:
        print("no training has ended yet; the same command goes on", file=sys.stderr)
        return 1
    text = summary(found)
    write_whole(str(args.out / "claims.md"), text.encode())
    lines = "".join(f"{json.dumps(each)}\n" for each in found)
    write_whole(str(args.out / "measured.jsonl"), lines.encode())
    draw(found, args.out / "claims.png")
    print(text, end="")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.exit(main())
