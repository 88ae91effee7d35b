"""How fast the detector is, and how to use it: its files, and commands with their paths."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from caffe_ssd.report.charts import Bar, bar_chart
from caffe_ssd.report.page import Section, charts, code, folded, heading, note, table
from caffe_ssd.report.sections.known import Known
from caffe_ssd.report.sections.settings import machine
from caffe_ssd.scoring.picture_detector import MEAN_BGR, MEAN_GREY

_MIB = 1 << 20


def speed(known: Known) -> Section:
    """Times per picture, the fastest first."""
    measured = [each for each in known.speeds if each.ms is not None]
    if not measured:
        return Section("speed", "Speed", [])
    bars = []
    for each in sorted(measured, key=lambda each: each.ms or 0):
        ms = each.ms or 1.0
        engine = "plain net" if each.engine == "none" else each.engine
        name = f"{engine}, {each.precision}"
        bars.append(Bar(name=name, value=1000 / ms, text=f"{1000 / ms:.3g}/s, {ms:.3g} ms"))
    title = "Pictures per second, one at a time"
    words = (
        f"On {machine(known)}: from decoded pixels to objects, the median of a few passes. Other "
        "precisions than fp32 change scores a little; caffe test -precision says how much. "
        "Several pictures in one pass (-batch) are faster still."
    )
    content: list[object] = [charts([bar_chart(bars, title=title)], is_wide=True), note(words)]
    others = [each for each in known.speeds if each.ms is None]
    if others:
        rows = [(each.engine, each.precision, each.reason) for each in others]
        content.append(folded("What was not measured", table(("engine", "precision", "why"), rows)))
    return Section("speed", "Speed", content)


def use(known: Known) -> Section:
    """Commands, a program, and the files."""
    files = known.files
    content: list[object] = []
    if files.deploy is not None and files.weights:
        content += [
            heading("On the command line"),
            code("\n\n".join(_commands(known))),
            heading("In Python"),
            code(_program(known)),
        ]
        if _is_mean_unknown(known):
            content.append(
                note("This net subtracts a mean picture, which these commands do not know of.")
            )
    elif files.weights:
        content.append(note("There is no deploy.prototxt beside the test net, which they need."))
    if files.test_model is not None and files.weights:
        test = _command("caffe test", _flags(model=files.test_model, weights=files.weights))
        lines = f"cd {shlex.quote(_path(files.base))}\n{test}"
        content += [heading("To score it again"), code(lines)]
    content += [heading("Files"), table(("", "file", "size", "of"), _files(known), numbers=2)]
    return Section("use", "Use it", content)


def _commands(known: Known) -> list[str]:
    files = known.files
    net = _flags(model=files.deploy, weights=files.weights)
    names = _flags(label_map=files.label_map)
    pixels = _pixel_flags(known)
    least = [f"-threshold {_threshold(known):g}"]
    return [
        "# find objects on pictures, folders, videos or a camera, and draw them\n"
        + _command("caffe detect PICTURES", [*net, *names, *pixels, *least]),
        "# the same over HTTP, with a page to try it\n"
        + _command("caffe serve", [*net, *names, *pixels, *least]),
        "# for other programs and devices\n"
        + _command("caffe export", [*net, *names, "-output detector.onnx"]),
    ]


def _program(known: Known) -> str:
    files = known.files
    arguments = [f"    {_path(files.deploy)!r},", f"    {_weights(files.weights)},"]
    if files.label_map is not None:
        arguments.append(f"    labels={_path(files.label_map)!r},")
    if (mean := _mean(known)) is not None:
        arguments.append(f"    mean={mean},")
    if (scale := _scale(known)) != 1:
        arguments.append(f"    scale={scale:.9g},")
    arguments.append(f"    threshold={_threshold(known):g},")
    return "\n".join(
        [
            "from caffe_ssd import Detector",
            "",
            "detector = Detector(",
            *arguments,
            ")",
            'for picture, found in detector.stream("pictures/"):',
            "    print(found)",
        ]
    )


def _threshold(known: Known) -> float:
    """The best threshold for all classes, rounded down, so that it keeps what it should keep."""
    if known.evaluation is None:
        return 0.5
    return math.floor(1000 * known.evaluation.best_of_all.threshold) / 1000


def _mean(known: Known) -> tuple[float, ...] | None:
    """The mean, where the commands must be told of it."""
    if known.evaluation is None or known.evaluation.mean is None:
        return None
    mean = known.evaluation.mean
    return None if mean == (MEAN_GREY if len(mean) == 1 else MEAN_BGR) else mean


def _is_mean_unknown(known: Known) -> bool:
    return known.evaluation is not None and known.evaluation.mean is None


def _scale(known: Known) -> float:
    return 1.0 if known.evaluation is None else known.evaluation.scale


def _pixel_flags(known: Known) -> list[str]:
    mean, scale = _mean(known), _scale(known)
    flags = [] if mean is None else ["-mean_value " + ",".join(f"{v:.9g}" for v in mean)]
    return flags if scale == 1 else [*flags, f"-scale {scale:.9g}"]


def _flags(**paths: Path | Iterable[Path] | None) -> list[str]:
    flags = []
    for name, path in paths.items():
        if path is not None:
            several = [path] if isinstance(path, Path) else list(path)
            flags.append(f"-{name} {shlex.quote(','.join(map(_path, several)))}")
    return flags


def _command(command: str, flags: list[str]) -> str:
    return " \\\n    ".join([command, *flags])


def _weights(paths: tuple[Path, ...]) -> str:
    return repr(_path(paths[0])) if len(paths) == 1 else repr([_path(path) for path in paths])


def _path(path: Path | None) -> str:
    return "" if path is None else str(path.resolve())


def _files(known: Known) -> list[tuple[str, str, str, str]]:
    files = known.files
    named = [("weights", path) for path in files.weights] + [
        (name, path)
        for name, path in (
            ("deploy net", files.deploy),
            ("test net", files.test_model),
            ("train net", files.train_model),
            ("solver", files.solver),
            ("label map", files.label_map),
            ("results", files.results),
            ("log", files.log),
            ("choices", files.notes),
        )
        if path is not None and path.is_file()
    ]
    rows = []
    for name, path in named:
        status = path.stat()
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
        size = status.st_size
        text = f"{size / _MIB:.1f} MiB" if size >= _MIB / 10 else f"{size / 1024:.1f} KiB"
        rows.append((name, _path(path), text, day))
    return rows
