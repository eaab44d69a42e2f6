"""MONAI's two-dimensional networks as backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.attention import AttentionLayer, GlobalAttention
from consilium.modalities.image.backbones.backbone import Chain
from consilium.modalities.image.backbones.catalogue import ARCHITECTURES
from consilium.modalities.image.backbones.description import IMAGENET, ImageInput
from consilium.modalities.image.backbones.monai_networks import TransformerBlock, nets
from consilium.modalities.image.section import ImageSection

_VIT_HEADS = 4
# kernel, stride, expansion, channels in and out, squeeze of each group of blocks (Tan and Le 2019, table 1)
_EFFICIENTNET_BLOCKS = [
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
]


def resnet(section: ImageSection, pixels: ImageInput, *, block: str, layers: Sequence[int], bias: bool = True) -> Chain:
    """He et al. 2016; `bias`: of the convolutions that carry a residual past a change of width."""
    width = section.width or 64
    widths = [width * 2**stage for stage in range(4)]
    # MONAI's default first stride is 1, for small volumes; the paper's is 2 (table 1).
    net = nets.ResNet(
        block,
        list(layers),
        widths,
        spatial_dims=2,
        n_input_channels=pixels.channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=bias,
    )
    stem = nn.Sequential(net.conv1, net.bn1, net.act, net.maxpool)
    stages = [[stem], *([*layer] for layer in (net.layer1, net.layer2, net.layer3, net.layer4))]
    return Chain(net, pixels, stages, [4, 4, 8, 16, 32], net.in_planes, section.size)


def densenet(section: ImageSection, pixels: ImageInput, *, kind: str) -> Chain:
    """Huang et al. 2017."""
    width = section.width or 64
    net = getattr(nets, kind)(spatial_dims=2, in_channels=pixels.channels, out_channels=1, init_features=width).features
    stem = nn.Sequential(net.conv0, net.norm0, net.relu0, net.pool0)
    stages: list[list[nn.Module]] = [
        [stem, net.denseblock1],
        [net.transition1, net.denseblock2],
        [net.transition2, net.denseblock3],
        [net.transition3, net.denseblock4, net.norm5, nn.ReLU()],
    ]
    return Chain(net, pixels, stages, [4, 8, 16, 32], cast(int, net.norm5.num_features), section.size)


def senet(section: ImageSection, pixels: ImageInput, *, kind: str) -> Chain:
    """Hu et al. 2018."""
    net = getattr(nets, kind)(spatial_dims=2, in_channels=pixels.channels)
    channels = cast(int, net.last_linear.in_features)
    net.last_linear = nn.Identity()
    stages = [[net.layer0], *([*layer] for layer in (net.layer1, net.layer2, net.layer3, net.layer4))]
    return Chain(net, pixels, stages, [4, 4, 8, 16, 32], channels, section.size)


def efficientnet(section: ImageSection, pixels: ImageInput, *, kind: str) -> Chain:
    """Tan and Le 2019, up to the last group of blocks; what follows sees no places any more."""
    from monai.networks.nets.efficientnet import EfficientNet, efficientnet_params

    width, depth, _, _, dropped = efficientnet_params[kind]
    net = EfficientNet(
        _EFFICIENTNET_BLOCKS,
        in_channels=pixels.channels,
        width_coefficient=width,
        depth_coefficient=depth,
        image_size=section.size,
        drop_connect_rate=dropped,
    )
    net.set_swish(memory_efficient=False)  # what saves memory cannot be traced
    channels = cast(int, net._conv_head.in_channels)
    for head in ("_conv_head", "_bn1", "_fc"):
        setattr(net, head, nn.Identity())
    stem = nn.Sequential(net._conv_stem_padding, net._conv_stem, net._bn0, net._swish)
    groups = [[*group] for group in net._blocks]
    stages = [[stem, *groups[0]], groups[1], groups[2], groups[3] + groups[4], groups[5] + groups[6]]
    return Chain(net, pixels, stages, [2, 4, 8, 16, 32], channels, section.size)


class ViTBackbone(Chain):
    """MONAI's ViT. Saliency is read before its last block."""

    def attention_layers(self) -> list[AttentionLayer]:
        found = [module for module in self.network.modules() if isinstance(module, TransformerBlock)]
        return [GlobalAttention(block.attn.drop_weights) for block in found]


def vit(section: ImageSection, pixels: ImageInput) -> ViTBackbone:
    """Dosovitskiy et al. 2021, without a class token."""
    architecture = ARCHITECTURES["vit"]
    width, patch, depth = (architecture.shape_of(section, key) for key in ("width", "patch", "depth"))
    if section.size % patch:
        raise InputError("modalities.image.patch", patch, f"must divide modalities.image.size ({section.size})")
    if width % _VIT_HEADS:
        raise InputError("modalities.image.width", width, f"must be a multiple of {_VIT_HEADS} for a ViT")
    net = nets.ViT(
        in_channels=pixels.channels,
        img_size=(section.size, section.size),
        patch_size=patch,
        hidden_size=width,
        mlp_dim=4 * width,
        num_layers=depth,
        num_heads=_VIT_HEADS,
        spatial_dims=2,
    )
    for block in net.blocks:
        block.norm_cross_attn = nn.Identity()  # of decoders; nothing here reads it
    stages = [[net.patch_embedding, *net.blocks[:-1]], [net.blocks[-1], net.norm]]
    return ViTBackbone(net, pixels, stages, [patch, patch], width, section.size)


# --- what MONAI fetches ----------------------------------------------------------------------------------------------


def download_densenet(*, kind: str) -> dict[str, Tensor]:
    """Weights of ImageNet from torchvision, by MONAI's own loader."""
    net = getattr(nets, kind)(spatial_dims=2, in_channels=IMAGENET.channels, out_channels=1000, pretrained=True)
    return _state(net.features)


def download_senet(*, kind: str) -> dict[str, Tensor]:
    """Weights of ImageNet, by MONAI's own loader."""
    net = getattr(nets, kind)(spatial_dims=2, in_channels=IMAGENET.channels, pretrained=True)
    net.last_linear = nn.Identity()
    return _state(net)


def download_efficientnet(*, kind: str) -> dict[str, Tensor]:
    """Weights of ImageNet, by MONAI's own loader."""
    net = nets.EfficientNetBN(kind, pretrained=True, in_channels=IMAGENET.channels)
    for head in ("_conv_head", "_bn1", "_fc"):
        setattr(net, head, nn.Identity())
    return _state(net)


def _state(net: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = net.state_dict()
    return found
