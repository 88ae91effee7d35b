"""From gradients to new weights: clip, normalise, regularise, and the six update rules.

Spec: caffe-solver.md section 4. Everything works on lists of tensors at once (one entry per
learnable blob) and in place.

Quirk: clipping looks at the sum over `iter_size` passes, before normalisation and weight decay.
Quirk: weight decay is part of the gradient for every rule, so it enters the histories.
Quirk: the rate is inside the momentum buffer; a drop of the rate leaves the velocity as it is.
Quirk: Adam's first beta is `momentum`, whose default is 0; delta is not corrected for bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.errors import SolverError
from caffe_ssd.proto.caffe_pb2 import SolverParameter

Tensors: TypeAlias = list[Tensor]


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """The constants of the update rules; each rule uses some."""

    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """One solver type.

    Args:
        num_histories: history blobs per learnable blob.
        apply: `(gradients, history, rates, settings, iteration) -> updates`; changes the history in
            place and may use up the gradients. `history` holds the first history blobs of all
            learnable blobs, then the second ones; `rates` has one rate per learnable blob.
        rate_in_history: whether a gradient enters the history times the rate, so that at rate 0
            nothing does.
    """

    num_histories: int
    apply: Callable[[Tensors, Tensors, Sequence[float], RuleSettings, int], Tensors]
    rate_in_history: bool = False


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """That the gradients were scaled down, for the log."""

    norm: float
    limit: float

    @property
    def scale(self) -> float:
        """What the gradients were multiplied by."""
        return self.limit / self.norm


def clip_gradients(gradients: Tensors, limit: float) -> Clipping | None:
    """Scale all gradients so that their joint L2 norm is at most `limit`.

    Args:
        gradients: changed in place.
        limit: 0 zeroes them, a negative one leaves them alone.

    Returns:
        What was done, or None when the norm was within the limit.
    """
    if limit < 0 or not gradients:
        return None
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if not norm > limit:
        return None
    clipping = Clipping(norm=norm, limit=limit)
    torch._foreach_mul_(gradients, clipping.scale)
    return clipping


def regularize(gradients: Tensors, weights: Tensors, decays: Sequence[float], kind: str) -> None:
    """Add the weight decay to the gradients.

    Args:
        decays: weight_decay * decay_mult of each blob; 0 leaves a blob alone.
        kind: "L2" or "L1".

    Raises:
        SolverError: some decay is not 0 and the kind is unknown.
    """
    chosen = [i for i, decay in enumerate(decays) if decay != 0]
    if not chosen:
        return
    _check_regularization(kind)
    terms = [weights[i] for i in chosen]
    if kind == "L1":
        terms = list(torch._foreach_sign(terms))
    _add_scaled([gradients[i] for i in chosen], terms, [decays[i] for i in chosen])


def _check_regularization(kind: str) -> None:
    if kind not in ("L1", "L2"):
        raise SolverError(f"unknown regularization_type {kind!r}; known: L1, L2")


def update_rule(param: SolverParameter) -> UpdateRule:
    """The rule of the solver's `type`.

    Raises:
        SolverError: the type or regularization_type is unknown, or the type does not take the given
            momentum or rms_decay.
    """
    if param.type not in _RULES:
        close = get_close_matches(param.type, _RULES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SolverError(f"unknown solver type {param.type!r}; {hint}known: {', '.join(_RULES)}")
    if param.type in ("AdaGrad", "RMSProp") and param.momentum != 0:
        raise SolverError(
            f"type {param.type} takes no momentum, got momentum: {param.momentum:g}; remove it"
        )
    if param.type == "RMSProp" and not 0 <= param.rms_decay < 1:
        raise SolverError(f"rms_decay must be at least 0 and below 1, got {param.rms_decay:g}")
    if param.weight_decay != 0:
        _check_regularization(param.regularization_type)
    return _RULES[param.type]


def rule_settings(param: SolverParameter) -> RuleSettings:
    """The constants the solver's message gives the rules."""
    return RuleSettings(
        momentum=param.momentum,
        momentum2=param.momentum2,
        rms_decay=param.rms_decay,
        delta=param.delta,
    )


