"""Recomputes BatchNorm's running statistics for weights that no longer change.

Spec: caffe-layers.md section C. The running sums of a training hold passes made with older weights:
at Caffe's fraction of 0.999 about the last thousand. After a short training they describe a net
that is gone, and the test score suffers.
"""

from __future__ import annotations

import torch

from caffe_ssd.errors import NetError
from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.net.net import Net


def recompute_statistics(net: Net, passes: int) -> None:
    """Replace the running statistics by those of some passes over the net's own training data.

    Args:
        net: in phase TRAIN, with data layers and weights.
        passes: how many.

    Raises:
        NetError: no BatchNorm of the net gathers statistics.
    """
    gathering = [
        layer for layer in net.layers if isinstance(layer, BatchNorm) and not layer.use_global_stats
    ]
    if not gathering:
        raise NetError("no BatchNorm layer gathers statistics here; give the training net")
    with torch.no_grad():
        for layer in gathering:
            for i in layer.statistics:
                layer.blobs[i].zero_()
        for _ in range(passes):
            net()
