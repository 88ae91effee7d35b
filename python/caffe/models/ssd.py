"""Train, test and deploy net of a single-shot detector with any body.

Spec: ssd-layers.md section 10, ssd-data.md section 8.
"""

from __future__ import division

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from caffe.models.datasets import MEAN_BGR
from caffe.models.multibox_head import CreateMultiBoxHead
from caffe.models.named_layers import CreateAnnotatedDataLayer, UnpackVariable
from caffe.models.normalisers import with_group_norm
from caffe.models.records import record
from caffe.proto import caffe_pb2

NEG_POS_RATIO = 3.0
# Weighs the box term of the loss like the class term, which counts negatives too.
LOC_WEIGHT = (NEG_POS_RATIO + 1) / 4

# Of the priors, for the six maps of a 300 px image and the seven of a 512 px one.
SIX_MAPS_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SEVEN_MAPS_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))

# What evens out the maps of a body that batch norm was made for. `group` never sees the batch.
NORMALIZERS = ("batch", "group")

INTERPOLATIONS = ("LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4")
DISTORTION = {
    "brightness_prob": 0.5,
    "brightness_delta": 32,
    "contrast_prob": 0.5,
    "contrast_lower": 0.5,
    "contrast_upper": 1.5,
    "hue_prob": 0.5,
    "hue_delta": 18,
    "saturation_prob": 0.5,
    "saturation_lower": 0.5,
    "saturation_upper": 1.5,
    "random_order_prob": 0.0,
}


class DetectorSpec(
    record(
        "DetectorSpec",
        "body",
        "steps",
        "aspect_ratios",
        ("image_size", 300),
        ("normalizations", 20),
        ("head_batch_norm", True),
        ("head_lr_mult", 1),
        ("statistics_kept", None),
        ("normalizer", "batch"),
        ("clip", False),
        ("first_max_size", True),
    )
):
    """A net without its data.

    body: has `sources`, the names of its maps, and `add_to(net, from_layer)`.
    steps: pixels between the priors of each map.
    aspect_ratios: of the priors of each map, without 1 and without their inverses.
    image_size: height and width in pixels.
    normalizations: initial scale of the L2 normalisation of each map, or one for all; -1 for none.
    head_batch_norm: batch norm in the heads, and no bias.
    head_lr_mult: learning rate of the heads, times the net's.
    statistics_kept: share of its running statistics that batch norm keeps in a training pass.
        Caffe's 0.999, where it is not given, remembers a thousand passes: half a short training.
    normalizer: one of `NORMALIZERS`; `group` puts GroupNorm in the place of every BatchNorm.
    clip: priors end at the image's border.
    first_max_size: the finest map has the second square prior that the others have.
    """

    @property
    def resize_name(self):
        """`300x300`."""
        return "{}x{}".format(self.image_size, self.image_size)


def train_net(detector, dataset, batch_size):
    """Return the net that computes the loss of `batch_size` augmented images per device."""
    net = NetSpec()
    net.data, net.label = CreateAnnotatedDataLayer(
        dataset.train_data,
        batch_size=batch_size,
        label_map_file=dataset.label_map,
        transform_param=_train_transform(detector, dataset),
        batch_sampler=_batch_samplers(dataset.augmentation),
    )
    mbox = _add_predictions(net, detector, dataset)
    loss = {
        "multibox_loss_param": _loss_param(dataset),
        "loss_param": {"normalization": P.Loss.VALID},
        "include": {"phase": caffe_pb2.Phase.Value("TRAIN")},
        "propagate_down": [True, True, False, False],
    }
    net.mbox_loss = L.MultiBoxLoss(*(list(mbox) + [net.label]), **loss)
    return _normalised(net.to_proto(), detector)


def test_net(detector, dataset, batch_size, output_dir):
    """Return the net that scores `batch_size` images per pass and saves what it finds."""
    net = NetSpec()
    net.data, net.label = CreateAnnotatedDataLayer(
        dataset.test_data,
        batch_size=batch_size,
        train=False,
        label_map_file=dataset.label_map,
        transform_param=_transform(detector, dataset, ["LINEAR"]),
    )
    mbox = _add_predictions(net, detector, dataset)
    _add_detections(net, mbox, dataset, output_dir)
    net.detection_eval = L.DetectionEvaluate(
        net.detection_out,
        net.label,
        detection_evaluate_param={
            "num_classes": dataset.num_classes,
            "background_label_id": 0,
            "overlap_threshold": 0.5,
            "evaluate_difficult_gt": False,
            "name_size_file": dataset.name_size_file,
        },
        include={"phase": caffe_pb2.Phase.Value("TEST")},
    )
    return _normalised(net.to_proto(), detector)


def timing_net(detector, dataset, batch_size):
    """Return a test net to be timed: it reads no labels, saves nothing and its output is silent."""
    net = NetSpec()
    net.data = CreateAnnotatedDataLayer(
        dataset.test_data,
        batch_size=batch_size,
        output_label=False,
        train=False,
        label_map_file=dataset.label_map,
        transform_param=_transform(detector, dataset, ["LINEAR"]),
    )
    _add_detections(net, _add_predictions(net, detector, dataset), dataset, None)
    net.silence = L.Silence(
        net.detection_out, ntop=0, include={"phase": caffe_pb2.Phase.Value("TEST")}
    )
    return _normalised(net.to_proto(), detector)


def deploy_net(detector, test):
    """Return a test net with an input in place of its data and without its evaluation."""
    net = caffe_pb2.NetParameter()
    net.input.append("data")
    net.input_shape.add().dim.extend([1, 3, detector.image_size, detector.image_size])
    net.layer.extend(test.layer[1:-1])
    return net


