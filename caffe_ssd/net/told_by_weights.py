"""What only the weights tell: which of two layers a BN without settings is.

Spec: other-forks.md section 7.
"""

from __future__ import annotations

from caffe_ssd.layers.extensions.bn import NUM_PSPNET_BLOBS, NUM_SEGNET_BLOBS
from caffe_ssd.net.blob_copy import PathLike
from caffe_ssd.proto.binary import is_binary, read_weights
from caffe_ssd.proto.caffe_pb2 import BNParameter, LayerParameter, NetParameter


def settle_by_weights(param: NetParameter, path: PathLike) -> None:
    """Write into a net's BN layers without settings what the blobs of a file say they are.

    Args:
        param: upgraded; such layers are changed, and others are not even looked for in the file.
        path: a binary caffemodel; any other file tells nothing.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no caffemodel.
    """
    unsettled = {layer.name: layer for layer in param.layer if _is_unsettled(layer)}
    if not unsettled or not is_binary(path) or str(path).endswith(".h5"):
        return
    for source in read_weights(path).layer:
        layer = unsettled.get(source.name)
        if layer is not None and len(source.blobs) == NUM_SEGNET_BLOBS:
            layer.bn_param.bn_mode = BNParameter.LEARN
        elif layer is not None and len(source.blobs) == NUM_PSPNET_BLOBS:
            layer.bn_param.frozen = False


def _is_unsettled(layer: LayerParameter) -> bool:
    given = {field.name for field, _ in layer.bn_param.ListFields()}
    return layer.type == "BN" and given <= {"engine"}
