"""Which learnt blobs a net has, who owns them, and at what rate they learn.

Spec: caffe-net.md section 8. Parameters with the same non-empty `param { name }` are one blob: the
first layer that names it owns it.

Quirk: BatchNorm's three statistics are learnable blobs with learning rate 0; solver states and the
    order of their history count them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import Layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter, ParamSpec


@dataclass(frozen=True, kw_only=True)
class LearnableBlob:
    """A learnt blob that owns itself.

    Args:
        blob: the parameter; its `grad` is Caffe's diff.
        lr_mult: factor of the learning rate.
        decay_mult: factor of the weight decay.
        layer: name of the owning layer.
        index: which blob of that layer.
        name: its `param { name }`, possibly empty.
    """

    blob: nn.Parameter
    lr_mult: float
    decay_mult: float
    layer: str
    index: int
    name: str = ""

    @property
    def display_name(self) -> str:
        """What debug logs call it."""
        return self.name if self.name else str(self.index)


class SharedBlobs:
    """Collects the learnable blobs of a net while its layers are built in order."""

    def __init__(self) -> None:
        self.learnable: list[LearnableBlob] = []
        self.views: list[tuple[nn.Parameter, nn.Parameter]] = []
        self._given: dict[str, tuple[int, ParamSpec]] = {}

    def add(self, param: LayerParameter, layer: Layer) -> None:
        """Register a layer's blobs; those that are shared are replaced by their owner's.

        Raises:
            LayerParamError: too many `param` entries, or a share that does not fit its owner.
        """
        if len(param.param) > len(layer.blobs):
            raise LayerParamError(
                f"Too many params specified: {len(param.param)} `param` entries, "
                f"allowed: one per learnt blob, of which it has {len(layer.blobs)}"
            )
        for i, blob in enumerate(layer.blobs):
            spec = param.param[i] if i < len(param.param) else ParamSpec()
            if spec.name and spec.name in self._given:
                layer.blobs[i] = self._share(spec, blob)
            else:
                self._own(spec, blob, param.name, i)

    def _own(self, spec: ParamSpec, blob: nn.Parameter, layer: str, index: int) -> None:
        if spec.name:
            given = ParamSpec()
            given.CopyFrom(spec)
            self._given[spec.name] = (len(self.learnable), given)
        self.learnable.append(
            LearnableBlob(
                blob=blob,
                lr_mult=spec.lr_mult,
                decay_mult=spec.decay_mult,
                layer=layer,
                index=index,
                name=spec.name,
            )
        )

    def _share(self, spec: ParamSpec, blob: nn.Parameter) -> nn.Parameter:
        at, given = self._given[spec.name]
        owner = self.learnable[at].blob
        _check_shapes(spec, owner.shape, blob.shape, self.learnable[at].layer)
        for field in ("lr_mult", "decay_mult"):
            if not spec.HasField(field):
                continue
            if given.HasField(field) and getattr(given, field) != getattr(spec, field):
                raise LayerParamError(
                    f"shared param {spec.name!r} has mismatched {field}: {getattr(spec, field):g} "
                    f"here, {getattr(given, field):g} in layer {self.learnable[at].layer!r}; "
                    "give the same value, or give it once"
                )
            setattr(given, field, getattr(spec, field))
        self._own_again(at, given)
        if owner.shape == blob.shape:
            return owner
        view = nn.Parameter(owner.detach().view(blob.shape))
        self.views.append((view, owner))
        return view

    def _own_again(self, at: int, given: ParamSpec) -> None:
        old = self.learnable[at]
        self.learnable[at] = LearnableBlob(
            blob=old.blob,
            lr_mult=given.lr_mult,
            decay_mult=given.decay_mult,
            layer=old.layer,
            index=old.index,
            name=old.name,
        )


def _check_shapes(spec: ParamSpec, owner: torch.Size, sharer: torch.Size, layer: str) -> None:
    permissive = spec.share_mode == ParamSpec.PERMISSIVE
    fits = owner.numel() == sharer.numel() if permissive else owner == sharer
    if not fits:
        wanted = "equal counts" if permissive else "equal shapes (or share_mode PERMISSIVE)"
        raise LayerParamError(
            f"cannot share param {spec.name!r} owned by layer {layer!r}: shape {list(sharer)} "
            f"here, {list(owner)} there; sharing needs {wanted}"
        )
