"""Networks that make features of volumes: MONAI's in three dimensions, and one of slices with attention over them.

Each takes a volume [n, C, D, H, W] and gives features [n, T, C']: its cells, depth by depth and row by row, or slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from consilium.modalities.image.backbones.monai_networks import nets
from consilium.modalities.masked_attention import SelfAttentionLayer
from consilium.modalities.volume.section import STRIDES, VolumeSection

_GROUPS = 4
_LAYERS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_HEADS, _VIT_DEPTH, _VIT_WIDTHS, _SLICE_HEADS = 4, 6, 12, 4
_SWIN_FEATURES = 12


class VolumeNetwork(nn.Module):
    """What has weights, in stages.

    Attributes
    ----------
    channels : int
        C' of the features.
    count : int
        T.
    """

    channels: int
    count: int

    def blocks(self) -> list[nn.Module]:
        """Parts that can be trained or left alone, from input to output."""
        raise NotImplementedError


class CellNetwork(VolumeNetwork):
    """Blocks one after the other, whose last map's cells are the features."""

    def __init__(self, parts: Sequence[nn.Module], channels: int, count: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.channels, self.count = channels, count

    def blocks(self) -> list[nn.Module]:
        return [part for part in self.parts if any(True for _ in part.parameters())]

    def forward(self, volumes: Tensor) -> Tensor:
        for part in self.parts:
            volumes = part(volumes)
        return volumes.flatten(2).transpose(1, 2)


class VitNetwork(VolumeNetwork):
    """Dosovitskiy et al. 2021 in three dimensions, without a class token."""

    def __init__(self, section: VolumeSection, channels: int) -> None:
        super().__init__()
        width = section.width // _GROUPS * _GROUPS * _VIT_WIDTHS
        net = nets.ViT(
            in_channels=channels,
            img_size=section.size,
            patch_size=STRIDES["vit"],
            hidden_size=width,
            mlp_dim=4 * width,
            num_layers=_VIT_DEPTH,
            num_heads=_HEADS,
        )
        for block in net.blocks:
            block.norm_cross_attn = nn.Identity()  # of decoders; nothing here reads it
        self.net = net
        self.channels, self.count = width, _cells(section)

    def blocks(self) -> list[nn.Module]:
        return [self.net.patch_embedding, *self.net.blocks, self.net.norm]

    def forward(self, volumes: Tensor) -> Tensor:
        return cast(Tensor, self.net(volumes)[0])


class SwinNetwork(VolumeNetwork):
    """The encoder of SwinUNETR (Hatamizadeh et al. 2022)."""

    def __init__(self, section: VolumeSection, channels: int) -> None:
        super().__init__()
        features = max(1, section.width // _SWIN_FEATURES) * _SWIN_FEATURES
        whole: Any = nets.SwinUNETR(in_channels=channels, out_channels=1, feature_size=features)
        self.net = whole.swinViT
        self.channels, self.count = 16 * features, _cells(section)

    def blocks(self) -> list[nn.Module]:
        return [self.net.patch_embed, self.net.layers1, self.net.layers2, self.net.layers3, self.net.layers4]

    def forward(self, volumes: Tensor) -> Tensor:
        found: Tensor = self.net(volumes)[-1]
        return found.flatten(2).transpose(1, 2)


class SliceNetwork(VolumeNetwork):
    """A ResNet of each slice of what is read, and a layer of attention over them: 2.5 dimensions."""

    def __init__(self, section: VolumeSection, channels: int) -> None:
        super().__init__()
        parts, self.channels = _resnet(section, channels, "resnet18", 2)
        self.parts = nn.ModuleList(parts)
        self.places = nn.Parameter(torch.randn(section.size[0], self.channels) * 0.02)
        self.attention = SelfAttentionLayer(self.channels, _SLICE_HEADS, 0.0)
        self.count = section.size[0]

    def blocks(self) -> list[nn.Module]:
        return [*(part for part in self.parts if any(True for _ in part.parameters())), self.attention]

    def forward(self, volumes: Tensor) -> Tensor:
        slices = volumes.transpose(1, 2).flatten(0, 1)
        for part in self.parts:
            slices = part(slices)
        pooled = slices.mean(dim=(2, 3)).reshape(-1, self.count, self.channels)
        placed = pooled + self.places
        return cast(Tensor, self.attention(placed, placed.new_ones(placed.shape[:2], dtype=torch.bool)))


def build_network(section: VolumeSection, channels: int) -> VolumeNetwork:
    """The network that the recipe names, with random weights, for volumes of so many channels."""
    if section.encoder == "vit":
        return VitNetwork(section, channels)
    if section.encoder == "swin":
        return SwinNetwork(section, channels)
    if section.encoder == "slices":
        return SliceNetwork(section, channels)
    build = _densenet if section.encoder == "densenet121" else _resnet
    parts, width = build(section, channels, section.encoder, 3)
    return CellNetwork(parts, width, _cells(section))


def _cells(section: VolumeSection) -> int:
    stride = STRIDES[section.encoder]
    depth, height, width = (side // stride for side in section.size)
    return depth * height * width


def _resnet(section: VolumeSection, channels: int, kind: str, dims: int) -> tuple[list[nn.Module], int]:
    """He et al. 2016 with group norm, which suits batches of a few volumes, and without its first pooling."""
    widths = [max(_GROUPS, section.width // _GROUPS * _GROUPS) * 2**stage for stage in range(4)]
    net = nets.ResNet(
        "basic",
        list(_LAYERS[kind]),
        widths,
        spatial_dims=dims,
        n_input_channels=channels,
        conv1_t_size=5,
        conv1_t_stride=2,
        no_max_pool=True,
        feed_forward=False,
    )
    for block in [net, *net.modules()]:
        for name, layer in block.named_children():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(block, name, nn.GroupNorm(_GROUPS, layer.num_features))
    stem = nn.Sequential(net.conv1, net.bn1, net.act)
    return [stem, *net.layer1, *net.layer2, *net.layer3, *net.layer4], net.in_planes


def _densenet(section: VolumeSection, channels: int, kind: str, dims: int) -> tuple[list[nn.Module], int]:
    """Huang et al. 2017."""
    del kind
    net = nets.DenseNet121(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=1,
        init_features=section.width,
        growth_rate=max(4, section.width // 2),
    ).features
    stem = nn.Sequential(net.conv0, net.norm0, net.relu0, net.pool0)
    parts = [
        *(stem, net.denseblock1, net.transition1, net.denseblock2, net.transition2, net.denseblock3),
        *(net.transition3, net.denseblock4, nn.Sequential(net.norm5, nn.ReLU())),
    ]
    return parts, cast(int, net.norm5.num_features)
