"""One or more small nets for every layer type.

A type that is registered without an entry in `CONFIGS` fails test_registry.py. To add one:

    "Type": [Config("type_param { ... }", bottoms=((N, 3, 5, 4),))],

`N` stands for the batch size. Sizes of a blob are pairwise different. `@DIR@` is the folder of
minimal_files.py.
"""

from __future__ import annotations

import torch

from tests.layers.build import draw
from tests.layers.minimal_config import (
    SHAPE,
    Config,
    N,
    continues,
    counting,
    detections,
    ground_truth,
    positive,
    priors,
    regions,
)

FILLERS = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" max: 0.5 }'
RECURRENT = f"recurrent_param {{ num_output: 5 {FILLERS} }}"
EXPOSED = f"recurrent_param {{ num_output: 5 expose_hidden: true {FILLERS} }}"
SEQUENCE = {"bottoms": ((4, N, 3), (4, N)), "values": {1: continues}, "fixed": (1,)}
LABELLED = {"bottoms": ((N, 5), (N,)), "values": {1: counting(5)}, "fixed": (1,)}
PROBABLE = LABELLED | {"values": {0: positive, 1: counting(5)}}
TWO = {"bottoms": (SHAPE, SHAPE)}
HEAD = {"bottoms": ((N, 24), (N, 18), (1, 2, 24), (1, 1, 3, 8))}
MULTIBOX = HEAD | {"values": {2: priors, 3: ground_truth}, "fixed": (2, 3)}
REFINED = {
    "bottoms": (*HEAD["bottoms"], (N, 12), (N, 24)),
    "values": {2: priors, 3: ground_truth, 4: positive},
    "fixed": (2, 3, 4, 5),
}
MINED = "multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE overlap_threshold: 0.4 "
STATE_IGNORED = "the states that are handed over are cut from the graph"

