"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 (TensorFlow TPU models, 2020).

Convolutions pad as TensorFlow's "SAME" does: what a stride of two needs on one side only goes right and down. Names of
weights are those of the published state dict. What follows the last block sees no places any more and is left out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from consilium.modalities.image.backbones.backbone import Chain
from consilium.modalities.image.backbones.description import ImageInput
from consilium.modalities.image.section import ImageSection

# repeats, kernel, stride, expansion, channels out
_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPS = 1e-3


class SameConv(nn.Conv2d):
    """A convolution without bias whose output has a stride-th of the input's sides, rounded up.

    Made as an `nn.Conv2d` is, since low-rank changes of a layer are layers of its own class; it pads as it must,
    whatever `padding` says.
    """

    def __init__(
        self,
        inward: int,
        outward: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        del padding
        super().__init__(inward, outward, kernel_size, stride, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch calls it so)
        sides = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((-(-int(size) // stride) - 1) * stride + kernel - int(size), 0)
            sides += [total // 2, total - total // 2]
        return super().forward(F.pad(input, sides))


class _Block(nn.Module):
    """Expansion, depthwise convolution, projection, and the input added where its shape is the same."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inward * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inward, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPS)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self._project_conv = nn.Conv2d(wide, outward, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outward, eps=_EPS)
        self.residual = stride == 1 and inward == outward

    def forward(self, images: Tensor) -> Tensor:
        found = F.relu6(self._bn0(self._expand_conv(images))) if self.expands else images
        found = F.relu6(self._bn1(self._depthwise_conv(found)))
        found = self._bn2(self._project_conv(found))
        return images + found if self.residual else found


class EfficientNetLite0(nn.Module):
    """Stem and blocks, under the published names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._conv_stem = SameConv(channels, _STEM, 3, 2)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPS)
        self._blocks = nn.ModuleList()
        inward = _STEM
        self.ends: list[int] = []
        for repeats, kernel, stride, expansion, outward in _GROUPS:
            for repeat in range(repeats):
                self._blocks.append(_Block(inward, outward, kernel, 1 if repeat else stride, expansion))
                inward = outward
            self.ends.append(len(self._blocks))
        self.channels = inward

    @property
    def stem(self) -> nn.Module:
        """What comes before the blocks."""
        return nn.Sequential(self._conv_stem, self._bn0, nn.ReLU6())

    def groups(self) -> list[list[nn.Module]]:
        """The blocks, by the groups of the published table."""
        return [[*self._blocks[start:end]] for start, end in zip([0, *self.ends], self.ends, strict=False)]


def efficientnet_lite0(section: ImageSection, pixels: ImageInput) -> Chain:
    """The network as a backbone: its last map has 320 channels at a stride of 32."""
    net = EfficientNetLite0(pixels.channels)
    groups = net.groups()
    stages = [[net.stem, *groups[0]], groups[1], groups[2], groups[3] + groups[4], groups[5] + groups[6]]
    return Chain(net, pixels, stages, [2, 4, 8, 16, 32], net.channels, section.size)
