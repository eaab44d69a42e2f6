"""What no phantom cohort holds, drawn with the same physics: a limb, and the thorax from the side.

For tests of whether a model notices that it is shown something else. Soft tissue and bone are capsules, thick lines
with round ends, whose optical depths add up; detector and display follow Beer–Lambert's law as in `radiograph`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.image.anatomy import FIELD_OF_VIEW, SOFT_DEPTH, Field, Frame, draw_habitus, frame
from training.cohorts.phantom.image.radiograph import BITS

_SPAN = 3.2
"""Optical depth from black to white, as of most devices."""
_PHOTONS = 900.0
"""Detector quanta per 0.1 mm pixel in air."""


def draw_limb(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint16]:
    """A forearm with the hand, in any direction; 12-bit display values [size, size], air dark."""
    f = _turned(frame(draw_habitus(rng), size), float(rng.uniform(0, 2 * np.pi)))
    length, girth = float(rng.normal(15.0, 1.0)), float(rng.normal(3.6, 0.4))
    depth = _capsule(f, (0.0, -length), (0.0, 1.0), girth) * np.float32(0.9)
    depth += _capsule(f, (0.0, 1.0), (0.0, 7.0), girth * 1.15) * np.float32(0.6)
    for side in (-1, 1):
        depth += _bone(f, (side * 1.3, -length), (side * 1.0, 0.5), 0.75)
    for finger in range(5):
        angle = np.deg2rad(-32 + 16 * finger + rng.normal(0, 2))
        start = np.array([-2.4 + 1.2 * finger, 1.5])
        for bone in (5.2, 3.4, 2.2, 1.6)[: 3 if finger == 0 else 4]:
            along = bone * np.array([np.sin(angle), np.cos(angle)])
            ends = tuple(start.tolist()), tuple((start + 0.94 * along).tolist())
            depth += _capsule(f, *ends, 0.95) * np.float32(0.35) + _bone(f, *ends, 0.42)
            start = start + along
    return _film(depth, rng)


def draw_lateral(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint16]:
    """A thorax from the side, its front to the left; 12-bit display values [size, size], air dark."""
    habitus = draw_habitus(rng)
    f = frame(habitus, size)
    body = _ellipse(f, (0.0, 3.0), (15.5, 26.0)) * np.float32(1.1 * habitus.wall + SOFT_DEPTH)
    lung = _ellipse(f, (0.5, 0.5), (10.5, 16.5)) * f.ramp(np.float32(9.0 + habitus.inspiration) - f.y + 0.25 * f.x, 0.3)
    heart = _ellipse(f, (-4.5, 4.5), (4.6 * habitus.heart, 5.4))
    depth = body - lung * np.float32(1.5) + lung * heart * np.float32(1.2)
    turn = 2 * np.pi / habitus.rib_spacing
    slope = np.cos((f.y + np.float32(0.45) * f.x) * np.float32(turn) + np.float32(2 * np.pi * habitus.rib_phase))
    depth += np.clip(slope - np.float32(0.4), 0, 0.3) * lung * np.float32(0.5 * habitus.rib_contrast)
    spine = f.ramp(np.float32(1.9) - np.abs(f.x - np.float32(9.0) - np.float32(0.01) * np.square(f.y)), 0.6)
    depth += (body > 0) * spine * (np.float32(0.45) + np.float32(0.12) * np.cos(f.y * np.float32(2 * np.pi / 2.6)))
    depth += _bone(f, (-10.5, -8.0), (-12.0, 6.0), 0.7)
    return _film(depth, rng)


def _turned(f: Frame, angle: float) -> Frame:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return Frame(f.x * cos + f.y * sin, f.y * cos - f.x * sin, f.pixel)


def _capsule(f: Frame, start: tuple[float, ...], stop: tuple[float, ...], radius: float) -> Field:
    """Share of its diameter that the ray runs in a capsule, 0 … 1."""
    (x0, y0), (x1, y1) = start, stop
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((f.x - x0) * dx + (f.y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    r2 = np.square(f.x - x0 - along * dx) + np.square(f.y - y0 - along * dy)
    return np.sqrt(np.clip(1 - r2 / radius**2, 0, 1)).astype(np.float32)


def _bone(f: Frame, start: tuple[float, ...], stop: tuple[float, ...], radius: float) -> Field:
    """Optical depth of a long bone: a dense tube round a lighter marrow."""
    return np.float32(0.9) * _capsule(f, start, stop, radius) - np.float32(0.5) * _capsule(f, start, stop, 0.6 * radius)


def _ellipse(f: Frame, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Share of its depth that the ray runs in an ellipsoid, 0 … 1."""
    r2 = np.square((f.x - np.float32(centre[0])) / np.float32(radii[0]))
    r2 += np.square((f.y - np.float32(centre[1])) / np.float32(radii[1]))
    return np.sqrt(np.clip(1 - r2, 0, 1)).astype(np.float32)


def _film(depth: Field, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    photons = np.float32(_PHOTONS * (FIELD_OF_VIEW / len(depth) / 0.01) ** 2)
    intensity = np.exp(-np.clip(depth, 0, None))
    intensity += np.sqrt(intensity / photons) * rng.standard_normal(depth.shape, dtype=np.float32)
    share = np.clip((-np.log(np.clip(intensity, 1e-3, None)) - 0.35) / _SPAN, 0, 1)
    return np.rint(share * (2**BITS - 1)).astype(np.uint16)
