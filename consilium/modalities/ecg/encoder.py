"""ECGs → tokens over time, by a residual network in one dimension, and one token of the rhythm.

The network has the shape of that of Ribeiro et al. 2020 (Nature Communications 11, 1760): convolutions along time over
all leads at once, halving it stage by stage. Leads that are not there are zeros beside a channel that says so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.modalities.ecg.beats import RHYTHM
from consilium.modalities.ecg.ecg_converter import SAMPLES
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.preparation import RHYTHM_ARRAY, THERE
from consilium.modalities.ecg.section import EcgSection
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, FusionShape, Inputs, Tokens, scatter_rows

_GROUPS = 4
_LEADS = len(LEADS)


class _Block(nn.Module):
    """Two convolutions and what goes past them; time is halved where `stride` is 2."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, width, 7, stride, padding=3, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.GELU(),
            nn.Conv1d(width, width, 7, padding=3, bias=False),
            nn.GroupNorm(_GROUPS, width),
        )
        same = channels == width and stride == 1
        self.past = nn.Identity() if same else nn.Conv1d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.layers(x) + self.past(x))


class EcgEncoder(Encoder):
    """Samples [B, R, 12, T] and rhythm [B, R, 8] → tokens [B, R (T / 64 + 1), D]."""

    def __init__(self, section: EcgSection, width: int) -> None:
        super().__init__()
        self.lead_dropout = section.lead_dropout
        widths = [section.width * factor // _GROUPS * _GROUPS for factor in (1, 2, 2, 4)]
        stem = [nn.Conv1d(2 * _LEADS, widths[0], 15, 2, padding=7, bias=False), nn.GroupNorm(_GROUPS, widths[0])]
        stages: list[nn.Module] = []
        for before, after in zip([widths[0], *widths], widths, strict=False):
            stages.append(_Block(before, after, 2))
            stages += [_Block(after, after, 1) for _ in range(section.blocks - 1)]
        self.body = nn.Sequential(*stem, nn.GELU(), nn.MaxPool1d(2), *stages)
        self.tokens = nn.Linear(widths[-1], width)
        self.rhythm = nn.Sequential(nn.Linear(len(RHYTHM), 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width)

    @classmethod
    def build(cls, section: EcgSection, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> Encoder:  # type: ignore[override]
        del pretrained
        if fusion.linear:
            from consilium.modalities.ecg.beat_encoder import BeatEncoder

            return BeatEncoder(preparation.convert.rate)
        return cls(section, fusion.width)

    def forward(self, inputs: Inputs, entry: Tensor | None = None) -> Tokens:
        """`entry` [B, R, 12 T + 8] in place of samples and rhythm; see `entry_of`."""
        samples, rhythm = (inputs[SAMPLES], inputs[RHYTHM_ARRAY]) if entry is None else parted(entry)
        mask = inputs[MASK]
        there = inputs[THERE][mask]
        if self.training and self.lead_dropout:
            kept = torch.rand(there.shape, device=there.device) >= self.lead_dropout
            there = there & (kept | ~(there & kept).any(dim=-1, keepdim=True))
        leads = there[..., None].to(samples.dtype)
        signals = torch.cat([samples[mask] * leads, leads.expand(-1, -1, samples.shape[-1])], dim=1)
        times = self.tokens(self.body(signals).transpose(1, 2))
        found = self.norm(torch.cat([times, self.rhythm(rhythm[mask])[:, None]], dim=1))
        values = scatter_rows(found, mask).flatten(1, 2)
        return Tokens(values, mask[..., None].expand(-1, -1, found.shape[1]).flatten(1))

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and samples and rhythm side by side."""
        if not inputs[MASK].any():
            return self.forward(inputs), None
        entry = entry_of(inputs).detach().requires_grad_()
        return self.forward(inputs, entry), entry


def entry_of(inputs: Inputs) -> Tensor:
    """What explanations differentiate: samples and rhythm of each recording side by side, [B, R, 12 T + 8]."""
    return torch.cat([inputs[SAMPLES].flatten(2), inputs[RHYTHM_ARRAY]], dim=-1)


def parted(entry: Tensor) -> tuple[Tensor, Tensor]:
    """Samples [B, R, 12, T] and rhythm [B, R, 8] of what `entry_of` gives."""
    samples, rhythm = entry[..., : -len(RHYTHM)], entry[..., -len(RHYTHM) :]
    return samples.reshape(*samples.shape[:-1], _LEADS, -1), rhythm
