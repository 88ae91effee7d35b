"""MultiBoxLoss: the training loss of SSD, locations of positives and classes of mined examples.

Spec: ssd-layers.md section 2; other-forks.md section 13.2 (two classes).
Quirk: both terms are divided by the number of positives (VALID), at least 1.
Quirk: with encode_variance_in_target the gradient is that of the divided prediction.
Quirk: the reference keeps matches between two forwards without a backward; here nothing is kept.
Quirk: priors and ground truth never get a gradient, with or without propagate_down.
Quirk: with two classes every ground truth label above 1 counts as 1, as in RefineDet's fork; the
    original aborts.

Letters: N images, P priors, C classes, L location classes (1 or C), R rows of the class loss.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from caffe_ssd.boxes.coding import CodeType
from caffe_ssd.boxes.ground_truth import LABEL_WIDTH, GroundTruth, read_ground_truth
from caffe_ssd.boxes.matching import Matches
from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.layers.detection_common import check_head_shapes, check_num_classes, split_priors
from caffe_ssd.layers.host_work import placed
from caffe_ssd.layers.late_check import LateCheck
from caffe_ssd.layers.loss_common import CountingLoss, read_mode, share_of_count
from caffe_ssd.layers.multibox_examples import MatchRule, MiningRule, Priors, match_tables, mine
from caffe_ssd.layers.multibox_terms import (
    Rows,
    class_loss,
    location_loss,
    location_pair,
    ranking_loss,
)
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.proto.caffe_pb2 import LossParameter, MultiBoxLossParameter

logger = logging.getLogger(__name__)


class Settings(TypedDict):
    """The arguments of `MultiBoxLoss`, which see."""

    num_classes: int
    match: MatchRule
    mining: MiningRule | None
    share_location: bool
    background_label_id: int
    use_difficult_gt: bool
    map_object_to_agnostic: bool
    code_type: CodeType
    encode_variance_in_target: bool
    bp_inside: bool
    smooth_location: bool
    logistic: bool
    loc_weight: float
    normalization: LossParameter.NormalizationMode
    terms: tuple[bool, bool]


class MultiBoxLoss(CountingLoss):
    """The layer; on a device its forward does not wait for it (see `Layer.check`).

    Args:
        num_classes: C, the background included.
        match: see `MatchRule`.
        mining: see `MiningRule`; None: every prior counts.
        share_location: L is 1 rather than C; needed for mining.
        background_label_id: the class of priors without an object.
        use_difficult_gt: learn from difficult objects, too.
        map_object_to_agnostic: the class of every object is the one after the background.
        code_type: of the location predictions.
        encode_variance_in_target: the predictions already contain the variances.
        bp_inside: no location loss for coordinates outside the image.
        smooth_location: SMOOTH_L1 rather than L2.
        logistic: LOGISTIC class loss rather than SOFTMAX.
        loc_weight: factor of the location term.
        normalization: what both terms are divided by.
        terms: whether locations and classes enter the loss.
    """

    takes_context = True
    reads_boxes = 3

    def __init__(
        self,
        *,
        num_classes: int,
        match: MatchRule | None = None,
        mining: MiningRule | None = None,
        share_location: bool = True,
        background_label_id: int = 0,
        use_difficult_gt: bool = True,
        map_object_to_agnostic: bool = False,
        code_type: CodeType = CodeType.CORNER,
        encode_variance_in_target: bool = False,
        bp_inside: bool = False,
        smooth_location: bool = True,
        logistic: bool = False,
        loc_weight: float = 1.0,
        normalization: LossParameter.NormalizationMode = LossParameter.VALID,
        terms: tuple[bool, bool] = (True, True),
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.match = MatchRule() if match is None else match
        self.mining = mining
        self.num_loc_classes = 1 if share_location else num_classes
        self.background_label_id = background_label_id
        self.use_difficult_gt = use_difficult_gt
        self.map_object_to_agnostic = map_object_to_agnostic
        self.code_type = code_type
        self.encode_variance_in_target = encode_variance_in_target
        self.bp_inside = bp_inside
        self.smooth_location = smooth_location
        self.logistic = logistic
        self.loc_weight = loc_weight
        self.normalization = normalization
        self.terms = terms
        self.late = LateCheck()
        self._told_folding = False

    def check(self) -> None:
        self.late.read()

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        loc, conf, priors, label, *_ = bottoms
        check_head_shapes(
            loc, conf, priors, num_classes=self.num_classes, num_loc_classes=self.num_loc_classes
        )
        if not label or label[-1] != LABEL_WIDTH:
            raise ShapeError(f"bottom 3 must have rows of {LABEL_WIDTH} numbers, got shape {label}")
        return ((),)

    def forward(
        self,
        loc: Tensor,
        conf: Tensor,
        priors: Tensor,
        label: Tensor,
        *arm: Tensor,
        context: RunContext | None = None,
    ) -> Tensor:
        loc, conf, prior = self._predictions(loc, conf, priors)
        self.late.puts_off = torch.is_grad_enabled()
        context = RunContext(device=loc.device) if context is None else context
        gts = context.from_host(label, partial(self._ground_truth, num_images=len(loc)))
        anchors, allowed = self.first_step(prior, len(loc), *(bottom.detach() for bottom in arm))
        found = self._matches(loc, prior, gts, anchors)
        negative = None
        match = found.gt
        if self.mining is not None:
            match, negative = self._mine(self.mining, loc, conf, prior, gts, found, allowed)

        normalizer = self._normalizer(match)
        total = prior.boxes.new_zeros(())
        if self.terms[0]:
            loc_loss = self._location_loss(loc, anchors, gts, match)[1].sum()
            total = total + self.loc_weight * loc_loss / normalizer
        if self.terms[1]:
            label = self._class_of(gts, match[:, 0])
            for table in match.unbind(1)[1:]:  # the last class that matched counts
                label = torch.where(table >= 0, self._class_of(gts, table), label)
            matched = (match >= 0).any(1)
            conf_loss = class_loss(conf, label, matched, negative, logistic=self.logistic)
            total = total + conf_loss / normalizer
        return total

    @torch.no_grad()
    def reason_for_zero(self, *bottoms: Tensor) -> str:
        loc, _, prior = self._predictions(*bottoms[:3])
        gts = placed(self._ground_truth(bottoms[3].cpu(), num_images=len(loc)), loc.device)
        if not bool(gts.counts.any()):
            return "there is no box in this batch's data"
        anchors, _ = self.first_step(prior, len(loc), *bottoms[4:])
        if bool((self._matches(loc, prior, gts, anchors).gt >= 0).any()):
            return ""
        return (
            "no prior matches any box of this batch "
            f"(overlap_threshold {self.match.overlap_threshold:g})"
        )

    def _predictions(
        self, loc: Tensor, conf: Tensor, priors: Tensor
    ) -> tuple[Tensor, Tensor, Priors]:
        """Locations [N, P, L, 4], logits [N, P, C] and the priors."""
        boxes, variances = split_priors(priors)
        prior = Priors(
            boxes=boxes,
            variances=variances,
            code_type=self.code_type,
            variance_in_target=self.encode_variance_in_target,
            late=self.late,
        )
        # Half precision predictions are brought to the priors' float32 before anything is summed.
        loc = loc.to(boxes.dtype).reshape(len(loc), len(boxes), self.num_loc_classes, 4)
        conf = conf.to(boxes.dtype).reshape(len(conf), len(boxes), self.num_classes)
        return loc, conf, prior

    def _ground_truth(self, label: Tensor, *, num_images: int) -> GroundTruth:
        """On the host, from the label there."""
        folds = self.num_classes == 2 and not self.map_object_to_agnostic
        gts = read_ground_truth(
            label,
            num_images=num_images,
            background_label_id=self.background_label_id,
            use_difficult=self.use_difficult_gt,
            label_end=None if folds else self.num_classes,
        )
        if folds and not self._told_folding and bool((gts.labels > 1).any()):
            logger.info("with 2 classes, ground truth labels above 1 count as 1")
            self._told_folding = True
        return gts

    def _matches(self, loc: Tensor, prior: Priors, gts: GroundTruth, anchors: Priors) -> Matches:
        return match_tables(
            loc.detach(),
            prior,
            gts,
            self.match,
            anchors=anchors,
            background_label_id=self.background_label_id,
        )

    def first_step(
        self, prior: Priors, num_images: int, *arm: Tensor
    ) -> tuple[Priors, Tensor | None]:
        """What a first prediction makes of the priors, which this layer does not have.

        Args:
            prior: as given.
            num_images: N.
            arm: bottoms from the fifth on.

        Returns:
            The priors to match, and which of them may be mined, [N, P] bool (None for all).
        """
        return prior, None

    def _mine(
        self,
        rule: MiningRule,
        loc: Tensor,
        conf: Tensor,
        prior: Priors,
        gts: GroundTruth,
        found: Matches,
        allowed: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Matches [N, 1, P] and negatives [N, P] after mining; locations are shared."""
        label = self._class_of(gts, found.gt[:, 0])
        loss = ranking_loss(conf.detach(), label, logistic=self.logistic)
        if rule.hard_example:
            positives, loc_loss = self._location_loss(loc.detach(), prior, gts, found.gt)
            loss = loss + positives.spread(loc_loss.sum(1))[:, 0]
        shared = Matches(gt=found.gt[:, 0], overlap=found.overlap[:, 0])
        match, negative = mine(
            shared, loss, loc.detach()[:, :, 0], prior, gts.counts, rule, allowed
        )
        return match[:, None], negative

    def _class_of(self, gts: GroundTruth, match: Tensor) -> Tensor:
        """The class each prior should be given, [N, P] -> [N, P]."""
        if self.map_object_to_agnostic:
            background = torch.full_like(match, self.background_label_id)
            return background + (match >= 0)
        label = gts.labels_of(match, self.background_label_id)
        if self.num_classes == 2:
            label = label.clamp(max=1)
        if gts.has_odd_labels:  # only labels that match must be right
            wrong = (match >= 0) & ((label < 0) | (label >= self.num_classes))
            if bool(wrong.any()):
                raise LayerError(
                    f"ground truth labels must be from 0 to {self.num_classes - 1}, "
                    f"got {int(label[wrong][0])}"
                )
        return label

    def _location_loss(
        self, loc: Tensor, prior: Priors, gts: GroundTruth, match: Tensor
    ) -> tuple[Rows, Tensor]:
        """The positives among [N, L, P], and their losses, [R, 4]."""
        positives, prediction, target = location_pair(
            loc, prior, gts, match, bp_inside=self.bp_inside, use_prior=self.match.use_prior
        )
        return positives, location_loss(prediction, target, smooth=self.smooth_location)

    def _normalizer(self, match: Tensor) -> Tensor | int:
        """What both terms are divided by; [N, L, P]."""
        match self.normalization:
            case LossParameter.FULL:
                return max(1, len(match) * match.shape[2])
            case LossParameter.VALID:
                return share_of_count((match >= 0).sum(), self.peers)
            case LossParameter.BATCH_SIZE:
                return max(1, len(match))
            case _:
                return 1


