"""DetectionOutput in ONNX's standard operators, behind a graph that ends with its bottoms.

The result has DetectionOutput's rows, shape and order; see `caffe_ssd.layers.detection_output`.
Suppression is done for all classes at once, each an image of NonMaxSuppression with boxes of its
own, so that only the `top_k` best of a class take part, as the layer wants it.

Letters: N images, P priors, C classes that count, K candidates per class, D detections.
"""

from __future__ import annotations

from caffe_ssd.boxes.coding import CodeType
from caffe_ssd.engines.export.part import Detection
from caffe_ssd.engines.onnx_graph import OnnxGraph

_ROW = 7


def refuse_unwritable(detection: Detection) -> None:
    """Make sure that ONNX can say what a DetectionOutput does.

    Raises:
        UsageError: it cannot; names the layer and the setting.
    """
    rule = detection.layer.rule
    if detection.adapts:
        detection.refuse("ONNX", f"nms_param.eta {rule.eta:g}, a threshold that adapts")
    if rule.top_k == 0 or rule.keep_top_k == 0:
        detection.refuse("ONNX", "a top_k or keep_top_k of 0, which finds nothing")


def write_detection(graph: OnnxGraph, detection: Detection) -> None:
    """Append what takes a DetectionOutput's bottoms to its top.

    Args:
        graph: gets the nodes; holds the bottoms by their names.
        detection: the layer and its place.
    """
    _Writer(graph, detection).write()


