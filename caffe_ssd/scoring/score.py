"""Scores of a trained net on the test set it reads: means of outputs, mAP, official protocols.

    score("test.prototxt", "x.caffemodel", protocols=["reference", "voc2007", "coco"]).map

Spec: caffe-net.md section 19; ssd-data.md section 5.

Deliberate difference: the reference averages the rows of DetectionEvaluate too, which means
nothing, and prints every one of them; here those outputs are scored.
Deliberate difference: unless told how many passes to make, a net with DetectionEvaluate sees every
record of its data layer exactly once. The reference makes 50 passes, and counts records twice when
its set ends in mid-batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch

from caffe_ssd import log
from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.devices import device_named
from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.annotations import categories_of
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.label_map import LabelMap, read_label_map
from caffe_ssd.proto.lenient import Lenient
from caffe_ssd.scoring.engine_choice import PLAIN, EngineChoice, choose_engine, give_engine
from caffe_ssd.scoring.loading import PathLike, load_net
from caffe_ssd.scoring.multi_scale_passes import MultiScalePasses, own_size
from caffe_ssd.scoring.official import OfficialScores, own_names
from caffe_ssd.scoring.protocols import OFFICIAL, read_protocols, reference_score
from caffe_ssd.scoring.report import Report
from caffe_ssd.scoring.scales import MultiScale
from caffe_ssd.scoring.tally import Tally, judged_outputs, log_class_ap
from caffe_ssd.scoring.whole_set import end_with_set, passes_over_set

logger = logging.getLogger(__name__)

DEFAULT_ITERATIONS = 50

Forward = Callable[[Net], NetResult]


def forward_plainly(net: Net) -> NetResult:
    """One pass without gradients."""
    with torch.no_grad():
        result: NetResult = net()
    return result


def score(
    model: PathLike,
    weights: PathLike | Sequence[PathLike],
    *,
    protocols: Sequence[str] = ("reference",),
    labels: PathLike | None = None,
    iterations: int | None = None,
    multi_scale: MultiScale | None = None,
    engine: str | EngineChoice | None = None,
    precision: str = "fp32",
    calibration: str | None = None,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    level: int | None = None,
    stages: Sequence[str] = (),
    lenient: Lenient = False,
    allow_unfilled: bool = False,
    forward: Forward = forward_plainly,
) -> Report:
    """Score a net on its own test set.

    Result files that the net names are written, as in any test pass.

    Args:
        model: a test prototxt, with its data layer.
        weights: one or more caffemodel or HDF5 files.
        protocols: what counts for detectors: "reference", "voc2007", "voc2012", "coco". Official
            ones need every record.
        labels: a label map file with names of classes; None for those the net knows.
        iterations: passes; None for every record once for detectors, else 50.
        multi_scale: look at each picture several times; None for once.
        engine: what runs the net; None for the plain net, or auto in another precision.
        precision: "fp32", "bf16" or "int8". Another than fp32 is scored beside it.
        calibration: a folder or an LMDB with pictures, for int8.
        device: "cpu", "cuda", "cuda:1" or a torch.device.
        workers: data worker processes; None for as many as the device deserves.
        level, stages: of the net's state; None and none leave what the prototxt says.
        lenient: skip fields of the prototxt that this Caffe does not know and that cannot
            change a result, with a warning.
        allow_unfilled: go on where the weights do not fill all learnable layers.
        forward: makes a pass; another than the plain one may watch it.

    Raises:
        CaffeError: a file cannot be read, the weights do not fit, or an argument makes no sense.
    """
    protocols = read_protocols(protocols)
    official_names = [name for name in protocols if name in OFFICIAL]
    if official_names and iterations is not None:
        raise UsageError("an official protocol scores the whole test set; it excludes iterations")
    place = device_named(device)
    if not isinstance(engine, EngineChoice):
        engine = choose_engine(
            engine, device=place, default=PLAIN, precision=precision, calibration=calibration
        )
    load = partial(
        load_net,
        model,
        weights,
        level=level,
        stages=stages,
        device=place,
        workers=workers,
        lenient=lenient,
        allow_unfilled=allow_unfilled,
    )
    passes = partial(tally_of, iterations=iterations, multi_scale=multi_scale, forward=forward)
    net = load(saves_results=True, is_logged=True)
    label_map = None if labels is None else read_label_map(labels)
    official = OfficialScores(net, label_map) if official_names else None
    exact = None
    if not engine.is_exact:
        logger.info("Scoring in fp32, to compare with")
        exact = named_scores(passes(load()))
        logger.info("Scoring in %s", engine.precision)
    give_engine(net, engine, sizes=1 if multi_scale is None else len(multi_scale.scales))
    tally = passes(net, whole_set=official is not None)
    return _report(net, tally, protocols, official, label_map, exact, engine.precision)


def tally_of(
    net: Net,
    *,
    iterations: int | None = None,
    multi_scale: MultiScale | None = None,
    whole_set: bool = False,
    forward: Forward = forward_plainly,
) -> Tally:
    """Run a test net's passes, and log the scores as `caffe test` does.

    Args:
        net: with its weights.
        iterations: passes; None for every record once where it matters, else 50.
        multi_scale: look at each picture several times; None for once.
        whole_set: see every record once, whatever the net's outputs are.
        forward: makes a pass.
    """
    judged = judged_outputs(net)
    averaged = [name for name in net.outputs if name not in judged]
    tally = Tally(averaged=averaged, judged=judged, versions=list(AP_VERSIONS))
    run: Callable[[], NetResult] = partial(forward, net)
    if multi_scale is not None:
        run = MultiScalePasses(net, multi_scale.rule(net, own_size(net))).forward
    wants_set = bool(judged) or whole_set or multi_scale is not None
    passes = _num_passes(iterations, net, wants_set)
    log.TEST_RUNNING.write(iterations=passes)
    for batch in range(passes):
        result = run()
        for name in averaged:
            for value in result.blobs[name].flatten().tolist():
                log.TEST_BATCH.write(batch=batch, name=name, value=value)
        tally.add(result)
    _log(net, tally)
    return tally


def named_scores(tally: Tally) -> dict[str, float]:
    """The scores by name: mAP by version, and means, numbered where a blob has several."""
    scores = {
        f"{name} mAP ({each.version})": each.compute().value
        for name, accumulators in tally.accumulators.items()
        for each in accumulators
    }
    for name, means in tally.means().items():
        for i, mean in enumerate(means):
            scores[name if len(means) == 1 else f"{name}[{i}]"] = mean
    return scores


def _report(
    net: Net,
    tally: Tally,
    protocols: Sequence[str],
    official: OfficialScores | None,
    label_map: LabelMap | None,
    exact: dict[str, float] | None,
    precision: str,
) -> Report:
    if official is not None:
        names, categories = official.names, official.test_set.categories
    else:
        classes = own_names(net) if label_map is None else label_map
        names, categories = classes.label_to_name, categories_of(classes)
    scores = {}
    for name in protocols:
        if name in OFFICIAL and official is not None:
            scores[name] = official.scores([name])[0]
        elif judges := list(tally.accumulators.values()):
            scores[name] = reference_score(judges[0], names)
    return Report(
        protocols=scores,
        categories=categories,
        test_set=None if official is None else official.test_set,
        means=tally.means(),
        loss=tally.loss,
        values=named_scores(tally),
        exact=exact,
        precision=precision,
    )


def _log(net: Net, tally: Tally) -> None:
    """Log the scores of all passes."""
    log.TEST_TOTAL_LOSS.write(loss=tally.loss)
    log.write_outputs(log.TEST_MEAN, tally.means(), net.loss_weights)
    for name, accumulators in tally.accumulators.items():
        for accumulator in accumulators:
            result = accumulator.compute()
            log.AP_VERSION.write(name=name, version=accumulator.version)
            log_class_ap(result)
            log.MEAN_AP.write(name=name, version=accumulator.version, value=result.value)


def _num_passes(iterations: int | None, net: Net, wants_set: bool) -> int:
    if iterations is not None:
        if iterations < 1:
            raise UsageError(f"iterations must be at least 1, got {iterations}")
        return iterations
    whole_set = passes_over_set(net) if wants_set else None
    if whole_set is None:
        return DEFAULT_ITERATIONS
    end_with_set(net)
    return whole_set