@register_layer("MultiBoxLoss", bottoms=4, is_loss=True, not_forced=(2, 3))
def _build(spec: LayerSpec) -> MultiBoxLoss:
    layer = MultiBoxLoss(**read_settings(spec))
    layer.top_shapes(*spec.bottoms)
    return layer


def read_settings(spec: LayerSpec) -> Settings:
    """The arguments of `MultiBoxLoss` that a message stands for.

    Raises:
        LayerParamError: they make no sense.
    """
    param = spec.param.multibox_loss_param
    num_classes = check_num_classes(param.num_classes if param.HasField("num_classes") else None)
    _check_classes(param)
    count = len(spec.bottoms)
    given = tuple(spec.param.propagate_down)
    reached = given if given else (True, True, *(False,) * (count - 2))
    if len(reached) != count or any(reached[2:]):
        raise LayerParamError(
            f"propagate_down must be given for all {count} bottoms and be false for all but "
            f"locations and classes, got {', '.join(str(flag).lower() for flag in reached)}"
        )
    return Settings(
        num_classes=num_classes,
        match=MatchRule(
            per_prediction=param.match_type == MultiBoxLossParameter.PER_PREDICTION,
            overlap_threshold=param.overlap_threshold,
            use_prior=param.use_prior_for_matching,
            ignore_cross_boundary=param.ignore_cross_boundary_bbox,
        ),
        mining=_read_mining(param),
        share_location=param.share_location,
        background_label_id=param.background_label_id,
        use_difficult_gt=param.use_difficult_gt,
        map_object_to_agnostic=param.map_object_to_agnostic,
        code_type=CodeType(param.code_type),
        encode_variance_in_target=param.encode_variance_in_target,
        bp_inside=param.bp_inside,
        smooth_location=param.loc_loss_type == MultiBoxLossParameter.SMOOTH_L1,
        logistic=param.conf_loss_type == MultiBoxLossParameter.LOGISTIC,
        loc_weight=param.loc_weight,
        normalization=read_mode(spec.param.loss_param, LossParameter.VALID),
        terms=(reached[0], reached[1]),
    )