class _Writer:
    def __init__(self, graph: OnnxGraph, detection: Detection) -> None:
        self.graph = graph
        self.layer = detection.layer
        self.top = detection.top
        self.loc, self.conf, self.prior_blob = detection.bottoms[:3]
        background = self.layer.rule.background_label_id
        self.labels = [c for c in range(self.layer.num_classes) if c != background]

    def write(self) -> None:
        node, constant = self.graph.node, self.graph.constant
        scores, index, count = self._candidates()
        boxes = self._boxes(index)
        kept = self._suppressed(boxes, scores, count)
        flat_scores = self._per_image(scores)
        kept = self._best_of_image(self._per_image(kept), flat_scores)
        where = node("NonZero", [kept])  # by image, class and falling score
        places = node("Transpose", [where], perm=[1, 0])
        position = node("Gather", [where, constant([1])], axis=0)
        image = node("Gather", [where, constant([0])], axis=0)
        label = node("Gather", [constant(self.labels), node("Div", [position, count])], axis=0)
        numbers = [self._float(node("Transpose", [x], perm=[1, 0])) for x in (image, label)]
        score = node("Unsqueeze", [node("GatherND", [flat_scores, places]), constant([1])])
        rows = node("Concat", [*numbers, score, node("GatherND", [boxes, places])], axis=1)
        rows = node("Concat", [rows, self._nothing_found(rows, scores)], axis=0)
        self.graph.node("Unsqueeze", [rows, constant([0, 1])], self.top)

    def _candidates(self) -> tuple[str, str, str]:
        """The best scores of each class, [N, C, K], their priors' numbers, and K as [1]."""
        node, constant = self.graph.node, self.graph.constant
        shape = constant([0, -1, self.layer.num_classes])
        scores = node("Transpose", [node("Reshape", [self.conf, shape])], perm=[0, 2, 1])
        if len(self.labels) < self.layer.num_classes:
            scores = node("Gather", [scores, constant(self.labels)], axis=1)
        count = self._size(scores, 2)
        if self.layer.rule.top_k > 0:
            count = node("Min", [count, constant([self.layer.rule.top_k])])
        best, index = self.graph.nodes("TopK", [scores, count], 2, axis=2)
        return best, index, count

    def _boxes(self, index: str) -> str:
        """The decoded boxes of the candidates, [N, C * K, 4]."""
        node, constant = self.graph.node, self.graph.constant
        flat = node("Reshape", [index, constant([0, -1])])
        if self.layer.num_loc_classes == 1:
            loc = node("Reshape", [self.loc, constant([0, -1, 4])])
            code = node("GatherND", [loc, node("Unsqueeze", [flat, constant([2])])], batch_dims=1)
        else:
            loc = node("Reshape", [self.loc, constant([0, -1, self.layer.num_loc_classes, 4])])
            loc = node("Gather", [loc, constant(self.labels)], axis=2)
            loc = node("Transpose", [loc], perm=[0, 2, 1, 3])
            places = node("Unsqueeze", [index, constant([3])])
            code = node("GatherND", [loc, places], batch_dims=2)
            code = node("Reshape", [code, constant([0, -1, 4])])
        rows = node("Reshape", [self.prior_blob, constant([2, -1, 4])])
        priors, variances = (
            node("Gather", [node("Gather", [rows, constant(i)], axis=0), flat], axis=0)
            for i in (0, 1)
        )
        if not self.layer.variance_encoded:
            code = node("Mul", [code, variances])
        boxes = self._decoded(code, priors)
        if self.layer.rule.clip:
            boxes = node("Clip", [boxes, constant(0.0), constant(1.0)])
        return boxes

    def _decoded(self, code: str, priors: str) -> str:
        """See `caffe_ssd.boxes.coding.decode`."""
        node = self.graph.node
        low, high = self._halves(priors)
        size = node("Sub", [high, low])
        if self.layer.code_type == CodeType.CENTER_SIZE:
            two = self.graph.constant(2.0)
            move, growth = self._halves(code)
            middle = node("Div", [node("Add", [low, high]), two])
            center = node("Add", [node("Mul", [move, size]), middle])
            half = node("Div", [node("Mul", [node("Exp", [growth]), size]), two])
            corners = [node("Sub", [center, half]), node("Add", [center, half])]
            return node("Concat", corners, axis=2)
        if self.layer.code_type == CodeType.CORNER_SIZE:
            code = node("Mul", [code, node("Concat", [size, size], axis=2)])
        return node("Add", [priors, code])

    def _suppressed(self, boxes: str, scores: str, count: str) -> str:
        """Which candidates are left, as [N * C, K] of 0 and 1."""
        node, constant = self.graph.node, self.graph.constant
        rule = self.layer.rule
        low, high = self._halves(boxes)
        # A box turned inside out has no area here; NonMaxSuppression would turn it back.
        upright = node("Concat", [low, node("Max", [low, high])], axis=2)
        shape = node("Concat", [constant([-1]), count, constant([4])], axis=0)
        lists = node("Reshape", [upright, shape])
        ranks = node("Reshape", [scores, node("Concat", [constant([-1, 1]), count], axis=0)])
        limits = [constant(min(rule.nms_threshold, 1.0)), constant(rule.confidence_threshold)]
        chosen = node("NonMaxSuppression", [lists, ranks, count, *limits])
        table = node("Reshape", [scores, node("Concat", [constant([-1]), count], axis=0)])
        none = node("Expand", [constant(0.0), node("Shape", [table])])
        places = node("Gather", [chosen, constant([0, 2])], axis=1)
        ones = node("Expand", [constant(1.0), self._size(chosen, 0)])
        return node("ScatterND", [none, places, ones])

    def _best_of_image(self, kept: str, scores: str) -> str:
        """Those of [N, C * K] that are among the `keep_top_k` of their image."""
        node, constant = self.graph.node, self.graph.constant
        most = self.layer.rule.keep_top_k
        if most < 0:
            return kept
        is_kept = self._as(kept, "BOOL")
        ranks = node("Where", [is_kept, scores, constant(float("-inf"))])
        count = node("Min", [self._size(kept, 1), constant([most])])
        best, index = self.graph.nodes("TopK", [ranks, count], 2, axis=1)
        real = self._float(node("Greater", [best, constant(float("-inf"))]))
        none = node("Mul", [kept, constant(0.0)])
        return node("ScatterElements", [none, index, real], axis=1)

    def _nothing_found(self, rows: str, scores: str) -> str:
        """The N rows that stand for no detection in the whole batch; [0, 7] if there is one."""
        node, constant = self.graph.node, self.graph.constant
        empty = self._as(node("Equal", [self._size(rows, 0), constant([0])]), "INT64")
        count = node("Mul", [self._size(scores, 0), empty])
        end = node("Squeeze", [count, constant([0])])
        numbers = node("Range", [constant(0), end, constant(1)])
        images = self._float(node("Unsqueeze", [numbers, constant([1])]))
        shape = node("Concat", [count, constant([_ROW - 1])], axis=0)
        return node("Concat", [images, node("Expand", [constant(-1.0), shape])], axis=1)

    def _per_image(self, table: str) -> str:
        """[N, C, K] or [N * C, K] -> [N, C * K]."""
        images = self._size(self.conf, 0)
        shape = self.graph.node("Concat", [images, self.graph.constant([-1])], axis=0)
        return self.graph.node("Reshape", [table, shape])

    def _halves(self, boxes: str) -> list[str]:
        return self.graph.nodes("Split", [boxes, self.graph.constant([2, 2])], 2, axis=2)

    def _size(self, value: str, axis: int) -> str:
        """One axis of a value, as [1]."""
        shape = self.graph.node("Shape", [value])
        return self.graph.node("Gather", [shape, self.graph.constant([axis])], axis=0)

    def _as(self, value: str, kind: str) -> str:
        return self.graph.node("Cast", [value], to=self.graph.kind(kind))

    def _float(self, value: str) -> str:
        return self._as(value, "FLOAT")