def _normalised(param, detector):
    """Return a net with the detector's normaliser, and its `statistics_kept` if it is given."""
    norms = [layer for layer in param.layer if layer.type == "BatchNorm"]
    if detector.normalizer == "group":
        if not norms:
            raise ValueError("normalizer 'group' takes the place of batch norm, the net has none")
        return with_group_norm(param)
    if detector.normalizer != "batch":
        allowed = " or ".join(NORMALIZERS)
        raise ValueError("normalizer must be {}, got {!r}".format(allowed, detector.normalizer))
    if detector.statistics_kept is not None:
        for layer in norms:
            layer.batch_norm_param.moving_average_fraction = detector.statistics_kept
    return param


def _add_predictions(net, detector, dataset):
    detector.body.add_to(net, "data")
    sources = detector.body.sources
    ratios = dataset.ratios_for(detector.image_size)
    min_sizes, max_sizes = ratios.sizes(detector.image_size, len(sources))
    if not detector.first_max_size:
        max_sizes[0] = []
    return CreateMultiBoxHead(
        net,
        data_layer="data",
        from_layers=sources,
        num_classes=dataset.num_classes,
        min_sizes=min_sizes,
        max_sizes=max_sizes,
        aspect_ratios=detector.aspect_ratios,
        steps=detector.steps,
        normalizations=UnpackVariable(detector.normalizations, len(sources)),
        use_batchnorm=detector.head_batch_norm,
        lr_mult=detector.head_lr_mult,
        prior_variance=[0.1, 0.1, 0.2, 0.2],
        clip=detector.clip,
        kernel_size=3,
        pad=1,
    )


def _add_detections(net, mbox, dataset, output_dir):
    loc, conf, priorbox = mbox
    shape = {"dim": [0, -1, dataset.num_classes]}
    net.mbox_conf_reshape = L.Reshape(conf, shape=shape)
    net.mbox_conf_softmax = L.Softmax(net.mbox_conf_reshape, axis=2)
    net.mbox_conf_flatten = L.Flatten(net.mbox_conf_softmax, axis=1)
    net.detection_out = L.DetectionOutput(
        loc,
        net.mbox_conf_flatten,
        priorbox,
        detection_output_param=_detection_param(dataset, output_dir),
        include={"phase": caffe_pb2.Phase.Value("TEST")},
    )


def _transform(detector, dataset, interpolations):
    transform = {
        "mean_value": list(MEAN_BGR),
        "resize_param": {
            "prob": 1,
            "resize_mode": P.Resize.WARP,
            "height": detector.image_size,
            "width": detector.image_size,
            "interp_mode": [getattr(P.Resize, name) for name in interpolations],
        },
    }  # type: dict[str, Any]
    if dataset.force_color:
        transform["force_color"] = True
    return transform


def _train_transform(detector, dataset):
    augmentation = dataset.augmentation
    transform = _transform(detector, dataset, list(INTERPOLATIONS))
    transform["mirror"] = True
    transform["emit_constraint"] = {"emit_type": caffe_pb2.EmitConstraint.CENTER}
    if augmentation.distortion:
        transform["distort_param"] = DISTORTION
    if augmentation.max_expand_ratio > 1:
        ratio = augmentation.max_expand_ratio
        transform["expand_param"] = {"prob": 0.5, "max_expand_ratio": ratio}
    return transform


def _batch_samplers(augmentation):
    """Return the whole image, patches of rising overlap with an object, and a free one.

    Nothing without crops: a data layer without samplers takes images as they are.
    """
    if not augmentation.crops:
        return []
    patch = {
        "min_scale": augmentation.min_scale,
        "max_scale": 1.0,
        "min_aspect_ratio": 0.5,
        "max_aspect_ratio": 2.0,
    }
    constraints = [{"min_jaccard_overlap": overlap} for overlap in augmentation.overlaps]
    constraints.append({"max_jaccard_overlap": 1.0})
    whole = {"max_trials": 1, "max_sample": 1}  # type: dict[str, Any]
    return [whole] + [
        {"sampler": patch, "sample_constraint": constraint, "max_trials": 50, "max_sample": 1}
        for constraint in constraints
    ]


def _loss_param(dataset):
    return {
        "loc_loss_type": P.MultiBoxLoss.SMOOTH_L1,
        "conf_loss_type": P.MultiBoxLoss.SOFTMAX,
        "loc_weight": LOC_WEIGHT,
        "num_classes": dataset.num_classes,
        "share_location": True,
        "match_type": P.MultiBoxLoss.PER_PREDICTION,
        "overlap_threshold": 0.5,
        "use_prior_for_matching": True,
        "background_label_id": 0,
        "use_difficult_gt": dataset.use_difficult,
        "mining_type": P.MultiBoxLoss.MAX_NEGATIVE,
        "neg_pos_ratio": NEG_POS_RATIO,
        "neg_overlap": 0.5,
        "code_type": P.PriorBox.CENTER_SIZE,
        "ignore_cross_boundary_bbox": False,
    }


def _detection_param(dataset, output_dir):
    param = {
        "num_classes": dataset.num_classes,
        "share_location": True,
        "background_label_id": 0,
        "nms_param": {"nms_threshold": 0.45, "top_k": 400},
        "keep_top_k": 200,
        "confidence_threshold": 0.01,
        "code_type": P.PriorBox.CENTER_SIZE,
    }  # type: dict[str, Any]
    if output_dir is not None:
        param["save_output_param"] = {
            "output_directory": output_dir,
            "output_name_prefix": dataset.output_prefix,
            "output_format": dataset.output_format,
            "label_map_file": dataset.label_map,
            "name_size_file": dataset.name_size_file,
            "num_test_image": dataset.num_test_image,
        }
    return param
