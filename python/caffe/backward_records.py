"""What a layer's backward pass starts from: what its forward left, and what scripts changed since.

The reference's layers read some blobs at the time of backward: a script may have written into them
after the forward pass, or there was none. What they keep from forward (masks, maxima, statistics)
does not follow; see `Layer.backward_reads` and `Layer.backward_from_top`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.blob_store import BlobStore
from caffe_ssd.layers.blob import Blob
from caffe_ssd.layers.registry import Layer
from caffe_ssd.net import Net as EngineNet
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.layerwise import LayerPass, leaves_of
from caffe_ssd.net.runner import Runner, statistics_kept


class BackwardRecords:
    """The records of one net.

    Args:
        engine: the net.
        blobs: its blobs, by number.
    """

    def __init__(self, engine: EngineNet, blobs: Sequence[Blob]) -> None:
        self._engine = engine
        self._blobs = blobs
        self._finals = engine.plan.final_values()
        self._records: dict[int, tuple[LayerPass, list[int]]] = {}  # by step, with looks

    def keep(self, op: Instruction, bottoms: Sequence[Tensor], tops: Sequence[Tensor]) -> None:
        """A layer has run forward.

        Args:
            op: the layer.
            bottoms: leaves of its own graph.
            tops: what it made of them.
        """
        self._records[id(op.step)] = LayerPass(bottoms, tops), self._looks(op)

    def record_for(self, op: Instruction) -> LayerPass:
        """What the layer's backward pass starts from."""
        record, looks = self._records.get(id(op.step), (None, []))
        if record is not None and looks == self._looks(op):
            return record
        return self._anew(op, record)

    def corrected(
        self, op: Instruction, diffs: Sequence[Tensor], found: list[Tensor | None]
    ) -> list[Tensor | None]:
        """The bottoms' diffs where the reference finds them from a top that may have been changed.

        Args:
            op: the layer, which has run backward.
            diffs: of its tops.
            found: of its bottoms.
        """
        if not found or found[0] is None or not op.tops:
            return found
        _, looks = self._records.get(id(op.step), (None, []))
        blob = self._blobs[op.tops[0].blob]
        is_changed = blob.data_memory.is_held or looks != self._looks(op)
        if is_changed and self._finals[op.tops[0].blob] == op.tops[0]:
            layer: Layer = op.layer  # type: ignore[assignment]
            top = blob.data_memory.tensor(blob.shape, diffs[0].device)
            diff = layer.backward_from_top(top, diffs[0])
            return found if diff is None else [diff, *found[1:]]
        return found

    def _looks(self, op: Instruction) -> list[int]:
        """How often scripts have looked at the layer's blobs."""
        return [self._blobs[v.blob].data_memory.looks for v in (*op.bottoms, *op.tops)]

    def _anew(self, op: Instruction, before: LayerPass | None) -> LayerPass:
        """What a forward pass would leave with the blobs as they are now."""
        layer: Layer = op.layer  # type: ignore[assignment]
        store = BlobStore(self._blobs, self._engine.device)
        bottoms = [store[value].detach().clone() for value in op.bottoms]
        if before is not None:
            again = [
                i in layer.backward_reads and self._finals[value.blob] == value
                for i, value in enumerate(op.bottoms)
            ]
            if not any(again):
                return before
            pairs = zip(bottoms, before.bottoms, again, strict=True)
            bottoms = [now if flag else old for now, old, flag in pairs]
        leaves = leaves_of(op, bottoms)
        with statistics_kept([op]):
            tops = Runner(self._engine.context()).make(op, leaves)
        return LayerPass(leaves, tops)
