"""Neighbouring bands of a spectrogram together, as features and explanations have them. Without torch."""

from __future__ import annotations

import numpy as np

from consilium.modalities.audio.spectrogram import mel_edges

GROUPS = 8


def group_edges(bands: int) -> list[int]:
    """Where the `GROUPS` groups of `bands` begin and end, [GROUPS + 1]."""
    return [int(edge) for edge in np.rint(np.linspace(0, bands, GROUPS + 1))]


def group_hertz(low: float, high: float, bands: int) -> tuple[float, ...]:
    """The frequencies at these edges: halfway between the middles of the bands beside each, but for the outermost."""
    middles = mel_edges(low, high, bands)
    inner = [float(middles[edge] + middles[edge + 1]) / 2 for edge in group_edges(bands)[1:-1]]
    return (low, *inner, high)
