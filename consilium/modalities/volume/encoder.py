"""Volumes → tokens, by a network of `consilium.modalities.volume.networks` and a connector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from consilium.modalities.connectors import build_connector
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Dense, DenseEncoder, Encoder, FusionShape, Inputs, Tokens, scatter_rows
from consilium.modalities.volume.networks import VolumeNetwork, build_network
from consilium.modalities.volume.section import VolumeSection
from consilium.modalities.volume.volume_converter import VOLUMES

_LEAST_RATE = 0.01
"""The average volume follows the last hundred or so training batches."""
_CELLS = 4
"""Cells a side whose means a linear fusion reads."""


class TypicalVolume(nn.Module):
    """The average training volume, black until there was one: what explanations compare a volume with.

    Attributes
    ----------
    volume : float [C, D, H, W]
    batches : int []
        Training batches seen.
    """

    volume: Tensor
    batches: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("volume", torch.zeros(shape))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def remember(self, inputs: Inputs) -> None:
        """Move towards the mean of a training batch: the mean of all batches at first."""
        if VOLUMES in inputs and inputs[MASK].any():
            self.batches += 1
            rate = (1 / self.batches).clamp(min=_LEAST_RATE)
            self.volume.lerp_(inputs[VOLUMES][inputs[MASK]].float().mean(dim=0), rate)


class CentredNetwork(nn.Module):
    """A network that is given how a volume differs from the average one that it was trained on.

    What all volumes have in common, bodies and their outlines, is many times stronger than what findings change.

    Attributes
    ----------
    centre : TypicalVolume
        Follows the training volumes while the network is trained, and never afterwards.
    """

    def __init__(self, section: VolumeSection) -> None:
        super().__init__()
        self.network: VolumeNetwork = build_network(section, section.channels + 1)
        self.centre = TypicalVolume((section.channels + 1, *section.size))

    def forward(self, volumes: Tensor) -> Tensor:
        features: Tensor = self.network(volumes - self.centre.volume)
        return features


class _VolumeReader(DenseEncoder):
    """What encoders of volumes [B, V, C, D, H, W] have in common."""

    def __init__(self, section: VolumeSection) -> None:
        super().__init__()
        shape = (section.channels + 1, *section.size)
        self.dense_axes = ((-1, *shape),)
        self.typical = TypicalVolume(shape)

    def observe(self, inputs: Inputs) -> None:
        self.typical.remember(inputs)

    def features(self, inputs: Inputs, dense: Dense | None = None) -> Tensor:
        if self.training:
            self.typical.remember(inputs)
        return super().features(inputs, dense)

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and the volumes that they were made of."""
        if not inputs[MASK].any():
            return self(inputs), None
        entry = inputs[VOLUMES].detach().requires_grad_()
        return self({**inputs, VOLUMES: entry}), entry

    def rows(self, inputs: Inputs) -> Tensor:
        return inputs[MASK]

    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor]:
        return (inputs[VOLUMES][inputs[MASK]],)

    def dense_examples(self, length: int) -> tuple[Tensor]:
        return (torch.zeros(length, *self.typical.volume.shape),)


class VolumeEncoder(_VolumeReader):
    """Volumes → tokens [B, V·T', D]; under a linear fusion `CellEncoder` takes its place."""

    def __init__(self, section: VolumeSection, fusion: FusionShape, *, pretrained: bool = True) -> None:
        super().__init__(section)
        self.centred = CentredNetwork(section)
        network = self.centred.network
        self.connector = build_connector(section.connector, network.channels, fusion, modality="volume")
        self.width = self.connector.width
        self.position = nn.Parameter(torch.randn(network.count, self.width) * 0.02)
        self.norm = nn.LayerNorm(self.width)
        self.adapt(section, modality="volume", pretrained=pretrained)

    @classmethod
    def build(cls, section: VolumeSection, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> Encoder:  # type: ignore[override]
        del preparation
        return CellEncoder(section) if fusion.linear else cls(section, fusion, pretrained=pretrained)

    @property
    def body(self) -> nn.Module:
        return self.centred

    @property
    def reduction(self) -> str:
        return self.connector.reduction

    def blocks(self) -> list[nn.Module]:
        return self.centred.network.blocks()

    def features(self, inputs: Inputs, dense: Dense | None = None) -> Tensor:
        if self.training and not self.frozen:
            self.centred.centre.remember(inputs)
        return super().features(inputs, dense)

    def dense(self, *tensors: Tensor) -> Tensor:
        (volumes,) = tensors
        features: Tensor = self.centred(volumes)
        return self.connector.reduce(features)

    def tokens(self, features: Tensor, inputs: Inputs) -> Tokens:
        mask = inputs[MASK]
        seen = mask.new_ones(features.shape[:2])
        found = self.norm(self.connector(features, seen, self.position))
        there = scatter_rows(self.connector.token_mask(seen), mask)
        return Tokens(scatter_rows(found, mask).flatten(1, 2), there.flatten(1, 2))


class CellEncoder(_VolumeReader):
    """Mean windows of 4 × 4 × 4 cells, for a linear fusion: one token a volume, without a parameter."""

    linear = True

    def __init__(self, section: VolumeSection) -> None:
        super().__init__(section)
        self.width = (section.channels + 1) * _CELLS**3
        self.pool = nn.AdaptiveAvgPool3d(_CELLS)

    @classmethod
    def build(cls, section: VolumeSection, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> CellEncoder:
        del preparation, fusion, pretrained
        return cls(section)

    @property
    def body(self) -> nn.Module:
        return self.pool

    def dense(self, *tensors: Tensor) -> Tensor:
        (volumes,) = tensors
        pooled: Tensor = self.pool(volumes)
        return pooled.flatten(1)[:, None]

    def tokens(self, features: Tensor, inputs: Inputs) -> Tokens:
        mask = inputs[MASK]
        return Tokens(scatter_rows(features, mask).flatten(1, 2), mask)