CONFIGS: dict[str, list[Config]] = {
    "AbsVal": [Config()],
    "Accuracy": [Config(**LABELLED), Config(**LABELLED, tops=2)],
    "AnnotatedData": [
        Config('data_param { source: "@DIR@/lmdb" backend: LMDB batch_size: 2 }', (), tops=2)
    ],
    "ArgMax": [Config("argmax_param { axis: 1 top_k: 2 }")],
    "Axpy": [
        Config(bottoms=((N, 3), SHAPE, SHAPE)),
        Config(bottoms=((N, 3, 1, 1), SHAPE, SHAPE)),
    ],
    "BN": [
        Config("bn_param { slope_filler { value: 2 } }"),
        Config("bn_param { slope_filler { value: 2 } frozen: true }"),
        Config("bn_param { slope_filler { value: 2 } eps: 0.5 }", phase="TEST"),
        Config("bn_param { scale_filler { value: 2 } }", tops=3),
        Config("bn_param { scale_filler { value: 2 } bn_mode: INFERENCE }"),
    ],
    "BNLL": [Config()],
    "BatchNorm": [
        Config(),
        Config("batch_norm_param { eps: 0.5 }", phase="TEST"),
        Config("batch_norm_param { scale_bias: true }"),
        Config("batch_norm_param { scale_filler { value: 2 } }", phase="TEST"),
    ],
    "BatchReindex": [
        Config(bottoms=((N, 3, 4), (5,)), values={1: counting(2)}, fixed=(1,)),
    ],
    "Bias": [Config("bias_param { filler { value: 2 } }"), Config(bottoms=(SHAPE, (3, 5)))],
    "BoxAnnotatorOHEM": [
        Config(
            "box_annotator_ohem_param { roi_per_img: 3 }",
            ((N, 5, 2, 3), (N, 1, 2, 3), (N, 1, 2, 3), (N, 4, 2, 3)),
            tops=2,
            values={0: regions, 2: counting(3)},
        )
    ],
    "Concat": [Config(bottoms=((N, 3, 5), (N, 4, 5)))],
    "ContrastiveLoss": [
        Config(
            "contrastive_loss_param { margin: 3 }",
            ((N, 5), (N, 5), (N,)),
            values={2: counting(2)},
            fixed=(2,),
            untrue="dissimilar pairs are divided by a distance that is 1e-4 too large",
        )
    ],
    "Convolution": [
        Config(
            f"convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 pad: 1 {FILLERS} }}",
            ((N, 2, 5, 6),),
        ),
        Config(
            "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 2 dilation: 2 group: 2 "
            f"{FILLERS} }}",
            ((N, 2, 3, 5),),
        ),
        Config(
            "convolution_param { num_output: 4 kernel_size: 3 pad_l: 2 pad_t: 1 pad_b: 3 "
            f"{FILLERS} }}",
            ((N, 2, 3, 5),),
        ),
    ],
    "ConvolutionDepthwise": [
        Config(f"convolution_param {{ kernel_size: 3 stride: 2 pad: 1 {FILLERS} }}"),
    ],
    "Crop": [
        # bottom 1 gives sizes only
        Config("crop_param { offset: 1 }", ((N, 3, 5, 4), (N, 6, 2, 3)), fixed=(1,)),
    ],
    "Data": [
        Config('data_param { source: "@DIR@/plain" backend: LMDB batch_size: 2 }', (), tops=2)
    ],
    "Deconvolution": [
        Config(f"convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 {FILLERS} }}"),
    ],
    "DepthwiseConvolution": [
        Config(f"convolution_param {{ num_output: 6 kernel_size: 3 {FILLERS} }}"),
    ],
    "DetectionEvaluate": [
        Config(
            "detection_evaluate_param { num_classes: 3 }",
            ((1, 1, 2, 7), (1, 1, 3, 8)),
            values={0: detections, 1: ground_truth},
            phase="TEST",
        )
    ],
    "DetectionOutput": [
        Config(
            "detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 4 "
            "nms_param { nms_threshold: 0.45 top_k: 5 } }",
            HEAD["bottoms"][:3],
            values={2: priors},
            phase="TEST",
        )
    ],
    "Dropout": [Config(phase="TEST"), Config("dropout_param { dropout_ratio: 0.3 }")],
    "DummyData": [
        Config(
            "dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 4 } "
            'data_filler { type: "uniform" } data_filler { value: 3 } }',
            (),
            tops=2,
        )
    ],
    "ELU": [Config("elu_param { alpha: 0.4 }")],
    "Eltwise": [
        Config("eltwise_param { coeff: 2 coeff: -1 }", **TWO),
        Config("eltwise_param { operation: PROD }", **TWO),
        Config("eltwise_param { operation: PROD stable_prod_grad: false }", **TWO),
        Config("eltwise_param { operation: MAX }", **TWO),
    ],
    "Embed": [
        Config(
            f"embed_param {{ num_output: 3 input_dim: 4 {FILLERS} }}",
            ((N, 5),),
            values={0: counting(4)},
            fixed=(0,),
        )
    ],
    "EuclideanLoss": [Config(bottoms=((N, 5), (N, 5)))],
    "Exp": [Config("exp_param { base: 2 scale: 0.5 shift: 1 }")],
    "Filter": [
        Config(
            bottoms=((N, 3, 4), (N, 5), (N,)),
            tops=2,
            values={2: lambda shape: torch.arange(shape[0]).float()},
            fixed=(2,),
        )
    ],
    "Flatten": [Config("flatten_param { axis: 2 }")],
    "GroupNorm": [Config("group_norm_param { num_groups: 2 eps: 0.1 }", ((N, 4, 3, 5),))],
    "HDF5Data": [
        Config('hdf5_data_param { source: "@DIR@/h5.txt" batch_size: 2 }', (), tops=2),
    ],
    "HDF5Output": [
        Config(
            'hdf5_output_param { file_name: "@DIR@/out.h5" }',
            ((N, 3, 5), (N,)),
            tops=0,
        )
    ],
    "HardSwish": [Config()],
    "HingeLoss": [Config(**LABELLED), Config("hinge_loss_param { norm: L2 }", **LABELLED)],
    "Im2col": [Config("convolution_param { kernel_size: 2 stride: 2 pad: 1 }")],
    "ImageData": [
        Config(
            'image_data_param { source: "@DIR@/images.txt" root_folder: "@DIR@/" batch_size: 2 }',
            (),
            tops=2,
        )
    ],
    "InfogainLoss": [
        Config(
            bottoms=((N, 5), (N,), (1, 1, 5, 5)),
            values={0: positive, 1: counting(5)},
            fixed=(1, 2),
        )
    ],
    "InnerProduct": [
        Config(f"inner_product_param {{ num_output: 4 {FILLERS} }}"),
        Config(f"inner_product_param {{ num_output: 4 axis: 2 transpose: true {FILLERS} }}"),
    ],
    "Input": [Config("input_param { shape { dim: @N@ dim: 3 } shape { dim: 4 } }", (), tops=2)],
    "Interp": [
        Config("interp_param { height: 7 width: 9 }"),
        Config("interp_param { shrink_factor: 2 pad_end: -1 }"),
        Config("interp_param { use_blob_size: true }", (SHAPE, (N, 1, 3, 8)), fixed=(1,)),
    ],
    "LRN": [
        Config("lrn_param { local_size: 3 alpha: 0.5 }", ((N, 4, 3, 5),)),
        Config("lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
    ],
    "LSTM": [
        Config(RECURRENT, **SEQUENCE),
        Config(
            EXPOSED,
            ((4, N, 3), (4, N), (1, N, 5), (1, N, 5)),
            tops=3,
            fixed=(1,),
            values={1: lambda shape: torch.ones(shape)},
            untrue=STATE_IGNORED,
        ),
    ],
    "LSTMUnit": [
        Config(
            bottoms=((1, N, 5), (1, N, 20), (1, N)),
            tops=2,
            values={2: lambda shape: torch.ones(shape)},
            fixed=(2,),
        )
    ],
    "Log": [Config("log_param { base: 2 scale: 0.5 shift: 1 }", values={0: positive})],
    "MVN": [
        Config(),
        Config("mvn_param { normalize_variance: false across_channels: true }"),
        Config("mvn_param { eps: 0.1 }", untrue="eps is added behind the root, but not there"),
    ],
    "MaskPooling": [Config(bottoms=(SHAPE, (N, 1, 5, 4)))],
    "MemoryData": [
        Config("memory_data_param { batch_size: 2 channels: 3 height: 5 width: 4 }", (), tops=2)
    ],
    "MultiBoxLoss": [
        Config(MINED + "}", **MULTIBOX),
        Config(
            MINED + "mining_type: NONE encode_variance_in_target: true }",
            **MULTIBOX,
            untrue="the code is divided by the variances, its gradient is not",
        ),
        Config(MINED + "}", **REFINED),
    ],
    "MultinomialLogisticLoss": [Config(**PROBABLE)],
    "Normalize": [
        Config("norm_param { across_spatial: false channel_shared: true }"),
        Config(
            'norm_param { scale_filler { type: "uniform" min: 1 max: 3 } channel_shared: false }',
            untrue="the norm's part takes the channels' scales for equal",
        ),
        Config(
            'normalize_param { normalize_type: "L1" bp_norm: true }', tops=2, values={0: positive}
        ),
    ],
    "PReLU": [Config(), Config("prelu_param { channel_shared: true }")],
    "PSROIPooling": [
        Config(
            "psroi_pooling_param { spatial_scale: 0.5 output_dim: 2 group_size: 2 }",
            ((N, 8, 5, 7), (N, 5)),
            values={1: regions},
            fixed=(1,),
        )
    ],
    "Parameter": [Config("parameter_param { shape { dim: 3 dim: 4 } }", ())],
    "Permute": [Config("permute_param { order: 0 order: 2 order: 3 order: 1 }")],
    "Pooling": [
        Config("pooling_param { kernel_size: 2 stride: 2 pad: 1 }"),
        Config("pooling_param { kernel_h: 3 kernel_w: 2 }", tops=2),
        Config("pooling_param { kernel_size: 2 stride: 2 ceil_mode: false }"),
        Config("pooling_param { kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2 round_mode: FLOOR }"),
        Config("pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
        Config("pooling_param { pool: AVE global_pooling: true }"),
        Config(
            "pooling_param { pool: STOCHASTIC kernel_size: 2 }",
            phase="TEST",
            values={0: positive},
        ),
    ],
    "Power": [
        Config("power_param { power: 3 scale: 0.5 shift: 9 }"),
        Config("power_param { power: 2 shift: 1 }"),
        Config("power_param { scale: 3 }"),
    ],
    "PriorBox": [
        Config(
            "prior_box_param { min_size: 8 max_size: 12 aspect_ratio: 2 }",
            ((N, 2, 4, 5), (N, 3, 31, 47)),
        ),
        Config(
            "prior_box_param { min_size: 8 aspect_ratio: 2 offset_w: 0.2 offset_w: 0.6 "
            "offset_h: 0.5 }",
            ((N, 2, 4, 5), (N, 3, 31, 47)),
        ),
        Config(
            "prior_box_param { min_size: 8 denser_prior_boxes: true }",
            ((N, 2, 4, 5), (N, 3, 31, 47)),
        ),
    ],
    "PriorBoxClustered": [
        Config(
            "prior_box_param { width: 8 height: 9 width: 5 height: 3 clip: true }",
            ((N, 2, 4, 5), (N, 3, 31, 47)),
        )
    ],
    "Python": [
        Config(
            'python_param { module: "minimal_gain" layer: "Gain" }',
            untrue="its author's arrays are float32, too coarse for finite differences",
        )
    ],
    "RNN": [
        Config(RECURRENT, **SEQUENCE),
        Config(
            EXPOSED,
            ((4, N, 3), (4, N), (1, N, 5)),
            tops=2,
            fixed=(1,),
            values={1: lambda shape: torch.ones(shape)},
            untrue=STATE_IGNORED,
        ),
    ],
    "ROIPooling": [
        Config(
            "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }",
            ((N, 3, 5, 7), (N, 5)),
            values={1: regions},
            fixed=(1,),
        )
    ],
    "ReLU": [
        Config(),
        Config("relu_param { negative_slope: 0.25 }"),
        Config("relu_param { relu6: true }", values={0: lambda shape: 5 * draw(*shape)}),
    ],
    "ReLU6": [
        Config("relu6_param { negative_slope: 0.25 }", values={0: lambda shape: 5 * draw(*shape)})
    ],
    "Reduction": [
        Config(f"reduction_param {{ operation: {operation} axis: 2 coeff: 3 }}")
        for operation in ("SUM", "ASUM", "SUMSQ", "MEAN")
    ],
    "Reorg": [
        Config("reorg_param { stride: 2 }", ((N, 4, 2, 6),)),
        Config("reorg_param { stride: 2 reverse: true }", ((N, 8, 3, 5),)),
    ],
    "Reshape": [Config("reshape_param { shape { dim: 0 dim: -1 dim: 2 } }")],
    "SPP": [Config("spp_param { pyramid_height: 2 pool: AVE }", ((N, 3, 7, 5),))],
    "Scale": [
        Config("scale_param { bias_term: true filler { value: 2 } }"),
        Config(bottoms=(SHAPE, (3, 5))),
    ],
    "ShuffleChannel": [Config("shuffle_channel_param { group: 2 }", ((N, 6, 5, 4),))],
    "Sigmoid": [Config()],
    "SigmoidCrossEntropyLoss": [
        Config(bottoms=((N, 5), (N, 5)), values={1: counting(2)}, fixed=(1,)),
    ],
    "Silence": [Config(bottoms=((N, 3), (N, 4, 5)), tops=0)],
    "Slice": [Config("slice_param { axis: 2 slice_point: 3 }", tops=2)],
    "SmoothL1Loss": [
        Config(bottoms=((N, 5), (N, 5))),
        Config("smooth_l1_loss_param { sigma: 3 }", ((N, 5),) * 4, fixed=(2, 3)),
    ],
    "SmoothL1LossOHEM": [
        Config("loss_weight: 1 loss_weight: 0", (SHAPE,) * 3, tops=2, fixed=(2,)),
    ],
    "Softmax": [Config("softmax_param { axis: 2 }")],
    "SoftmaxWithLoss": [
        Config(**LABELLED),
        Config(
            "softmax_param { axis: 2 } loss_param { ignore_label: 1 normalization: FULL }",
            ((N, 3, 4), (N, 3)),
            values={1: counting(4)},
            fixed=(1,),
        ),
    ],
    "SoftmaxWithLossOHEM": [
        Config("loss_weight: 1 loss_weight: 0 loss_weight: 0", **LABELLED, tops=3),
        Config("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 7 }", **LABELLED),
    ],
    "Split": [Config(tops=3)],
    "Squeeze": [Config("squeeze_param { axis: 2 }", ((N, 3, 1, 4),))],
    "Swish": [Config("swish_param { beta: 2 }")],
    "TanH": [Config()],
    "Threshold": [Config("threshold_param { threshold: 0.5 }")],
    "Tile": [Config("tile_param { axis: 2 tiles: 3 }")],
    "Upsample": [
        Config("upsample_param { scale: 2 }"),
        Config(
            "upsample_param { upsample_h: 9 upsample_w: 7 }",
            (SHAPE, SHAPE),
            values={1: counting(63)},
            fixed=(1,),
            untrue="",
        ),
    ],
    "UpsampleDarknet": [Config("upsample_darknet_param { stride: 3 }")],
    "VideoData": [
        Config(
            'video_data_param { video_type: VIDEO video_file: "@DIR@/video.avi" } '
            "data_param { batch_size: 2 }",
            (),
        )
    ],
    "WindowData": [
        Config(
            'window_data_param { source: "@DIR@/windows.txt" root_folder: "@DIR@/" '
            "batch_size: 4 fg_fraction: 0.5 } transform_param { crop_size: 9 }",
            (),
            tops=2,
        )
    ],
    "YoloDetectionOutput": [
        Config(
            "yolo_detection_output_param { num_classes: 2 num_box: 1 biases: 1 biases: 2 }",
            ((N, 7, 3, 3),),
        )
    ],
    "Yolov3DetectionOutput": [
        Config(
            "yolov3_detection_output_param { num_classes: 2 num_box: 1 biases: 10 biases: 20 "
            "mask: 0 mask: 0 anchors_scale: 32 anchors_scale: 16 }",
            ((N, 7, 2, 3), (N, 7, 4, 6)),
        )
    ],
}

# Layers that no gradient passes: they make data, or their tops are counts, indices or boxes.
WITHOUT_GRADIENT = {
    *("AnnotatedData", "Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData"),
    *("VideoData", "WindowData"),
    *("Accuracy", "ArgMax", "DetectionEvaluate", "DetectionOutput", "PriorBox", "Threshold"),
    *("BoxAnnotatorOHEM", "PriorBoxClustered", "YoloDetectionOutput", "Yolov3DetectionOutput"),
    *("HDF5Output", "Silence"),
}
