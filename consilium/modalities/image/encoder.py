"""Images → tokens, with a backbone from `consilium.modalities.image.backbones` and a connector.

A cell of the last feature map, or a patch of a transformer, is a feature. For explanations the encoder hands out the
deepest map that is fine enough, and it remembers the average training image: what a map weighs is how an image differs
from that one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from consilium.modalities.connectors import build_connector
from consilium.modalities.image.backbones.backbone import Backbone, as_map
from consilium.modalities.image.backbones.choice import build, describe
from consilium.modalities.image.backbones.description import Description
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.image.letterbox import IMAGES
from consilium.modalities.image.preparation import VIEWS, ImagePreparation
from consilium.modalities.image.section import ImageSection
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Dense, DenseEncoder, FusionShape, Inputs, Tokens, no_tokens, scatter_rows

_LEAST_RATE = 0.01
"""The average image follows the last hundred or so training batches."""
_GREY = 0.5


class ImageEncoder(DenseEncoder):
    """Images [B, V, 1, S, S] → tokens [B, V·T', D]; several views of one study are more tokens.

    Parameters
    ----------
    recipe : ImageSection
    fusion : FusionShape
        Its width is D.
    description : Description, optional
        What the preparation knows of the backbone; read from the model's own files unless given.
    pretrained : bool
        Read the weights that `recipe` names; False where they come from an artifact.

    Attributes
    ----------
    typical : float [1, S, S]
        The average training image, grey until there was one.
    batches : int []
        Training batches seen.
    """

    typical: Tensor
    batches: Tensor

    def __init__(
        self,
        recipe: ImageSection,
        fusion: FusionShape,
        description: Description | None = None,
        *,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = build(recipe, description or describe(recipe), pretrained=pretrained)
        self.dense_axes = ((-1, 1, recipe.size, recipe.size),)
        self.cells = self.backbone.cells
        self.register_buffer("typical", torch.full((1, recipe.size, recipe.size), _GREY))
        self._typical_map: Tensor | None = None
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        grid = (self.cells, self.cells)
        channels = self.backbone.channels
        self.connector = build_connector(recipe.connector, channels, fusion, modality="image", grid=grid)
        self.width = self.connector.width
        self.linear = fusion.linear
        if not self.linear:
            self.view = nn.Embedding(len(ViewPosition), self.width)
            self.position = nn.Parameter(torch.randn(math.prod(self.connector.grid or grid), self.width) * 0.02)
            self.norm = nn.LayerNorm(self.width)
            nn.init.normal_(self.view.weight, std=0.02)
        self.adapt(recipe, modality="image", pretrained=pretrained)

    @classmethod
    def build(
        cls, section: ImageSection, preparation: ImagePreparation, fusion: FusionShape, *, pretrained: bool
    ) -> ImageEncoder:
        return cls(section, fusion, preparation.description, pretrained=pretrained)

    @property
    def body(self) -> Backbone:
        return self.backbone

    @property
    def reduction(self) -> str:
        return self.connector.reduction

    @property
    def token_cells(self) -> int:
        """Rows and columns of the map whose cells are an image's tokens, where each token is a cell."""
        return self.cells if self.connector.grid is None else self.connector.grid[0]

    def blocks(self) -> list[nn.Module]:
        return self.backbone.blocks()

    def observe(self, inputs: Inputs) -> None:
        if inputs[MASK].any():
            self.remember(inputs)

    def features(self, inputs: Inputs, dense: Dense | None = None) -> Tensor:
        """Of the n images of a batch, [n, T, C]; `inputs`: images float [B, V, 1, S, S] in [0, 1], mask bool [B, V]."""
        if self.training and IMAGES in inputs:
            self.remember(inputs)
        return super().features(inputs, dense)

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and what explanations read of the batch's n images: [n, C, h, w] or a sequence [n, T, C]."""
        mask = inputs[MASK]
        if not mask.any():
            return no_tokens(len(mask), self.width, mask.device), None
        last, saliency = self.backbone.with_fine_map(*self.dense_inputs(inputs))
        return self.tokens(self._features(last), inputs), saliency

    def rows(self, inputs: Inputs) -> Tensor:
        """Where the images are, bool [B, V]."""
        return inputs[MASK]

    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor]:
        """The images that are there, [n, 1, S, S]."""
        return (inputs[IMAGES][inputs[MASK]],)

    def dense_examples(self, length: int) -> tuple[Tensor]:
        return (torch.zeros(length, *self.typical.shape),)

    def dense(self, *tensors: Tensor) -> Tensor:
        """Of images that are there, [n, 1, S, S], the features that the connector reads, [n, T, C]."""
        (images,) = tensors
        return self._features(self.backbone(images))

    def tokens(self, features: Tensor, inputs: Inputs) -> Tokens:
        """`features` [n, T, C] of the images; `inputs`: views int [B, V], mask bool [B, V]."""
        mask = inputs[MASK]
        seen = mask.new_ones(features.shape[:2])
        if self.linear:
            found = self.connector(features, seen)
        else:
            placed = self.connector(features, seen, self.position)
            found = self.norm(placed + self.view(inputs[VIEWS][mask])[:, None])
        there = scatter_rows(self.connector.token_mask(seen), mask)
        return Tokens(scatter_rows(found, mask).flatten(1, 2), there.flatten(1, 2))

    @torch.no_grad()
    def freeze_cache(self) -> None:
        self._typical_map = self.typical_map()

    def typical_map(self) -> Tensor:
        """The map that explanations read, [1, C, h, w], of the average training image."""
        if self._typical_map is not None:
            return self._typical_map
        return as_map(self.backbone.with_fine_map(self.typical[None])[1])

    def _features(self, maps: Tensor) -> Tensor:
        """What the connector reads of maps [n, C, h, w]."""
        return self.connector.reduce(maps.flatten(2).transpose(1, 2))

    @torch.no_grad()
    def remember(self, inputs: Inputs) -> None:
        """Move `typical` towards the mean of the images of a training batch: the mean of all batches at first."""
        (images,) = self.dense_inputs(inputs)
        self.batches += 1
        self.typical.lerp_(images.float().mean(dim=0), (1 / self.batches).clamp(min=_LEAST_RATE))