def _sgd(
    gradients: Tensors, history: Tensors, rates: Sequence[float], s: RuleSettings, iteration: int
) -> Tensors:
    torch._foreach_mul_(history, s.momentum)
    _add_scaled(history, gradients, rates)
    return history


def _nesterov(
    gradients: Tensors, history: Tensors, rates: Sequence[float], s: RuleSettings, iteration: int
) -> Tensors:
    old = torch._foreach_mul(history, -s.momentum)
    _sgd(gradients, history, rates, s, iteration)
    torch._foreach_add_(old, history, alpha=1 + s.momentum)
    return list(old)


def _adagrad(
    gradients: Tensors, history: Tensors, rates: Sequence[float], s: RuleSettings, iteration: int
) -> Tensors:
    torch._foreach_addcmul_(history, gradients, gradients)
    return _divided_by_root(gradients, history, rates, s.delta)


def _rmsprop(
    gradients: Tensors, history: Tensors, rates: Sequence[float], s: RuleSettings, iteration: int
) -> Tensors:
    torch._foreach_mul_(history, s.rms_decay)
    torch._foreach_addcmul_(history, gradients, gradients, 1 - s.rms_decay)
    return _divided_by_root(gradients, history, rates, s.delta)


def _adadelta(
    gradients: Tensors, history: Tensors, rates: Sequence[float], s: RuleSettings, iteration: int
) -> Tensors:
    squares, updates = history[: len(gradients)], history[len(gradients) :]
    torch._foreach_mul_(squares, s.momentum)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - s.momentum)
    ratio = torch._foreach_add(updates, s.delta)
    torch._foreach_div_(ratio, torch._foreach_add(squares, s.delta))
    torch._foreach_sqrt_(ratio)
    torch._foreach_mul_(gradients, ratio)
    torch._foreach_mul_(updates, s.momentum)
    torch._foreach_addcmul_(updates, gradients, gradients, 1 - s.momentum)
    torch._foreach_mul_(gradients, list(rates))
    return gradients


def _adam(
    gradients: Tensors, history: Tensors, rates: Sequence[float], s: RuleSettings, iteration: int
) -> Tensors:
    means, squares = history[: len(gradients)], history[len(gradients) :]
    torch._foreach_mul_(means, s.momentum)
    torch._foreach_add_(means, gradients, alpha=1 - s.momentum)
    torch._foreach_mul_(squares, s.momentum2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - s.momentum2)
    correction = _adam_correction(s, iteration)
    corrected = [float(np.float32(rate) * correction) for rate in rates]
    return _divided_by_root(means, squares, corrected, s.delta)


def _adam_correction(s: RuleSettings, iteration: int) -> np.float32:
    beta1, beta2, one = np.float32(s.momentum), np.float32(s.momentum2), np.float32(1)
    time = np.float32(iteration + 1)
    with np.errstate(all="ignore"):
        return np.float32(np.sqrt(one - beta2**time) / (one - beta1**time))


def _divided_by_root(
    numerators: Tensors, squares: Tensors, rates: Sequence[float], delta: float
) -> Tensors:
    """rate * numerator / (sqrt(square) + delta)."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    updates = torch._foreach_mul(numerators, list(rates))
    torch._foreach_div_(updates, roots)
    return list(updates)


def _add_scaled(targets: Tensors, terms: Tensors, scales: Sequence[float]) -> None:
    """targets[i] += scales[i] * terms[i], with one call per distinct scale and no temporaries."""
    groups: dict[float, list[int]] = {}
    for i, scale in enumerate(scales):
        groups.setdefault(scale, []).append(i)
    for scale, places in groups.items():
        torch._foreach_add_([targets[i] for i in places], [terms[i] for i in places], alpha=scale)


_RULES = {
    "SGD": UpdateRule(num_histories=1, apply=_sgd, rate_in_history=True),
    "Nesterov": UpdateRule(num_histories=1, apply=_nesterov, rate_in_history=True),
    "AdaGrad": UpdateRule(num_histories=1, apply=_adagrad),
    "RMSProp": UpdateRule(num_histories=1, apply=_rmsprop),
    "AdaDelta": UpdateRule(num_histories=2, apply=_adadelta),
    "Adam": UpdateRule(num_histories=2, apply=_adam),
}
