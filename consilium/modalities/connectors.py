"""Connectors: how the features of an encoder's body become tokens of the fusion's width.

`CONNECTORS` knows them by the recipe's name. A connector is all that is trained of an encoder whose body is frozen
(LLaVA, Liu et al. 2023, section 4.2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.domain.errors import InputError
from consilium.modalities.encoder_section import ConnectorSection
from consilium.modalities.masked_attention import AttentionPool, CrossAttentionLayer
from consilium.modalities.tokens import FusionShape

Grid = tuple[int, int]
"""Rows and columns of features that are the cells of a map, row by row."""


class Connector(nn.Module, ABC):
    """Features [n, T, C] of n things that were encoded, such as images → tokens [n, T', D].

    Parameters
    ----------
    section : ConnectorSection
    channels : int
        C.
    fusion : FusionShape
        Its width is D.
    grid : Grid or None
        Where the features are the cells of a map.

    Attributes
    ----------
    grid : Grid or None
        Of the features that `reduce` gives.
    width : int
        D of the tokens: the fusion's.
    """

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        super().__init__()
        del section, channels
        self.grid = grid
        self.width = fusion.width

    @property
    def reduction(self) -> str:
        """Names what `reduce` does; features that were reduced otherwise are of no use to this connector."""
        return ""

    def reduce(self, features: Tensor) -> Tensor:
        """Features [n, T, C] with less of them, [n, T0, C], without a parameter: what is worth keeping of them."""
        return features

    def token_mask(self, mask: Tensor) -> Tensor:
        """Which tokens are there, bool [n, T'], where the features of `mask`, bool [n, T0], are."""
        return mask

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        """Tokens [n, T', D].

        Parameters
        ----------
        features : float [n, T0, C]
            As `reduce` gives them.
        mask : bool [n, T0]
            True where there is a feature.
        places : float [T0, D] or None
            Position embedding of the features; where features are words, the body has added one already.
        """


class LinearConnector(Connector):
    """Every feature is a token."""

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        super().__init__(section, channels, fusion, grid)
        self.project: nn.Module = nn.Linear(channels, fusion.width)

    def forward(self, features: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        del mask
        tokens: Tensor = self.project(features)
        return tokens if places is None else tokens + places


class MlpConnector(LinearConnector):
    """Every feature is a token, through one hidden layer (LLaVA-1.5, Liu et al. 2024, section 3.2)."""

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        Connector.__init__(self, section, channels, fusion, grid)
        hidden = section.hidden or fusion.width
        self.project = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, fusion.width))


class GridConnector(LinearConnector):
    """Every cell of a coarser map is a token: the mean of the features in it.

    Raises
    ------
    InputError
        Where the features are no map, or one with fewer cells.
    """

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        if grid is None:
            raise InputError("connector.name", section.name, "needs features that are a map, as those of images are")
        if section.cells > min(grid):
            raise InputError("connector.cells", section.cells, f"must be at most the {min(grid)} of the encoder's map")
        super().__init__(section, channels, fusion, (section.cells, section.cells))
        self._whole = grid

    @property
    def reduction(self) -> str:
        assert self.grid is not None
        return f"grid{self.grid[0]}"

    def reduce(self, features: Tensor) -> Tensor:
        assert self.grid is not None
        return _pooled(features, self._whole, self.grid)


class ResamplerConnector(LinearConnector):
    """A few latents read all features, and each becomes a token.

    In every layer the latents look at the features and at themselves (Flamingo, Alayrac et al. 2022, appendix A.1.1,
    after the Perceiver, Jaegle et al. 2021).
    """

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        super().__init__(section, channels, fusion, grid)
        start = nn.init.trunc_normal_(torch.empty(1, section.tokens, fusion.width), std=0.02)
        self.latents = nn.Parameter(start)
        sizes = (fusion.width, fusion.heads, fusion.dropout)
        self.layers = nn.ModuleList(CrossAttentionLayer(*sizes) for _ in range(section.depth))

    def token_mask(self, mask: Tensor) -> Tensor:
        return mask.any(dim=1, keepdim=True).expand(-1, self.latents.shape[1])

    def forward(self, features: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        seen = super().forward(features, mask, places)
        latents = self.latents.expand(len(seen), -1, -1)
        both = torch.cat([mask, mask.new_ones(latents.shape[:2])], dim=1)
        for layer in self.layers:
            latents = layer(latents, torch.cat([seen, latents], dim=1), both)
        return latents


class AttentionPoolConnector(LinearConnector):
    """One token: the mean of all features, and what learned queries look for in them."""

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        super().__init__(section, channels, fusion, grid)
        self.pool = AttentionPool(fusion.width, fusion.heads)

    def token_mask(self, mask: Tensor) -> Tensor:
        return mask.any(dim=1, keepdim=True)

    def forward(self, features: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        pooled: Tensor = self.pool(super().forward(features, mask, places), mask)
        return pooled[:, None]


class FlatConnector(Connector):
    """Features as they are, for a linear fusion: without a parameter, of their own width.

    Cells of a map, averaged as by the connector ``grid``, stand side by side in one token [n, 1, h·w·C], so that a
    linear map can tell places apart; other features are a token each, of which the fusion reads the mean.

    Raises
    ------
    InputError
        For a connector with weights of its own, which nothing would train.
    """

    def __init__(self, section: ConnectorSection, channels: int, fusion: FusionShape, grid: Grid | None) -> None:
        if section.name not in ("linear", "grid"):
            rule = "must be grid, or left out: under the fusion stacked nothing trains a connector"
            raise InputError("connector.name", section.name, rule)
        cells = None if grid is None else (min(section.cells, grid[0]), min(section.cells, grid[1]))
        super().__init__(section, channels, fusion, cells)
        self._whole = grid
        self.width = channels * (1 if cells is None else math.prod(cells))

    @property
    def reduction(self) -> str:
        return "" if self.grid is None else f"grid{self.grid[0]}"

    def reduce(self, features: Tensor) -> Tensor:
        return features if self._whole is None or self.grid is None else _pooled(features, self._whole, self.grid)

    def token_mask(self, mask: Tensor) -> Tensor:
        return mask if self.grid is None else mask.any(dim=1, keepdim=True)

    def forward(self, features: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        del mask, places
        return features if self.grid is None else features.flatten(1)[:, None]


def _pooled(features: Tensor, whole: Grid, cells: Grid) -> Tensor:
    """Features [n, T, C] of a map of `whole` cells, averaged over fewer `cells`."""
    maps = torch.unflatten(features.transpose(1, 2), 2, whole)
    return F.adaptive_avg_pool2d(maps, cells).flatten(2).transpose(1, 2)


CONNECTORS: dict[str, Callable[[ConnectorSection, int, FusionShape, Grid | None], Connector]] = {
    "linear": LinearConnector,
    "mlp": MlpConnector,
    "resampler": ResamplerConnector,
    "grid": GridConnector,
    "attention_pool": AttentionPoolConnector,
}


def build_connector(
    section: ConnectorSection, channels: int, fusion: FusionShape, *, modality: str, grid: Grid | None = None
) -> Connector:
    """The connector that a `modality`'s section of the recipe names, with random weights; a linear fusion has its own.

    Raises
    ------
    InputError
        Where the connector cannot read such features; names the recipe's key.
    """
    try:
        kind = FlatConnector if fusion.linear else CONNECTORS[section.name]
        return kind(section, channels, fusion, grid)
    except InputError as error:
        raise error.at(f"modalities.{modality}") from None
