"""Features of the average beat and of the rhythm, for a linear fusion: what a small cohort can support.

All are of the samples around the beats that the preparation found, so that what they owe to which sample can be traced
back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.modalities.ecg.beats import AFTER, BEFORE, RHYTHM
from consilium.modalities.ecg.encoder import EcgEncoder, entry_of, parted
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.preparation import PEAKS, THERE
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, FusionShape, Inputs, Tokens

LEVEL, QRS, ST, T_WAVE = (-0.10, -0.06), (-0.06, 0.10), (0.13, 0.18), (0.18, 0.46)
"""When in seconds after the largest deflection a beat stands at its zero, and where its parts are."""
PER_LEAD: tuple[str, ...] = ("r", "s", "st", "t")
"""The highest and the lowest deflection of QRS, the level of ST, and the largest deflection of T with its sign."""


class BeatEncoder(EcgEncoder):
    """One token a recording: four amplitudes of each lead, the rhythm, and which leads there are; no parameter."""

    def __init__(self, rate: int) -> None:
        Encoder.__init__(self)
        self.rate = rate
        self.width = len(LEADS) * len(PER_LEAD) + len(RHYTHM)

    def token_width(self, fusion: FusionShape) -> int:
        del fusion
        return self.width

    def forward(self, inputs: Inputs, entry: Tensor | None = None) -> Tokens:
        samples, rhythm = parted(entry_of(inputs) if entry is None else entry)
        beats = average_beats(samples, inputs[PEAKS], self.rate)
        features = amplitudes(beats, self.rate) * inputs[THERE][..., None]
        return Tokens(torch.cat([features.flatten(2), rhythm], dim=-1), inputs[MASK])


def average_beats(samples: Tensor, peaks: Tensor, rate: int) -> Tensor:
    """The mean [B, R, 12, W] of the beats at `peaks` [B, R, K] of `samples` [B, R, 12, T]; 0 where there is none."""
    steps = torch.arange(-round(BEFORE * rate), round(AFTER * rate), device=samples.device)
    known = peaks > 0
    places = (torch.where(known, peaks, 0)[..., None] + steps).clamp(0, samples.shape[-1] - 1)  # [B, R, K, W]
    flat = places.flatten(2)[:, :, None].expand(-1, -1, samples.shape[2], -1)
    beats = samples.gather(-1, flat).reshape(*samples.shape[:3], *places.shape[2:])  # [B, R, 12, K, W]
    weights = known[:, :, None, :, None].to(samples.dtype)
    return (beats * weights).sum(dim=3) / weights.sum(dim=3).clamp(min=1)


def amplitudes(beats: Tensor, rate: int) -> Tensor:
    """`PER_LEAD` of beats [..., W], [..., 4]; they grow in proportion with the voltage."""

    def between(start: float, end: float) -> Tensor:
        return beats[..., round((BEFORE + start) * rate) : round((BEFORE + end) * rate)]

    level = between(*LEVEL).mean(dim=-1, keepdim=True)
    qrs, st, t = (between(*where) - level for where in (QRS, ST, T_WAVE))
    largest = t.gather(-1, t.abs().argmax(dim=-1, keepdim=True))[..., 0]
    return torch.stack([qrs.amax(dim=-1), qrs.amin(dim=-1), st.mean(dim=-1), largest], dim=-1)
