"""The files of a training: found from its solver's prototxt or from its folder.

Paths inside prototxt files are relative to the folder in which the training ran, which nobody wrote
down. It is taken for the first of these in which the solver's test net can be found: the working
folder, the run's folder, the solver's folder and those above it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caffe_ssd.errors import UsageError
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.text import read_net, read_solver

PathLike = str | os.PathLike[str]

_DEEPEST = 4  # folders below a run's in which its solver is looked for
_LEVELS_UP = 4
_ENDINGS = (".caffemodel", ".caffemodel.h5")


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What there is of a training; None where a file was not found.

    Args:
        name: of the run, for people.
        folder: the run's; the report goes there.
        base: what paths in prototxt files are relative to.
        solver: the solver's prototxt.
        param: what it says; empty without one.
        test_model: the net that is scored.
        train_model: the net that was trained.
        deploy: the net that takes pictures.
        weights: one or more files.
        label_map: names of the classes.
        results: the JSON lines that `caffe train` writes.
        log: the training's log.
        notes: fit.json.
        last_snapshot: its iteration; 0 without one.
    """

    name: str
    folder: Path
    base: Path
    param: SolverParameter
    solver: Path | None = None
    test_model: Path | None = None
    train_model: Path | None = None
    deploy: Path | None = None
    weights: tuple[Path, ...] = ()
    label_map: Path | None = None
    results: Path | None = None
    log: Path | None = None
    notes: Path | None = None
    last_snapshot: int = 0


def find_run(
    run: PathLike | None, *, model: PathLike | None = None, weights: tuple[PathLike, ...] = ()
) -> RunFiles:
    """The files of a run.

    Args:
        run: its folder or its solver's prototxt; None where both of the others are given.
        model: the net to score; None for the solver's test net.
        weights: of that net; none for `<snapshot_prefix>_best` or the newest snapshot.

    Raises:
        UsageError: there is no such run, or it cannot be told which one is meant.
        CaffeError: a prototxt cannot be read.
    """
    if run is None and (model is None or not weights):
        raise UsageError("name a run (its folder or solver.prototxt), or both a model and weights")
    place = Path(run) if run is not None else Path(os.fspath(model or "")).parent
    solver = _solver_of(place, is_needed=model is None or not weights)
    folder = place if place.is_dir() else place.parent
    param = SolverParameter() if solver is None else read_solver(solver)
    base = _base(solver, folder, param)
    test_model = Path(model) if model is not None else _net(base, param, "test")
    found = tuple(map(Path, weights)) or _newest(folder, base, param)
    prefix = base / param.snapshot_prefix if param.snapshot_prefix else None
    name = folder.resolve().name
    if run is not None and folder != place:
        name = Path(param.snapshot_prefix).name or name
    return RunFiles(
        name=name,
        folder=folder,
        base=base,
        param=param,
        solver=solver,
        test_model=test_model,
        train_model=_net(base, param, "train"),
        deploy=_deploy(test_model, solver),
        weights=found,
        label_map=_label_map(test_model, base, folder),
        results=_existing(prefix and Path(f"{prefix}_results.jsonl")),
        log=_existing(folder / "train.log"),
        notes=_existing(folder / "fit.json"),
        last_snapshot=max((number for number, _ in _snapshots(base, param)), default=0),
    )


def with_absolute_paths(param: NetParameter, base: Path) -> NetParameter:
    """A copy of a net whose data layers find their files from any folder.

    Args:
        param: the net.
        base: what its paths are relative to.
    """
    net = NetParameter()
    net.CopyFrom(param)
    for layer in net.layer:
        for part, name in (
            (layer.data_param, "source"),
            (layer.transform_param, "mean_file"),
            (layer.annotated_data_param, "label_map_file"),
            (layer.detection_evaluate_param, "name_size_file"),
        ):
            if part.HasField(name):
                setattr(part, name, os.fspath(_join(base, getattr(part, name))))
        if layer.HasField("detection_output_param"):
            saved = layer.detection_output_param.save_output_param
            for name in ("label_map_file", "name_size_file"):
                if saved.HasField(name):
                    setattr(saved, name, os.fspath(_join(base, getattr(saved, name))))
    return net


