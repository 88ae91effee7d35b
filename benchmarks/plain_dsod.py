"""DSOD and its loss in plain PyTorch, as one would write them by hand: what we compare with.

Nothing of this package is used, except by `copy_weights`, which makes both networks the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain_nets import copy_weights as copy_blobs

PRIORS_PER_PLACE = (4, 6, 6, 6, 4, 4)
VARIANCES = torch.tensor([0.1, 0.1, 0.2, 0.2])


def max_pool(x: Tensor) -> Tensor:
    """Pool 2x2 with stride 2; an odd last row or column counts."""
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


def bn_relu_conv(num_input: int, num_output: int, kernel_size: int, stride: int = 1) -> nn.Module:
    """Batch norm, ReLU and convolution."""
    conv = nn.Conv2d(num_input, num_output, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(num_input), nn.ReLU(inplace=True), conv)


class DenseLayer(nn.Module):
    """Append `growth` channels."""

    def __init__(self, num_input: int, growth: int, bottleneck: int, stride: int = 1) -> None:
        super().__init__()
        self.squeeze = bn_relu_conv(num_input, bottleneck, 1)
        self.grow = bn_relu_conv(bottleneck, growth, 3, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        grown = self.grow(self.squeeze(x))
        return grown if self.stride > 1 else torch.cat([x, grown], 1)


class Downsampling(nn.Module):
    """Half the map: half the channels pooled, half of them convolved."""

    def __init__(self, num_input: int, num_output: int) -> None:
        super().__init__()
        self.pooled = bn_relu_conv(num_input, num_output, 1)
        self.strided = DenseLayer(num_input, num_output, num_output, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.pooled(max_pool(x)), self.strided(x)], 1)


class Head(nn.Module):
    """Predictions from one map: (N, locations) and (N, classes)."""

    def __init__(self, num_input: int, num_priors: int, num_classes: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((num_input, 1, 1), 20.0))
        self.loc, self.conf = (
            nn.Sequential(nn.Conv2d(num_input, n, 3, padding=1, bias=False), nn.BatchNorm2d(n))
            for n in (num_priors * 4, num_priors * num_classes)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.normalize(x, dim=1) * self.factor
        loc, conf = (branch(x).permute(0, 2, 3, 1).flatten(1) for branch in (self.loc, self.conf))
        return loc, conf


class PlainDSOD300(nn.Module):
    """The network: (N, 3, 300, 300) -> locations (N, P, 4), class scores (N, P, C).

    Args:
        num_classes: background included.
        bottleneck: channels of the 1x1 convolution in a dense layer; 64 in DSOD300_smallest.
        growth: channels that a dense layer adds; 16 in DSOD300_smallest.
    """

    def __init__(self, num_classes: int = 21, bottleneck: int = 192, growth: int = 48) -> None:
        super().__init__()
        self.num_classes = num_classes
        stem: list[nn.Module] = []
        for num_input, num_output, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
            stem += [nn.Conv2d(num_input, num_output, 3, stride, 1, bias=False)]
            stem += [nn.BatchNorm2d(num_output), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*stem)
        widths = [128]
        for number, depth in enumerate((6, 8, 8, 8), 1):
            channels = widths[-1]
            layers = [DenseLayer(channels + growth * i, growth, bottleneck) for i in range(depth)]
            channels += growth * depth
            widths.append(256 if number == 4 else channels)
            last = bn_relu_conv(channels, widths[-1], 1)
            self.add_module(f"stage{number}", nn.Sequential(*layers, last))
        self.shortcut = bn_relu_conv(widths[2], 256, 1)
        self.extras = nn.ModuleList(
            Downsampling(*sizes) for sizes in ((512, 256), (512, 128), (256, 128), (256, 128))
        )
        sources = (widths[2], 512, 512, 256, 256, 256)
        self.heads = nn.ModuleList(
            Head(width, n, num_classes) for width, n in zip(sources, PRIORS_PER_PLACE, strict=True)
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = max_pool(self.stem(x))
        first = self.stage2(max_pool(self.stage1(x)))
        x = self.stage4(self.stage3(max_pool(first)))
        maps = [first, torch.cat([x, self.shortcut(max_pool(first))], 1)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        found = [head(source) for head, source in zip(self.heads, maps, strict=True)]
        loc, conf = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return loc.unflatten(1, (-1, 4)), conf.unflatten(1, (-1, self.num_classes))


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Jaccard overlaps of (A, 4) and (B, 4) boxes: (A, B)."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def encoded(boxes: Tensor, priors: Tensor) -> Tensor:
    """Boxes as seen from their priors, centre and size."""
    size = priors[:, 2:] - priors[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:] - priors[:, :2] - priors[:, 2:]) / 2 / size
    stretch = ((boxes[:, 2:] - boxes[:, :2]) / size).log()
    return torch.cat([centre, stretch], 1) / VARIANCES


def multibox_loss(
    loc: Tensor, conf: Tensor, priors: Tensor, objects: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """SSD's loss with three hard negatives for each positive.

    Args:
        loc: (N, P, 4).
        conf: (N, P, C).
        priors: (P, 4).
        objects: the boxes (G, 4) and classes (G,) of each image.
    """
    label = torch.zeros(loc.shape[:2], dtype=torch.long)
    target = torch.zeros_like(loc)
    for n, (boxes, classes) in enumerate(objects):
        overlap = overlaps(priors, boxes)
        value, index = overlap.max(1)
        best = overlap.argmax(0)
        value[best] = 2
        index[best] = torch.arange(len(boxes))
        label[n] = torch.where(value > 0.5, classes[index], 0)
        target[n] = encoded(boxes[index], priors)
    positive = label > 0
    loc_loss = F.smooth_l1_loss(loc[positive], target[positive], reduction="sum")
    entropy = F.cross_entropy(conf.flatten(0, 1), label.flatten(), reduction="none")
    entropy = entropy.view_as(label)
    hardness = entropy.detach().masked_fill(positive, 0)
    rank = hardness.argsort(1, descending=True).argsort(1)
    negative = rank < 3 * positive.sum(1, keepdim=True)
    conf_loss = entropy[positive | negative].sum()
    total: Tensor = (loc_loss + conf_loss) / positive.sum().clamp(min=1)
    return total


def copy_weights(net: nn.Module, plain: PlainDSOD300) -> None:
    """Give the plain network the blobs of a DSOD of this package."""
    copy_blobs(net, plain)
    head_norms = {branch[1] for head in plain.heads for branch in (head.loc, head.conf)}
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3 if module in head_norms else 1e-5
