"""Images → tokens, with MONAI's two-dimensional backbones.

Every cell of the last feature map (or every patch of a ViT) is a token. For explanations the encoder hands out the
deepest map that is fine enough, and it remembers the average training image: what a map weighs is how an image differs
from that one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.image.monai_networks import DenseNet121, ResNet, ViT
from consilium.modalities.image.preparation import IMAGES, VIEWS
from consilium.modalities.image.section import ImageSection
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Dense, DenseEncoder, FusionShape, Inputs, Tokens, no_tokens, scatter_rows

SALIENCY_CELLS = 16
"""Least number of cells a side of a saliency map."""
_WANTED_CELLS = 24
"""Of a convolutional network the deepest map with so many is read, or the deepest of its finest ones."""
_LEAST_RATE = 0.01
"""The average image follows the last hundred or so training batches."""

_LONGEST_CAUSE = 120

_MEAN, _SD = 0.5, 0.25  # of a percentile-scaled radiograph, roughly; the first layer learns the rest


class Backbone(nn.Module):
    """A network as a chain of stages, each giving a map [N, C, h, w]; `strides` are the stages' cumulative strides."""

    def __init__(self, stages: list[nn.Module], strides: list[int], channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.strides = strides
        self.channels = channels

    def forward(self, images: Tensor, saliency_stage: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Last map, and the map after `saliency_stage`, with a gradient even where the stages are frozen."""
        saliency = None
        for index, stage in enumerate(self.stages):
            images = stage(images)
            if index == saliency_stage:
                saliency = images if images.requires_grad else images.requires_grad_(torch.is_grad_enabled())
        return images, saliency


def _resnet18(recipe: ImageSection) -> Backbone:
    widths = [recipe.width * 2**stage for stage in range(4)]
    # MONAI's default first stride is 1, for small volumes; the paper's is 2 (He et al. 2016, table 1).
    net = ResNet(
        "basic", [2, 2, 2, 2], widths, spatial_dims=2, n_input_channels=1, conv1_t_stride=2, feed_forward=False
    )
    stem = nn.Sequential(net.conv1, net.bn1, net.act, net.maxpool)
    return Backbone([stem, net.layer1, net.layer2, net.layer3, net.layer4], [4, 4, 8, 16, 32], widths[-1])


def _densenet121(recipe: ImageSection) -> Backbone:
    features = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1, init_features=recipe.width).features
    parts = dict(features.named_children())
    names = [
        ["conv0", "norm0", "relu0", "pool0", "denseblock1"],
        ["transition1", "denseblock2"],
        ["transition2", "denseblock3"],
        ["transition3", "denseblock4", "norm5"],
    ]
    stages: list[nn.Module] = [nn.Sequential(*(parts[name] for name in group)) for group in names]
    stages[-1] = nn.Sequential(stages[-1], nn.ReLU())
    return Backbone(stages, [4, 8, 16, 32], cast(int, parts["norm5"].num_features))


class _Patches(nn.Module):
    """A ViT's patch embedding and first blocks; maps go in and out as [N, C, h, w]."""

    def __init__(self, embed: nn.Module | None, blocks: nn.ModuleList, norm: nn.Module, cells: int) -> None:
        super().__init__()
        self.embed, self.blocks, self.norm, self.cells = embed, blocks, norm, cells

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) if self.embed is not None else x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).unflatten(2, (self.cells, self.cells))


def _vit(recipe: ImageSection) -> Backbone:
    if recipe.size % recipe.patch:
        raise InputError("modalities.image.patch", recipe.patch, f"must divide modalities.image.size ({recipe.size})")
    if recipe.width % _VIT_HEADS:
        raise InputError("modalities.image.width", recipe.width, f"must be a multiple of {_VIT_HEADS} for a ViT")
    net = ViT(
        in_channels=1,
        img_size=(recipe.size, recipe.size),
        patch_size=recipe.patch,
        hidden_size=recipe.width,
        mlp_dim=4 * recipe.width,
        num_layers=recipe.depth,
        num_heads=_VIT_HEADS,
        spatial_dims=2,
    )
    cells = recipe.size // recipe.patch
    # Saliency is read before the last block: after it, only what attention already gathered is left to see.
    first = _Patches(net.patch_embedding, net.blocks[:-1], nn.Identity(), cells)
    last = _Patches(None, net.blocks[-1:], net.norm, cells)
    return Backbone([first, last], [recipe.patch, recipe.patch], recipe.width)


_VIT_HEADS = 4
_BACKBONES: dict[str, Callable[[ImageSection], Backbone]] = {
    "resnet18": _resnet18,
    "densenet121": _densenet121,
    "vit": _vit,
}


