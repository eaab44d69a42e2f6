"""Sounds → tokens over time, by a residual network over time and frequency, and one token of what repeats.

Its shape is that of residual networks on log-mel spectrograms (Hershey et al. 2017, "CNN architectures for large-scale
audio classification"): both axes are halved stage by stage, and what is left of frequency becomes channels. What lies
behind the end of a sound is zeros beside a channel that says so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.modalities.audio.cycle import CYCLE
from consilium.modalities.audio.preparation import CYCLE_ARRAY, THERE
from consilium.modalities.audio.section import AudioSection
from consilium.modalities.audio.sound_converter import SPECTRA
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, FusionShape, Inputs, Tokens, scatter_rows

_GROUPS = 4
_HALVED = 16
"""By how much the network shortens each axis: four stages."""


class _Block(nn.Module):
    """Two convolutions and what goes past them; both axes are halved where `stride` is 2."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
        )
        same = channels == width and stride == 1
        self.past = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.layers(x) + self.past(x))


class AudioEncoder(Encoder):
    """Spectra [B, R, M, F] and cycle [B, R, 4] → tokens [B, R (F / 16 + 1), D]."""

    def __init__(self, section: AudioSection, width: int) -> None:
        super().__init__()
        self.bands = section.bands
        widths = [section.width * factor // _GROUPS * _GROUPS for factor in (1, 2, 2, 4)]
        stages: list[nn.Module] = []
        for before, after in zip([2, *widths], widths, strict=False):
            stages.append(_Block(before, after, 2))
            stages += [_Block(after, after, 1) for _ in range(section.blocks - 1)]
        self.body = nn.Sequential(*stages)
        self.tokens = nn.Linear(widths[-1] * -(-section.bands // _HALVED), width)
        self.cycle = nn.Sequential(nn.Linear(len(CYCLE), 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width)

    @classmethod
    def build(cls, section: AudioSection, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> Encoder:  # type: ignore[override]
        del preparation, pretrained
        if fusion.linear:
            from consilium.modalities.audio.feature_encoder import FeatureEncoder

            return FeatureEncoder(section.bands)
        return cls(section, fusion.width)

    def forward(self, inputs: Inputs, entry: Tensor | None = None) -> Tokens:
        """`entry` [B, R, M F + 4] in place of spectra and cycle; see `entry_of`."""
        spectra, cycle = (inputs[SPECTRA], inputs[CYCLE_ARRAY]) if entry is None else parted(entry, self.bands)
        mask = inputs[MASK]
        there = inputs[THERE][mask]  # [N, F]
        known = there[:, None].expand(-1, self.bands, -1).to(spectra.dtype)
        features = self.body(torch.stack([spectra[mask] * known, known], dim=1))  # [N, C, M / 16, F / 16]
        times = self.tokens(features.flatten(1, 2).transpose(1, 2))
        found = self.norm(torch.cat([times, self.cycle(cycle[mask])[:, None]], dim=1))
        heard = F.max_pool1d(there[:, None].float(), _HALVED, ceil_mode=True)[:, 0] > 0
        rows = torch.cat([heard, heard.any(dim=1, keepdim=True)], dim=1)
        return Tokens(scatter_rows(found, mask).flatten(1, 2), scatter_rows(rows, mask).flatten(1))

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and spectra and cycle side by side."""
        if not inputs[MASK].any():
            return self.forward(inputs), None
        entry = entry_of(inputs).detach().requires_grad_()
        return self.forward(inputs, entry), entry


def entry_of(inputs: Inputs) -> Tensor:
    """What explanations differentiate: spectra and cycle of each sound side by side, [B, R, M F + 4]."""
    return torch.cat([inputs[SPECTRA].flatten(2), inputs[CYCLE_ARRAY]], dim=-1)


def parted(entry: Tensor, bands: int) -> tuple[Tensor, Tensor]:
    """Spectra [B, R, M, F] and cycle [B, R, 4] of what `entry_of` gives."""
    spectra, cycle = entry[..., : -len(CYCLE)], entry[..., -len(CYCLE) :]
    return spectra.reshape(*spectra.shape[:-1], bands, -1), cycle
