"""What a pass through a net gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from caffe_ssd.layers.run_context import Groups, RunContext
from caffe_ssd.net.grouped import Kind
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import LossTerm


@dataclass(frozen=True, kw_only=True)
class NetResult:
    """What one forward pass gives.

    Args:
        loss: the weighted sum of all loss tops, a scalar that can be differentiated.
        blobs: the net's outputs and the blobs asked for, by name.
        sources: what its layers without bottoms made or were fed; see `Net.repeat`.
        groups: of the pass; see `Net.use_groups`.
    """

    loss: Tensor
    blobs: dict[str, Tensor]
    sources: Mapping[Value, Tensor] = field(default_factory=dict)
    groups: Groups | None = None

    def detached(self) -> NetResult:
        """The same without what a backward pass needs."""
        return replace(
            self, loss=self.loss.detach(), blobs={k: v.detach() for k, v in self.blobs.items()}
        )

    def copied(self) -> NetResult:
        """The same in memory of its own."""
        return replace(
            self, loss=self.loss.clone(), blobs={k: v.clone() for k, v in self.blobs.items()}
        )

    def of(self, sources: Mapping[Value, Tensor], groups: Groups | None) -> NetResult:
        """The same as what a pass with these sources gave."""
        return replace(self, sources=sources, groups=groups)


def total_loss(
    terms: Sequence[LossTerm],
    context: RunContext,
    kinds: Mapping[Value, Kind],
    uncounted: Collection[Value],
) -> Tensor:
    """The weighted sum of the loss tops.

    Args:
        terms: the tops.
        context: of the pass.
        kinds: of the tops, where the pass stands for several.
        uncounted: tops that count in the loss, but not in the gradients.
    """
    groups = context.groups
    loss = torch.zeros((), device=context.device)
    for value, weight, top in terms:
        counted = top.detach() if value in uncounted else top
        if groups is not None and kinds[value] is Kind.COMMON:
            weight *= len(groups)
        loss = loss + weight * counted.sum()
    return loss if groups is None else loss / groups.num_devices
