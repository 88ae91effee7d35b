"""SSD300, MobileNet-SSD and a small residual detector in plain PyTorch, as one writes them by hand.

Nothing of this package is used, except by `copy_weights`, which makes both networks the same: other
programs get these nets through PyTorch's own exporter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRIORS = (3, 6, 6, 6, 6, 6)  # per place, of the nets whose smallest priors have one size
VGG_PRIORS = (4, 6, 6, 6, 4, 4)


def conv_bn(
    num_input: int, num_output: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution and batch norm."""
    pad = kernel // 2
    conv = nn.Conv2d(num_input, num_output, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(num_output))


def conv_bn_relu(
    num_input: int, num_output: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm and ReLU."""
    made = conv_bn(num_input, num_output, kernel, stride, groups)
    return made.append(nn.ReLU(inplace=True))


class Detector(nn.Module):
    """Heads over a body's maps: (N, 3, 300, 300) -> locations (N, P x 4), scores (N, P x C).

    Args:
        body: makes the list of maps that are predicted from, largest first.
        widths: channels of the maps.
        priors: per place of each.
        num_classes: background included.
        kernel: of the heads.
    """

    def __init__(
        self,
        body: nn.Module,
        widths: Sequence[int],
        priors: Sequence[int],
        num_classes: int = 21,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.body, self.num_classes = body, num_classes
        self.heads = nn.ModuleList(
            nn.ModuleList(
                nn.Conv2d(width, outputs * each, kernel, padding=kernel // 2)
                for outputs in (4, num_classes)
            )
            for width, each in zip(widths, priors, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = [
            [branch(source).permute(0, 2, 3, 1).flatten(1) for branch in head]
            for head, source in zip(self.heads, self.body(x), strict=True)
        ]
        loc, conf = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return loc, conf.unflatten(1, (-1, self.num_classes)).softmax(2).flatten(1)


def halving(num_input: int, pairs: Sequence[tuple[int, int]]) -> nn.ModuleList:
    """Pairs of convolutions, each of which halves its map."""
    made = nn.ModuleList()
    for middle, outputs in pairs:
        squeeze = conv_bn_relu(num_input, middle, 1)
        made.append(nn.Sequential(squeeze, conv_bn_relu(middle, outputs, 3, stride=2)))
        num_input = outputs
    return made


def followed(maps: list[Tensor], extras: nn.ModuleList) -> list[Tensor]:
    """The maps, and those that the extras make of the last."""
    for extra in extras:
        maps.append(extra(maps[-1]))
    return maps


class MobileNet(nn.Module):
    """The maps of MobileNet-SSD (Howard et al.)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
        self.first, channels = conv_bn_relu(3, 32, 3, stride=2), 32
        self.blocks = nn.ModuleList()
        for outputs, stride in (*sizes, (1024, 2), (1024, 1)):
            wise = conv_bn_relu(channels, channels, 3, stride, groups=channels)
            self.blocks.append(nn.Sequential(wise, conv_bn_relu(channels, outputs, 1)))
            channels = outputs
        self.extras = halving(1024, ((256, 512), (128, 256), (128, 256), (64, 128)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.first(x), []
        for i, block in enumerate(self.blocks, start=1):
            x = block(x)
            maps += [x] if i in (11, 13) else []
        return followed(maps, self.extras)


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, num_input: int, num_output: int, stride: int) -> None:
        super().__init__()
        self.inner = conv_bn_relu(num_input, num_output, 3, stride)
        self.last = conv_bn(num_output, num_output, 3)
        same = num_input == num_output and stride == 1
        self.shortcut = None if same else conv_bn(num_input, num_output, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.last(self.inner(x)) + shortcut)


class Face(nn.Module):
    """The maps of a small residual net."""

    def __init__(self) -> None:
        super().__init__()
        self.first, channels = conv_bn_relu(3, 32, 7, stride=2), 32
        self.blocks = nn.ModuleList()
        for outputs, stride in ((32, 1), (128, 2), (256, 2), (256, 2)):
            self.blocks.append(Residual(channels, outputs, stride))
            channels = outputs
        self.extras = halving(256, ((128, 256), (64, 128)))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [F.max_pool2d(self.first(x), 2, 2)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return followed(maps[2:], self.extras)


def conv_relu(num_input: int, num_output: int, kernel: int, **geometry: int) -> nn.Sequential:
    """Convolution and ReLU."""
    conv = nn.Conv2d(num_input, num_output, kernel, **geometry)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


class VGG(nn.Module):
    """The maps of SSD300 (Liu et al.): VGG16, fc6 and fc7 as convolutions, and four pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, channels = nn.ModuleList(), 3
        for depth, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            stage = nn.Sequential()
            for _ in range(depth):
                stage.append(conv_relu(channels, width, 3, padding=1))
                channels = width
            self.stages.append(stage)
        self.fc6 = conv_relu(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = conv_relu(1024, 1024, 1)
        self.extras, channels = nn.ModuleList(), 1024
        for middle, outputs, last in (
            (256, 512, {"stride": 2, "padding": 1}),
            (128, 256, {"stride": 2, "padding": 1}),
            (128, 256, {}),
            (128, 256, {}),
        ):
            squeeze = conv_relu(channels, middle, 1)
            self.extras.append(nn.Sequential(squeeze, conv_relu(middle, outputs, 3, **last)))
            channels = outputs
        self.factor = nn.Parameter(torch.full((512, 1, 1), 20.0))

    def forward(self, x: Tensor) -> list[Tensor]:
        for stage in self.stages[:3]:
            x = F.max_pool2d(stage(x), 2, 2, ceil_mode=True)
        fourth = self.stages[3](x)
        x = self.stages[4](F.max_pool2d(fourth, 2, 2, ceil_mode=True))
        x = self.fc7(self.fc6(F.max_pool2d(x, 3, 1, padding=1)))
        first = F.normalize(fourth, dim=1) * self.factor
        return [first, *followed([x], self.extras)]


def plain_mobilenet_ssd() -> Detector:
    """MobileNet-SSD with 20 classes."""
    return Detector(MobileNet(), (512, 1024, 512, 256, 256, 128), PRIORS, kernel=1)


def plain_face() -> Detector:
    """The face net, one class."""
    return Detector(Face(), (128, 256, 256, 256, 128), PRIORS[:5], num_classes=2)


def plain_ssd300() -> Detector:
    """SSD300 with 20 classes."""
    return Detector(VGG(), (512, 1024, 512, 256, 256, 256), VGG_PRIORS)


def copy_weights(net: nn.Module, plain: nn.Module) -> None:
    """Give a plain network the blobs of the same net of this package.

    Both must have their layers in one order.
    """
    from caffe_ssd.layers.batch_norm import BatchNorm, running_statistics
    from caffe_ssd.layers.convolution import Convolution
    from caffe_ssd.layers.normalize import Normalize
    from caffe_ssd.layers.scale import Scale

    def blobs(kind: type[nn.Module]) -> list[list[Tensor]]:
        return [list(m.blobs) for m in net.modules() if isinstance(m, kind)]

    def plain_modules(kind: type[nn.Module]) -> list[nn.Module]:
        return [m for m in plain.modules() if isinstance(m, kind)]

    with torch.no_grad():
        for mine, theirs in zip(plain_modules(nn.Conv2d), blobs(Convolution), strict=True):
            for name, value in zip(("weight", "bias"), theirs, strict=False):
                getattr(mine, name).copy_(value)
        norms = zip(plain_modules(nn.BatchNorm2d), blobs(BatchNorm), blobs(Scale), strict=True)
        for norm, statistics, (weight, bias) in norms:
            mean, variance = running_statistics(*statistics)
            for name, value in (
                ("running_mean", mean),
                ("running_var", variance),
                ("weight", weight),
                ("bias", bias),
            ):
                getattr(norm, name).copy_(value)
        owners = [m for m in plain.modules() if hasattr(m, "factor")]
        for owner, (factor,) in zip(owners, blobs(Normalize), strict=True):
            owner.factor.copy_(factor.view(-1, 1, 1))
