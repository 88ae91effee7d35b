"""Ends a training whose numbers are no numbers, and says where they began.

Spec: none; the reference goes on and overwrites its snapshots.

After every iteration's backward pass, before the update, the loss and the size of every gradient
are looked at. On the CPU that is done at once. On a device the numbers stay there until a line is
displayed, a test or a snapshot is due, or `LAG` iterations have passed, so that no iteration waits.

If one is not finite, the last batch is run once more, watched, with the weights as they are: on the
CPU those of the iteration itself, since its update has not been made.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from caffe_ssd.errors import DivergedError
from caffe_ssd.layers.common import all_finite
from caffe_ssd.layers.registry import Layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.log import cpp_number
from caffe_ssd.net import LearnableBlob, Net, NetResult
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.plan import Step
from caffe_ssd.net.runner import Runner, statistics_kept
from caffe_ssd.net.watching import Watcher, WatchingRunner

logger = logging.getLogger(__name__)

EFFECTS = ("stop", "warn", "ignore")
LAG = 50  # iterations that a device may be ahead of what is known
EXPLODED = 10.0  # times the first loss: worth a warning
_SHOWN = 5  # last good iterations in the report
_GROWTH = 10.0  # from one iteration to the next: the rate is the likely cause
_DIVIDES = frozenset({"Log", "Power", "MVN", "Normalize", "BatchNorm", "LRN", "Eltwise"})


class _Seen(NamedTuple):
    iteration: int
    loss: Tensor
    norms: Tensor  # of each gradient


class Watchdog:
    """Watches one training.

    Args:
        net: what is trained.
        effect: "stop" raises, "warn" says it once, "ignore" does not look.

    Attributes:
        newest_snapshot: the state of the newest snapshot, to be named in the report.
    """

    def __init__(self, net: Net, effect: str = "stop") -> None:
        self._net = net
        self._checked = [x for x in net.layers if type(x).check is not Layer.check]
        self.effect = effect
        self.newest_snapshot = ""
        self._last = NetResult(loss=torch.zeros(()), blobs={})
        self._pending: list[_Seen] = []
        self._learnt: list[LearnableBlob] = []  # those with a gradient when last looked at
        self._good: deque[tuple[int, float, float, str]] = deque(maxlen=_SHOWN)
        self._first_loss: float | None = None
        self._told: set[str] = set()

    def look(self, iteration: int, loss: Tensor, last: NetResult) -> None:
        """Take note of an iteration before its update.

        Args:
            iteration: its number.
            loss: of the iteration, a scalar.
            last: its last pass.

        Raises:
            DivergedError: see `read`; on the CPU only.
        """
        if self.effect == "ignore":
            return
        self._last = last
        self._learnt = [entry for entry in self._net.learnable if _has_gradient(entry)]
        gradients = [entry.blob.grad for entry in self._learnt if entry.blob.grad is not None]
        self._pending.append(_Seen(iteration, loss.detach(), _sizes(gradients, loss.device)))
        if loss.device.type == "cpu" or len(self._pending) >= LAG:
            self.read()

    def read(self) -> None:
        """Look at what was noted.

        Raises:
            DivergedError: a loss or a gradient is not finite, and the effect is "stop".
            LayerError: a layer found something wrong on a device, see `Layer.check`.
        """
        for layer in self._checked:
            layer.check()
        pending, self._pending = self._pending, []
        if not pending:
            return
        losses = torch.stack([seen.loss.float() for seen in pending]).tolist()
        peaks, places = torch.stack([seen.norms for seen in pending]).max(1)
        learnt = self._learnt
        found = zip(pending, losses, peaks.tolist(), places.tolist(), strict=True)
        for seen, loss, peak, place in found:
            if not _is_finite(loss, peak):
                self._end(seen.iteration, loss)
                continue
            where = f"layer {learnt[place].layer!r}, blob {learnt[place].index}" if learnt else ""
            self._good.append((seen.iteration, loss, peak, where))
            self._compare(seen.iteration, loss)

    def _compare(self, iteration: int, loss: float) -> None:
        """Warn of a loss that explodes, or that is 0 because there is nothing to learn from."""
        if self._first_loss is None:
            self._first_loss = loss
        elif loss > EXPLODED * self._first_loss > 0:
            self._tell_once(
                "explosion",
                f"iteration {iteration}: the loss is {cpp_number(loss)}, more than {EXPLODED:g} "
                f"times the first one ({cpp_number(self._first_loss)}); is the learning rate too "
                "high?",
            )
        if loss == 0 and "zero" not in self._told:
            search = _ZeroSearch(self._net.context(self._last))
            with torch.no_grad(), statistics_kept(self._net.program):
                self._net.repeat(self._last.sources, search)
            for reason in search.reasons:
                self._tell_once("zero", f"iteration {iteration}: the loss is 0: {reason}")

    def _tell_once(self, topic: str, text: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            logger.warning(text)

    # The end -------------------------------------------------------------------------------------

    def _end(self, iteration: int, loss: float) -> None:
        if "end" in self._told:
            return
        self._told.add("end")
        search = self._search()
        for number, value, peak, where in self._good:
            logger.warning(
                "iteration %d was good: loss %s, largest norm of a gradient %s (%s)",
                number,
                cpp_number(value),
                cpp_number(peak),
                where,
            )
        what = "a gradient is not finite"
        if not _is_finite(loss):
            what = f"the loss is {cpp_number(loss)}"
        newest = self.newest_snapshot
        text = "; ".join(
            (
                f"iteration {iteration}: {what}",
                search.found or "no layer shows it when the last batch is run once more",
                self._cause(search),
                f"the newest good snapshot is {newest}" if newest else "there is no snapshot yet",
            )
        )
        if self.effect == "stop":
            raise DivergedError(text)
        logger.warning(text)

    def _search(self) -> NanSearch:
        """Run the last batch once more, watched; gradients and statistics stay as they are."""
        net, search = self._net, NanSearch()
        runner = WatchingRunner(net.context(self._last), search)
        kept = {parameter: parameter.grad for parameter in net.parameters()}
        for parameter in kept:
            parameter.grad = None
        with statistics_kept(net.program), torch.enable_grad():
            result = net.repeat(self._last.sources, runner)
            if result.loss.requires_grad and not search.found:
                result.loss.backward()  # type: ignore[no-untyped-call]
                runner.tell_learnt(net.steps, net.layers)
        for parameter, gradient in kept.items():
            parameter.grad = gradient
        return search

    def _cause(self, search: NanSearch) -> str:
        """The likely cause, in words that say what to do."""
        if search.is_data:
            return "the data themselves are not finite: look at the labels, means and scales"
        peaks = [peak for _, _, peak, _ in self._good]
        if len(peaks) > 1 and peaks[-1] > _GROWTH * min(peaks):
            return "the learning rate is likely too high for this batch: lower base_lr, or warm up"
        if search.bad_weights:
            return f"the weights of {search.bad_weights} are not finite before this iteration"
        if search.layer_type in _DIVIDES:
            return "likely a division by 0, or a logarithm or root of a number that is not positive"
        return "likely a learning rate too high for this batch, or labels that are out of range"


class NanSearch(Watcher):
    """Finds the first layer whose output, diff or weights are not finite.

    Attributes:
        found: what was found, in words; empty if nothing.
        layer_type: of the layer found.
        is_data: whether it is a source.
        bad_weights: the first layer whose learnt blobs are not finite.
    """

    def __init__(self) -> None:
        self.found = ""
        self.layer_type = ""
        self.is_data = False
        self.bad_weights = ""

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        if not self.bad_weights and not all_finite(b for b in layer.blobs if b.requires_grad):
            self.bad_weights = _name(step)
        for name, top in zip(step.param.top, tops, strict=False):
            if not self.found and not all_finite([top]):
                self._find(step, f"is the first whose output ({name!r}) is not finite")
                self.is_data = not step.bottoms

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        if not self.found and not all_finite([d for d in diffs if d is not None]):
            self._find(step, "is the first whose gradient is not finite")

    def learnt(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        if not self.found and not all_finite([d for d in diffs if d is not None]):
            self._find(step, "is the first whose weights' gradient is not finite")

    def _find(self, step: Step, what: str) -> None:
        self.found = f"{_name(step)} {what}"
        self.layer_type = step.param.type


class _ZeroSearch(Runner):
    """Asks the layers with a loss of 0 why."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context)
        self.reasons: list[str] = []

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        tops = super().call(op, bottoms)
        if any(op.loss_weights) and isinstance(op.layer, Layer):
            reason = op.layer.reason_for_zero(*bottoms)
            if reason:
                self.reasons.append(f"{_name(op.step)}: {reason}")
        return tops


def _sizes(gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """How large each gradient is: its norm; not finite where the gradient is not."""
    if not gradients:
        return torch.zeros(1, device=device)
    if device.type == "cpu":  # where this norm is ten times as quick as the largest value
        norms = torch.stack(torch._foreach_norm(list(gradients)))
        if bool(norms.isfinite().all()):
            return norms
    return torch.stack(torch._foreach_norm(list(gradients), float("inf")))


def _name(step: Step) -> str:
    return f"layer {step.param.name!r} ({step.param.type})"


def _has_gradient(entry: LearnableBlob) -> bool:
    return entry.lr_mult != 0 and entry.blob.numel() > 0 and entry.blob.grad is not None


def _is_finite(*numbers: float) -> bool:
    return all(abs(number) < float("inf") for number in numbers)