class ImageEncoder(DenseEncoder):
    """Images [B, V, 1, S, S] → tokens [B, V·h·w, D]; several views of one study are more tokens.

    Parameters
    ----------
    recipe : ImageSection
    width : int
        D.
    pretrained : bool
        Read `recipe.weights`; False where the weights come from an artifact.

    Attributes
    ----------
    typical : float [1, S, S]
        The average training image, grey until there was one.
    batches : int []
        Training batches seen.
    """

    typical: Tensor
    batches: Tensor

    def __init__(self, recipe: ImageSection, width: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.backbone = _BACKBONES[recipe.encoder](recipe)
        if pretrained and recipe.weights is not None:
            self._read_weights(Path(recipe.weights))
        if recipe.frozen:
            self.backbone.requires_grad_(requires_grad=False)
        self.width = width
        self.dense_axes = ((-1, 1, recipe.size, recipe.size), (-1,))
        self.cells = recipe.size // self.backbone.strides[-1]
        if recipe.size // self.backbone.strides[0] < SALIENCY_CELLS:
            rule = f"gives a map of less than {SALIENCY_CELLS} cells a side; take a larger size or smaller patches"
            raise InputError("modalities.image.size", recipe.size, rule)
        self.saliency_stage = self._fine_stage(recipe)
        self.register_buffer("typical", torch.full((1, recipe.size, recipe.size), _MEAN))
        self._typical_map: Tensor | None = None
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.project = nn.Linear(self.backbone.channels, width)
        self.view = nn.Embedding(len(ViewPosition), width)
        self.position = nn.Parameter(torch.randn(self.cells**2, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.view.weight, std=0.02)

    @classmethod
    def build(cls, section: ImageSection, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> ImageEncoder:
        del preparation
        return cls(section, fusion.width, pretrained=pretrained)

    def _fine_stage(self, recipe: ImageSection) -> int:
        if recipe.encoder == "vit":  # before the last block; after it, only what attention gathered is left to see
            return len(self.backbone.stages) - 2
        cells = [recipe.size // stride for stride in self.backbone.strides]
        wanted = min(_WANTED_CELLS, max(cells))
        return max(stage for stage, side in enumerate(cells) if side >= wanted)

    def _read_weights(self, path: Path) -> None:
        try:
            self.backbone.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            cause = str(error).strip().partition("\n")[0]
            rule = f"must be a safetensors file with this backbone's weights ({cause[:_LONGEST_CAUSE]})"
            raise InputError("modalities.image.weights", path.name, rule) from None

    def forward(self, inputs: Inputs, dense: Dense | None = None) -> Tokens:
        """`inputs`: images float [B, V, 1, S, S] in [0, 1], views int [B, V], mask bool [B, V]."""
        mask = inputs[MASK]
        if not mask.any():
            return no_tokens(len(mask), self.width, mask.device)
        images, views = self.dense_inputs(inputs)
        self._meet(images)
        return self._placed((dense or self.dense)(images, views), mask)

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens and the map that explanations read, float [n, C, h, w] for the n images of the batch, in order."""
        mask = inputs[MASK]
        if not mask.any():
            return no_tokens(len(mask), self.width, mask.device), None
        images, views = self.dense_inputs(inputs)
        self._meet(images)
        tokens, saliency = self._see(images, views, self.saliency_stage)
        return self._placed(tokens, mask), saliency

    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The images that are there, [n, 1, S, S], and their views [n]."""
        mask = inputs[MASK]
        return inputs[IMAGES][mask], inputs[VIEWS][mask]

    def dense_examples(self, length: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(length, *self.typical.shape), torch.zeros(length, dtype=torch.long)

    def dense(self, *tensors: Tensor) -> Tensor:
        """Of images that are there, [n, 1, S, S], and their views [n], the tokens, [n, h·w, D]."""
        images, views = tensors
        return self._see(images, views, None)[0]

    @torch.no_grad()
    def freeze_cache(self) -> None:
        self._typical_map = self.typical_map()

    def typical_map(self) -> Tensor:
        """The map that explanations read, [1, C, h, w], of the average training image."""
        if self._typical_map is not None:
            return self._typical_map
        image = (self.typical[None] - _MEAN) / _SD
        for stage in self.backbone.stages[: self.saliency_stage + 1]:
            image = stage(image)
        return image

    def _see(self, images: Tensor, views: Tensor, saliency_stage: int | None) -> tuple[Tensor, Tensor | None]:
        flat = ((images - _MEAN) / _SD).contiguous(memory_format=torch.channels_last)
        last, saliency = self.backbone(flat, saliency_stage)
        tokens = self.project(last.flatten(2).transpose(1, 2)) + self.position + self.view(views)[:, None]
        return self.norm(tokens), saliency

    def _placed(self, tokens: Tensor, image_mask: Tensor) -> Tokens:
        values = scatter_rows(tokens, image_mask).flatten(1, 2)
        return Tokens(values, image_mask.repeat_interleave(self.cells**2, dim=1))

    def _meet(self, images: Tensor) -> None:
        if self.training:
            self._remember(images)

    @torch.no_grad()
    def _remember(self, images: Tensor) -> None:
        """Move `typical` towards the mean of a training batch, [n, 1, S, S]: the mean of all batches at first."""
        self.batches += 1
        self.typical.lerp_(images.float().mean(dim=0), (1 / self.batches).clamp(min=_LEAST_RATE))