def _solver_of(place: Path, *, is_needed: bool) -> Path | None:
    if place.is_file():
        return place
    if not place.is_dir():
        raise UsageError(f"{place}: no such folder or solver.prototxt")
    found = sorted(_solvers(place))
    if len(found) == 1:
        return found[0]
    if not is_needed:
        return None
    if not found:
        raise UsageError(
            f"{place} is no run: there is no solver.prototxt in it; without one, name a model "
            "(the test net) and weights"
        )
    some = ", ".join(map(str, found[:5]))
    raise UsageError(
        f"{place} holds {len(found)} solvers ({some}{', ...' if len(found) > 5 else ''}); "
        "name one of them"
    )


def _solvers(folder: Path) -> Iterator[Path]:
    depth = len(folder.parts)
    for place, folders, names in os.walk(folder):
        if len(Path(place).parts) - depth >= _DEEPEST:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in names if name == "solver.prototxt")


def _base(solver: Path | None, folder: Path, param: SolverParameter) -> Path:
    if solver is None:
        return Path()
    above = [solver.parent, *solver.resolve().parents[1 : 1 + _LEVELS_UP]]
    for base in (Path(), folder, *above):
        net = _net(base, param, "test") or _net(base, param, "train")
        if net is not None and net.exists():
            return base
    return Path()


def _net(base: Path, param: SolverParameter, kind: str) -> Path | None:
    """The file of the solver's train or (first) test net."""
    if kind == "test" and param.test_net:
        return _join(base, param.test_net[0])
    if kind == "train" and param.train_net:
        return _join(base, param.train_net)
    return _join(base, param.net) if param.net else None


def _newest(folder: Path, base: Path, param: SolverParameter) -> tuple[Path, ...]:
    """The detector of `caffe fit`, else the best weights, else the newest."""
    if (folder / "detector.caffemodel").is_file():
        return (folder / "detector.caffemodel",)
    if not param.snapshot_prefix:
        return ()
    prefix = _join(base, param.snapshot_prefix)
    for ending in _ENDINGS:
        best = prefix.with_name(f"{prefix.name}_best{ending}")
        if best.is_file():
            return (best,)
    snapshots = _snapshots(base, param)
    return (max(snapshots)[1],) if snapshots else ()


def _snapshots(base: Path, param: SolverParameter) -> list[tuple[int, Path]]:
    """The iterations of all snapshots, and their weights."""
    if not param.snapshot_prefix:
        return []
    prefix = _join(base, param.snapshot_prefix)
    pattern = re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.caffemodel(\.h5)?")
    try:
        files = [(pattern.fullmatch(path.name), path) for path in prefix.parent.iterdir()]
    except OSError:
        return []
    return [(int(match[1]), path) for match, path in files if match is not None]


def _deploy(test_model: Path | None, solver: Path | None) -> Path | None:
    for beside in (test_model, solver):
        if beside is not None and (found := _existing(beside.with_name("deploy.prototxt"))):
            return found
    return None


def _label_map(test_model: Path | None, base: Path, folder: Path) -> Path | None:
    """The label map that the test net names, else the only one in the run's folder."""
    if test_model is not None and test_model.is_file():
        for layer in read_net(test_model).layer:
            for part in (
                layer.annotated_data_param,
                layer.detection_output_param.save_output_param,
            ):
                if part.label_map_file and (path := _join(base, part.label_map_file)).is_file():
                    return path
    near = [*folder.glob("labelmap*.prototxt"), *folder.glob("*/labelmap*.prototxt")]
    return near[0] if len(near) == 1 else None


def _join(base: Path, path: str) -> Path:
    return base / os.path.expanduser(path)


def _existing(path: Path | None) -> Path | None:
    return path if path is not None and path.is_file() else None
