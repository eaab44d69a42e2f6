"""Lesions: how each channel of image evidence looks, as a change of the thorax.

Conspicuity and extent grow with the evidence over the whole range in which it is drawn; there is no state without a
look, so a negative shows its own small evidence too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.image.anatomy import LUNG_DEPTH, SOFT_DEPTH, Field, Habitus, Thorax, heart_chord
from training.cohorts.phantom.tables import table

IMAGE_CHANNELS: tuple[str, ...] = tuple(table("evidence")["image"])
LOWEST, HIGHEST = -4.0, 6.0
"""Evidence beyond is drawn as the limit itself; a Gaussian around 0 … 3.2 passes them once in some ten thousand."""
VISIBLE = 0.04
"""A pixel belongs to a lesion where the evidence changes its optical depth by more than this."""

ZONES = ((-7.8, -5.2), (-8.3, 1.6), (7.8, -5.2), (8.6, 0.4))
"""Where a consolidation can sit, cm in the thorax's frame."""


def severity(evidence: float) -> float:
    """Evidence on a scale of 0 (lowest) to 1 (highest): strictly monotone, steeper where there is more to see."""
    share = (min(max(evidence, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return 0.55 * share + 0.45 * share * share


@dataclass(frozen=True, slots=True)
class Sites:
    """Where each lesion would sit, whatever its evidence: nuisance.

    Attributes
    ----------
    zone : int
        Index into `ZONES`.
    offset : (float, float)
        Of the consolidation's centre from its zone's, cm.
    effusion_side, pneumothorax_side : -1 right, 1 left
    """

    zone: int
    offset: tuple[float, float]
    lump_phase: tuple[float, float]
    effusion_side: int
    pneumothorax_side: int


def draw_sites(rng: np.random.Generator) -> Sites:
    """One patient's sites."""
    return Sites(
        zone=int(rng.integers(len(ZONES))),
        offset=(float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.8, 0.8))),
        lump_phase=(float(rng.uniform(0, 6.28)), float(rng.uniform(0, 6.28))),
        effusion_side=int(rng.choice((-1, 1))),
        pneumothorax_side=int(rng.choice((-1, 1))),
    )


def consolidation(t: Thorax, evidence: float, sites: Sites) -> Field:
    """Pneumonia: optical depth of a lumpy opacity in one lung zone, per share of aerated lung."""
    degree = severity(evidence)
    f = t.frame
    x = f.x - np.float32(ZONES[sites.zone][0] + sites.offset[0])
    y = f.y - np.float32(ZONES[sites.zone][1] + sites.offset[1])
    radius = 2.3 + 1.9 * degree
    r2 = (x * x + np.float32(0.7) * y * y) * np.float32(1 / radius**2)
    lumps = np.sin(x * np.float32(2.1) + np.float32(sites.lump_phase[0])) * np.sin(
        y * np.float32(1.8) + np.float32(sites.lump_phase[1])
    )
    return np.float32(1.9 * degree) * np.exp(-r2 * r2) * (1 + np.float32(0.12) * lumps)


def heart_scale(evidence: float) -> float:
    """Heart failure, first sign: how much wider the heart is than usual."""
    return 0.80 + 0.75 * severity(evidence)


def congestion(t: Thorax, evidence: float) -> Field:
    """Heart failure, second sign: optical depth of perihilar haze, per share of aerated lung."""
    return np.float32(1.0 * severity(evidence)) * np.exp(-np.square(t.from_hilum * np.float32(1 / 3.6)))


def fluid(t: Thorax, evidence: float, side: int, habitus: Habitus) -> Field:
    """Fluid on one side: share of the lung's way that is fluid, 0 … 1, rising to the chest wall as a meniscus."""
    degree = severity(evidence)
    lowest = np.float32(11.6 + habitus.inspiration + 0.4 * side)
    rise = np.float32(0.03) * np.square(np.clip(t.lateral - 4, 0, None))
    surface = lowest - np.float32(12.0 * degree) - rise * np.float32(0.5 + degree) + np.float32(1.2)
    below = t.frame.ramp(t.frame.y - surface, 1.0)
    return below * (t.side == side) * np.float32(0.45 + 0.5 * degree)


def air(t: Thorax, evidence: float, sites: Sites) -> tuple[Field, Field]:
    """Pneumothorax: share of the lung's way that is free air, 0 … 1, and optical depth of the pleural line."""
    degree = severity(evidence)
    f = t.frame
    apical = np.clip((np.float32(1.5) - f.y) * np.float32(1 / 10.0), 0, 1, dtype=np.float32)
    gap = np.float32(0.2 + 7.0 * degree) * apical - t.wall_distance
    here = (t.side == sites.pneumothorax_side) * (apical > 0)
    share = f.ramp(gap, 0.2) * here * np.float32(0.55 + 0.45 * degree)
    width = max(0.14, 0.6 * f.pixel)
    line = np.exp(-np.square(gap * np.float32(1 / width))) * here * np.float32((0.08 + 0.25 * degree) * 0.14 / width)
    return share, line


@dataclass(frozen=True, slots=True, eq=False)
class Lesions:
    """What all evidence of an image makes of a thorax.

    Attributes
    ----------
    heart : float32 [H, W]
        As `heart_chord` gives it.
    opacity, haze : float32 [H, W]
        Optical depth per share of aerated lung.
    liquid, gas : float32 [H, W]
        Share of the lung's way that is fluid, and free air.
    line : float32 [H, W]
        Optical depth of pleural lines.
    shown : bool [C, H, W]
        Where each channel's evidence shows: pixels it changes visibly against the lowest evidence.
    """

    heart: Field
    opacity: Field
    haze: Field
    liquid: Field
    gas: Field
    line: Field
    shown: npt.NDArray[np.bool_]


Look = Callable[[Thorax, npt.NDArray[np.float64], Sites, Habitus], Lesions]
"""What evidence, float64 [C], looks like."""


def ordinary_look(t: Thorax, evidence: npt.NDArray[np.float64], sites: Sites, habitus: Habitus) -> Lesions:
    """That of the ordinary scheme, a channel for each finding: `IMAGE_CHANNELS`."""
    pneumonia, heart_failure, pleural_effusion, pneumothorax = evidence.tolist()
    heart = heart_chord(t.frame, heart_scale(heart_failure), habitus)
    smallest = heart_chord(t.frame, heart_scale(LOWEST), habitus)
    lung = t.aerated * (1 - heart)
    opacity, haze = consolidation(t, pneumonia, sites), congestion(t, heart_failure)
    liquid = fluid(t, pleural_effusion, sites.effusion_side, habitus)
    gas, line = air(t, pneumothorax, sites)
    replaced = np.float32(SOFT_DEPTH - LUNG_DEPTH) * t.body
    shown = np.stack(
        [
            lung * opacity > VISIBLE,
            (lung * haze > VISIBLE) | (t.aerated * (heart - smallest) * replaced > VISIBLE),
            lung * liquid * replaced > VISIBLE,
            lung * gas * np.float32(LUNG_DEPTH) + line > VISIBLE,
        ]
    )
    return Lesions(heart, opacity, haze, liquid, gas, line, shown)


def lookalikes(t: Thorax, rng: np.random.Generator) -> Field:
    """Optical depth of what resembles a finding and is none: nipple shadows, a skin fold, electrodes.

    Drawn at the same rates whatever the evidence.
    """
    f = t.frame
    depth: Field = np.zeros_like(f.x)
    has_nipples, has_fold, has_leads = rng.random(3) < (0.3, 0.2, 0.25)
    at, fold_x, fold_side = rng.normal((7.2, 3.6), 0.4), rng.uniform(8.5, 11.0), int(rng.choice((-1, 1)))
    leads = rng.uniform((-11, -11), (11, 8), size=(3, 2))
    if has_nipples:
        near = np.square(t.lateral - np.float32(at[0])) + np.square(f.y - np.float32(at[1]))
        depth += np.float32(0.13) * np.exp(-near * np.float32(1 / 0.35))
    if has_fold:
        inward = np.float32(fold_x) - t.lateral + np.float32(0.08) * f.y
        depth += np.float32(0.10) * f.ramp(inward, 0.1) * np.exp(-np.abs(inward)) * (t.side == fold_side)
    if has_leads:
        for x, y in leads:
            near = np.square(f.x - np.float32(x)) + np.square(f.y - np.float32(y))
            depth += np.float32(0.5) * f.ramp(np.float32(0.55) - np.sqrt(near), 0.1)
    return depth
