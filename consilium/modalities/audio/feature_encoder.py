"""Features of frequency and time, for a linear fusion: what a small cohort can support."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from consilium.modalities.audio.band_groups import GROUPS, group_edges
from consilium.modalities.audio.cycle import CYCLE
from consilium.modalities.audio.encoder import AudioEncoder, entry_of, parted
from consilium.modalities.audio.preparation import THERE
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, FusionShape, Inputs, Tokens

PER_GROUP: tuple[str, ...] = ("mean", "quiet", "loud", "change")
"""Of a group of bands: its loudness; that of its quietest and of its loudest fifth of the time, less the mean, as
murmurs fill what is quiet; and the mean change from one frame to the next."""
_FIFTH = 0.2


class FeatureEncoder(AudioEncoder):
    """One token a sound: four figures of each of eight groups of bands, and what repeats; no parameter."""

    def __init__(self, bands: int) -> None:
        Encoder.__init__(self)
        self.bands = bands
        self.width = GROUPS * len(PER_GROUP) + len(CYCLE)

    def token_width(self, fusion: FusionShape) -> int:
        del fusion
        return self.width

    def forward(self, inputs: Inputs, entry: Tensor | None = None) -> Tokens:
        spectra, cycle = parted(entry_of(inputs) if entry is None else entry, self.bands)
        features = features_of(spectra, inputs[THERE])
        return Tokens(torch.cat([features.flatten(2), cycle], dim=-1), inputs[MASK])


def features_of(spectra: Tensor, there: Tensor) -> Tensor:
    """`PER_GROUP` of each group of bands [..., GROUPS, 4], of spectra [..., M, F]; they grow in proportion with these.

    Parameters
    ----------
    there : bool [..., F]
        Where there is sound; where there is none at all, zeros are given.
    """
    edges = group_edges(spectra.shape[-2])
    loudness = torch.stack([spectra[..., a:b, :].mean(dim=-2) for a, b in pairwise(edges)], dim=-2)
    known = there[..., None, :]
    count = known.sum(dim=-1, keepdim=True)
    mean = _mean(loudness, known)
    ordered = loudness.masked_fill(~known, torch.inf).sort(dim=-1).values
    places = torch.arange(loudness.shape[-1], device=loudness.device)
    quiet, loud = places < _FIFTH * count, (places >= (1 - _FIFTH) * count) & (places < count)
    both = known[..., 1:] & known[..., :-1]
    change = _mean(loudness.diff(dim=-1).abs(), both)
    return torch.stack([mean, _mean(ordered, quiet) - mean, _mean(ordered, loud) - mean, change], dim=-1)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Over the `chosen` of the last axis; 0 where none is."""
    return values.masked_fill(~chosen, 0).sum(dim=-1) / chosen.sum(dim=-1).clamp(min=1)
