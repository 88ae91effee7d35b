"""DepthwiseConvolution: a convolution with a group for every input channel.

Spec: other-forks.md section 1. From yonghenglh6, eric612 and imistyrain; ConvolutionDepthwise is
farmingyard's. Blobs, fillers and gradients are a Convolution's.
Quirk: DepthwiseConvolution takes a given group above 1 as it is; ConvolutionDepthwise reads neither
group nor num_output: it has as many outputs as channels.
"""

from __future__ import annotations

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.convolution import Convolution, build_convolution
from caffe_ssd.layers.registry import AT_LEAST_ONE, LayerSpec, register_layer
from caffe_ssd.proto.caffe_pb2 import ConvolutionParameter


def _settings(spec: LayerSpec) -> tuple[ConvolutionParameter, int]:
    """A copy of the message, and C."""
    param = ConvolutionParameter()
    param.CopyFrom(spec.param.convolution_param)
    bottom = spec.bottoms[0]
    return param, bottom[canonical_axis(param.axis, len(bottom))]


@register_layer("DepthwiseConvolution", bottoms=AT_LEAST_ONE, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Convolution:
    param, channels = _settings(spec)
    if param.group == 1:  # absent, too
        param.group = channels
    return build_convolution(spec, param)


@register_layer("ConvolutionDepthwise", bottoms=AT_LEAST_ONE, tops=AT_LEAST_ONE)
def _build_implied(spec: LayerSpec) -> Convolution:
    param, channels = _settings(spec)
    if param.HasField("num_output") and param.num_output != channels:
        raise LayerParamError(
            f"has as many outputs as channels, {channels}, got num_output {param.num_output}; "
            "DepthwiseConvolution takes several per channel"
        )
    param.group = param.num_output = channels
    return build_convolution(spec, param)
