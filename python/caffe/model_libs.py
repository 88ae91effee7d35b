"""Building blocks of SSD nets, under the names and keywords that scripts of SSD-Caffe use.

    from caffe.model_libs import *     # also gives L, P, caffe_pb2, os and math

Spec: ssd-layers.md section 10. The parts themselves are in `caffe.models`.
"""

import math
import os

from caffe import layers as L
from caffe import params as P
from caffe.models.blocks import bn_relu, bn_relu_conv, conv_bn_relu
from caffe.models.dsod import (
    DSOD300,
    DSOD300_LITE,
    DSOD300_SMALLEST,
    DenseBody,
    DSOD300_V3_Body,
    DSOD512_V3_Body,
    add_bl_layer,
    add_dense_block,
    add_downsampling,
    bl_layer,
    transition,
)
from caffe.models.files import make_folder
from caffe.models.grp_dsod import (
    GRP_DSOD300,
    GRP_DSOD320,
    Gated_module,
    GatedPyramid,
    GRP_DSOD320_V6_Recurrent_Pyramid,
)
from caffe.models.inception import InceptionBody, InceptionTower, InceptionV3Body
from caffe.models.multibox_head import CreateMultiBoxHead
from caffe.models.named_layers import ConvBNLayer, CreateAnnotatedDataLayer, UnpackVariable
from caffe.models.resnet import (
    AddPooledExtraLayers,
    ResBody,
    ResNet50Body,
    ResNet101Body,
    ResNet152Body,
    ResNetBody,
)
from caffe.models.scratchdet import (
    ROOT_RESNET18,
    ROOT_RESNET34,
    Resnet18rootV2,
    Resnet34rootV2_res,
    RootResNetBody,
)
from caffe.models.vgg import (
    VGG_SSD300,
    VGG_SSD512,
    AddExtraLayers,
    VGGBody,
    VGGNetBNBody,
    VGGNetBody,
    ZFNetBody,
)
from caffe.proto import caffe_pb2

__all__ = [
    "DSOD300",
    "DSOD300_LITE",
    "DSOD300_SMALLEST",
    "GRP_DSOD300",
    "GRP_DSOD320",
    "ROOT_RESNET18",
    "ROOT_RESNET34",
    "VGG_SSD300",
    "VGG_SSD512",
    "AddExtraLayers",
    "AddPooledExtraLayers",
    "ConvBNLayer",
    "CreateAnnotatedDataLayer",
    "CreateMultiBoxHead",
    "DSOD300_V3_Body",
    "DSOD512_V3_Body",
    "DenseBody",
    "GRP_DSOD320_V6_Recurrent_Pyramid",
    "GatedPyramid",
    "Gated_module",
    "InceptionBody",
    "InceptionTower",
    "InceptionV3Body",
    "L",
    "P",
    "ResBody",
    "ResNet50Body",
    "ResNet101Body",
    "ResNet152Body",
    "ResNetBody",
    "Resnet18rootV2",
    "Resnet34rootV2_res",
    "RootResNetBody",
    "UnpackVariable",
    "VGGBody",
    "VGGNetBNBody",
    "VGGNetBody",
    "ZFNetBody",
    "add_bl_layer",
    "add_dense_block",
    "add_downsampling",
    "bl_layer",
    "bn_relu",
    "bn_relu_conv",
    "caffe_pb2",
    "check_if_exist",
    "conv_bn_relu",
    "make_if_not_exist",
    "math",
    "os",
    "transition",
]


def check_if_exist(path):
    """Return whether a file or folder exists."""
    return os.path.exists(path)


def make_if_not_exist(path):
    """Make a folder, and those above it, unless it exists."""
    make_folder(path)
