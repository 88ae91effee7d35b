"""The engine that is found out by measuring.

At the first input each installed engine prepares itself, runs it once, must compute what PyTorch
does, and is timed for two passes. The fastest one stays. What was found is kept for the machine,
the net and the shape of its input (see `notes`), so the next process prepares that engine alone.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from caffe_ssd.engines.engine import FLOAT, Engine, Runner
from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.engines.identity import processor, structure_digest, weights_digest
from caffe_ssd.engines.notes import Note, NoteFile
from caffe_ssd.engines.onnx_runtimes import OnnxRuntimeEngine, OpenVinoEngine
from caffe_ssd.engines.precision import PRECISIONS, Precision
from caffe_ssd.engines.torch_engine import TorchEngine
from caffe_ssd.errors import UsageError, first_line

logger = logging.getLogger(__name__)

PASSES = 2
_LONG_S = 1.0  # nobody waits for a second pass that takes longer


def seconds_per_pass(run: Runner, inputs: Sequence[Tensor]) -> float:
    """The fastest of two passes."""
    fastest = float("inf")
    for _ in range(PASSES):
        start = time.perf_counter()
        run(*inputs)
        fastest = min(fastest, time.perf_counter() - start)
        if fastest > _LONG_S:
            break
    return fastest


class AutoEngine(Engine):
    """The fastest installed engine that computes what PyTorch does; see the module's docstring.

    `compile` is not among them: it takes a minute.

    Attributes:
        libraries: what is tried beside PyTorch.
        seconds_per_pass: measures a runner.
        tolerance: how far a result may be from PyTorch's in float32, in parts of the largest
            value. Other precisions are as they are: asked for by name.
    """

    name = "auto"
    precisions = PRECISIONS
    libraries: Sequence[type[Engine]] = (OpenVinoEngine, OnnxRuntimeEngine)
    seconds_per_pass: Callable[[Runner, Sequence[Tensor]], float] = staticmethod(seconds_per_pass)
    tolerance = 1e-3

    def __init__(self, net: FrozenNet, precision: Precision = FLOAT) -> None:
        super().__init__(net, precision)
        self.chosen: Engine | None = None

    @property
    def version(self) -> str:
        return self.name if self.chosen is None else self.chosen.version

    def prepare(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
        if self.chosen is not None:
            return self.chosen.prepare(net, inputs)
        self.chosen, run, why = self._choose(net, inputs)
        logger.info("Engine: %s%s", self.chosen.description, why)
        return run

    def _choose(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> tuple[Engine, Runner, str]:
        """The engine, its runner, and why it is that one."""
        on_cpu = all(x.device.type == "cpu" for x in inputs)
        offers = list(self._offers((TorchEngine, *self.libraries) if on_cpu else (TorchEngine,)))
        if not offers:
            raise UsageError(f"no installed engine calculates in {self.precision.name} here")
        if len(offers) == 1:
            return offers[0], offers[0].prepare(net, inputs), ""
        trial = _Trial(net, inputs, offers, self.tolerance)
        file = NoteFile(self._facts(inputs, offers))
        known = file.read()
        again = None if known is None else self._as_before(known, trial, file)
        return self._measured(trial, file) if again is None else again

    def _as_before(
        self, known: Note, trial: _Trial, file: NoteFile
    ) -> tuple[Engine, Runner, str] | None:
        """The engine that was the fastest before, if it still computes what PyTorch does."""
        engine = next((each for each in trial.offers if each.name == known.engine), None)
        if engine is None:
            return None
        weights = weights_digest(self.net)
        run = trial.prepared(engine, trusted=weights in known.agreed)
        if run is None:
            return None
        if weights not in known.agreed:
            file.write(known.with_weights(weights))
        return engine, run, f" (measured before: {_listed(known.seconds)})"

    def _measured(self, trial: _Trial, file: NoteFile) -> tuple[Engine, Runner, str]:
        """The fastest engine; the others are let go of at once."""
        seconds: dict[str, float] = {}
        best: tuple[Engine, Runner] | None = None
        for engine in trial.offers:
            run = trial.prepared(engine)
            if run is None:
                continue
            seconds[engine.name] = self.seconds_per_pass(run, trial.inputs)
            if best is None or seconds[engine.name] < seconds[best[0].name]:
                best = engine, run
            del run
        if best is None:
            assert trial.failure is not None
            raise trial.failure
        agreed = [weights_digest(self.net)]
        file.write(Note(engine=best[0].name, seconds=seconds, agreed=agreed))
        return *best, f" (measured: {_listed(seconds)})"

    def _offers(self, kinds: Sequence[type[Engine]]) -> Iterator[Engine]:
        for kind in kinds:
            with suppress(UsageError):  # not installed, or not in this precision
                yield kind(self.net, self.precision)

    def _facts(self, inputs: Sequence[Tensor], offers: Sequence[Engine]) -> dict[str, object]:
        """All that decides which engine is the fastest."""
        return {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "engines": [engine.version for engine in offers],
            "net": structure_digest(self.net),
            "inputs": [tuple(x.shape) for x in inputs],
            "precision": self.precision.name,
        }


class _Trial:
    """Engines on one input.

    Args:
        net: specialised to the input.
        inputs: the input.
        offers: the engines; for float32 the first one is PyTorch's, which judges the others.
        tolerance: see `AutoEngine`.

    Attributes:
        failure: of the last engine that failed.
    """

    def __init__(
        self,
        net: FrozenNet,
        inputs: tuple[Tensor, ...],
        offers: Sequence[Engine],
        tolerance: float,
    ) -> None:
        self.net = net
        self.inputs = inputs
        self.offers = offers
        self.failure: Exception | None = None
        self._tolerance = tolerance
        self._judge = offers[0] if offers[0].precision.name == FLOAT.name else None
        self._wanted: tuple[Tensor, ...] | None = None

    def prepared(self, engine: Engine, *, trusted: bool = False) -> Runner | None:
        """The engine's runner, warmed up; None, after a warning, if it fails or errs.

        Args:
            engine: one of the offers.
            trusted: its results are known to agree, and need not be looked at.

        Raises:
            Exception: what PyTorch's engine raises: the net or its input is at fault.
        """
        if engine is self._judge:
            return self._judged()
        try:
            run = engine.prepare(self.net, self.inputs)
            got = () if trusted else run(*self.inputs)
        except Exception as error:  # a library's own, of whatever kind
            self.failure = error
            logger.warning("Engine %s failed; not used: %s", engine.description, first_line(error))
            return None
        if self._judge is None or trusted or self._agrees(got):
            return run
        logger.warning("Engine %s computes something else; not used", engine.description)
        return None

    def _judged(self) -> Runner:
        """PyTorch's runner; its results are kept."""
        assert self._judge is not None
        run = self._judge.prepare(self.net, self.inputs)
        self._wanted = run(*self.inputs)
        return run

    def _agrees(self, got: Sequence[Tensor]) -> bool:
        """Whether results are the same but for rounding, which grows with a blob's values."""
        if self._wanted is None:
            self._judged()
        assert self._wanted is not None
        return all(
            torch.allclose(
                a, b, rtol=0, atol=self._tolerance * float(_magnitude(a)), equal_nan=True
            )
            for a, b in zip(self._wanted, got, strict=True)
        )


def _listed(seconds: dict[str, float]) -> str:
    """Times, the shortest first."""
    ranked = sorted(seconds.items(), key=lambda item: item[1])
    return ", ".join(f"{name} {1e3 * each:.3g} ms" for name, each in ranked)


def _magnitude(x: Tensor) -> Tensor:
    """The largest finite absolute value."""
    return x.nan_to_num(posinf=0, neginf=0).abs().max() if x.numel() else torch.zeros(())