def _check_classes(param: MultiBoxLossParameter) -> None:
    only_objects = (
        param.conf_loss_type == MultiBoxLossParameter.LOGISTIC
        and param.mining_type == MultiBoxLossParameter.NONE
    )
    if param.background_label_id >= param.num_classes and not only_objects:
        raise LayerParamError(
            f"background_label_id must be below num_classes {param.num_classes}, "
            f"got {param.background_label_id}"
        )
    if param.map_object_to_agnostic and (param.num_classes, param.background_label_id) != (2, 0):
        raise LayerParamError(
            "map_object_to_agnostic needs num_classes 2 and background_label_id 0, "
            f"got {param.num_classes} and {param.background_label_id}"
        )


def _read_mining(param: MultiBoxLossParameter) -> MiningRule | None:
    mines = param.mining_type != MultiBoxLossParameter.NONE
    if param.HasField("do_neg_mining") and param.do_neg_mining != mines:
        kind = MultiBoxLossParameter.MiningType.Name(param.mining_type)
        raise LayerParamError(
            f"do_neg_mining: {str(param.do_neg_mining).lower()} contradicts mining_type: {kind}; "
            "give mining_type alone"
        )
    if not mines:
        return None
    if not param.share_location:
        raise LayerParamError(
            "mining needs share_location: true, got false; set it, or mining_type: NONE"
        )
    hard_example = param.mining_type == MultiBoxLossParameter.HARD_EXAMPLE
    if hard_example and param.sample_size <= 0:
        raise LayerParamError(f"sample_size must be positive, got {param.sample_size}")
    nms = param.nms_param
    return MiningRule(
        hard_example=hard_example,
        neg_pos_ratio=param.neg_pos_ratio,
        neg_overlap=param.neg_overlap,
        sample_size=param.sample_size,
        nms_threshold=nms.nms_threshold if param.HasField("nms_param") else 0.0,
        nms_top_k=nms.top_k if nms.HasField("top_k") else -1,
        use_prior_for_nms=param.use_prior_for_nms,
    )
