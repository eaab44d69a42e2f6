"""Anatomy: a thorax as X-rays see it, in optical depth. Knows nothing of findings but how large the heart is.

Lengths are centimetres in the thorax's own frame: x to the image's right (the patient's left), y down, the origin
between the lungs. Optical depth is the exponent of Beer–Lambert's law, summed over the tissues along the ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]

FIELD_OF_VIEW = 43.0
"""Side of the detector, cm."""
LUNG_CENTRE = (6.6, 4.0)
LUNG_RADII = (6.7, 18.4)
HILUM = (3.9, -0.8)
WALL_DEPTH, SOFT_DEPTH, LUNG_DEPTH = 0.75, 1.80, 0.60
"""Optical depth of chest wall, of a thorax full of soft tissue, and of one full of aerated lung."""


@dataclass(frozen=True, slots=True)
class Habitus:
    """How this patient is built and stands: nuisance.

    Lengths in cm, angle in radians, factors around 1.
    """

    scale: float
    shift: tuple[float, float]
    angle: float
    wall: float
    lung_balance: float
    inspiration: float
    heart: float
    rib_spacing: float
    rib_phase: float
    rib_contrast: float
    vessel_phase: tuple[float, float]
    clavicle: float
    frontal_beam: bool
    """The beam enters in front (AP): shoulder blades over the lungs, the heart a little larger."""


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """One patient's build; every figure is drawn whatever the others are."""
    return Habitus(
        scale=float(rng.normal(1.0, 0.03)),
        shift=(float(rng.normal(0, 0.5)), float(rng.normal(0, 0.5))),
        angle=float(np.deg2rad(rng.normal(0, 1.5))),
        wall=float(rng.normal(1.0, 0.10)),
        lung_balance=float(rng.normal(0, 0.02)),
        inspiration=float(rng.normal(0, 0.35)),
        heart=float(rng.normal(1.0, 0.008)),
        rib_spacing=float(rng.normal(2.8, 0.08)),
        rib_phase=float(rng.uniform(0, 1)),
        rib_contrast=float(rng.normal(1.0, 0.15)),
        vessel_phase=(float(rng.uniform(0, 6.28)), float(rng.uniform(0, 6.28))),
        clavicle=float(rng.normal(0, 0.4)),
        frontal_beam=bool(rng.random() < 0.35),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Coordinates of every pixel in the thorax's frame, float32 [H, W], cm; `pixel` is a pixel's side there."""

    x: Field
    y: Field
    pixel: float

    def ramp(self, distance: Field, softness: float = 0.0) -> Field:
        """0 outside, 1 inside, linear over a pixel or `softness` cm, whichever is wider; `distance` inward in cm."""
        inside: Field = distance * np.float32(1 / max(self.pixel, softness))
        inside += np.float32(0.5)
        return np.clip(inside, 0, 1, out=inside)


def frame(habitus: Habitus, size: int) -> Frame:
    """Pixel coordinates of a size × size detector in front of this patient."""
    pixel = FIELD_OF_VIEW / size
    line = ((np.arange(size, dtype=np.float32) + 0.5) * pixel - FIELD_OF_VIEW / 2).astype(np.float32)
    across, down = line[None, :] - np.float32(habitus.shift[0]), line[:, None] - np.float32(habitus.shift[1])
    cos, sin = (np.float32(f(habitus.angle) / habitus.scale) for f in (np.cos, np.sin))
    return Frame(across * cos + down * sin, down * cos - across * sin, pixel / habitus.scale)


@dataclass(frozen=True, slots=True, eq=False)
class Thorax:
    """The fields that lesions build on, float32 [H, W].

    Attributes
    ----------
    aerated : share of the ray's way through the thorax that is lung, 0 … 1, before any lesion
    wall_distance : cm from the chest wall inward, along the lung's outline
    from_hilum : distance from the nearer hilum, cm
    """

    frame: Frame
    side: Field
    lateral: Field
    body: Field
    cage: Field
    aerated: Field
    wall_distance: Field
    from_hilum: Field


def diaphragm(lateral: Field, side: Field, habitus: Habitus) -> Field:
    """Height of the diaphragm's dome at each |x|; the right one stands higher."""
    dome = np.float32(8.4 + habitus.inspiration) + np.float32(0.05) * np.square(lateral - np.float32(5.5))
    return dome + np.float32(0.4) * side


def heart_chord(f: Frame, scale: float, habitus: Habitus) -> Field:
    """Share of the thorax's depth that is heart, 0 … 1, for a heart `scale` times the usual size."""
    width = np.float32(1 / (5.7 * scale * habitus.heart * (1.02 if habitus.frontal_beam else 1.0)))
    height = np.float32(1 / (5.2 * (0.6 + 0.4 * scale)))
    x, y = f.x - np.float32(1.5), f.y - np.float32(4.6)
    u = (x * np.float32(0.92) + y * np.float32(0.39)) * width
    v = (y * np.float32(0.92) - x * np.float32(0.39)) * height
    chord: Field = np.sqrt(np.clip(1 - u * u - v * v, 0, 1, dtype=np.float32))
    return np.minimum(chord * np.float32(1.35), 1)


def thorax(f: Frame, habitus: Habitus) -> Thorax:
    """Body outline, lungs and distances."""
    lateral: Field = np.abs(f.x)
    side = np.sign(f.x).astype(np.float32)
    body = np.sqrt(np.clip(1 - np.square(f.x * np.float32(1 / 20.5)), 0, 1, dtype=np.float32))
    shoulder = f.ramp(f.y + np.float32(18.6) - np.float32(0.30) * lateral, 1.5)
    body *= np.maximum(shoulder, f.ramp(np.float32(5.6) - lateral, 2.0) * np.float32(0.8))
    u = (lateral - np.float32(LUNG_CENTRE[0])) * np.float32(1 / LUNG_RADII[0])
    v = (f.y - np.float32(LUNG_CENTRE[1])) * np.float32(1 / LUNG_RADII[1])
    radius = np.sqrt(u * u + v * v) + np.float32(1e-3)
    slope = np.sqrt(np.square(u * np.float32(1 / LUNG_RADII[0])) + np.square(v * np.float32(1 / LUNG_RADII[1])))
    wall_distance = (1 - radius) * radius / (slope + np.float32(1e-3))
    aerated = np.sqrt(np.clip(wall_distance * np.float32(0.5), 0, 1, dtype=np.float32))
    aerated *= f.ramp(diaphragm(lateral, side, habitus) - f.y, 0.15)
    knob = np.square(f.x - np.float32(1.5)) + np.square(f.y + np.float32(5.2))
    aerated *= f.ramp(lateral - np.float32(2.5), 0.5) * f.ramp(np.sqrt(knob) - np.float32(1.9), 0.3)
    from_hilum = np.sqrt(np.square(lateral - np.float32(HILUM[0])) + np.square(f.y - np.float32(HILUM[1])))
    cage = f.ramp(wall_distance + np.float32(0.5), 0.4) * f.ramp(np.float32(15.5) - f.y, 6.0)
    return Thorax(f, side, lateral, body, cage, aerated, wall_distance, from_hilum)


def bones(t: Thorax, habitus: Habitus) -> Field:
    """Optical depth of ribs, clavicles, shoulder blades and spine, less the windpipe's air."""
    f, lateral = t.frame, t.lateral
    turn = np.float32(2 * np.pi / habitus.rib_spacing)
    phase = np.float32(2 * np.pi * habitus.rib_phase)
    back = np.cos((f.y - np.float32(0.035) * np.square(lateral - np.float32(4.5))) * turn + phase)
    front = np.cos((f.y + np.float32(0.55) * lateral) * turn + 2 * phase)
    ribs = np.clip(back - np.float32(0.35), 0, 0.3) * np.float32(0.50 * habitus.rib_contrast)
    ribs += np.clip(front - np.float32(0.45), 0, 0.3) * np.float32(0.26 * habitus.rib_contrast)
    depth: Field = ribs * t.cage
    bar = np.abs(f.y + np.float32(11.2 + habitus.clavicle) + np.float32(0.18) * lateral)
    depth += np.float32(0.28) * f.ramp(np.float32(0.6) - bar, 0.3) * f.ramp(np.float32(7.0) - np.abs(lateral - 9), 0.5)
    blade = np.float32(12.3 if habitus.frontal_beam else 16.0)
    oval = np.square((lateral - blade + f.y * np.float32(0.1)) / 2) + np.square((f.y + 7) * np.float32(1 / 5.5))
    depth += np.float32(0.12) * f.ramp(1 - oval, 0.4)
    spine = f.ramp(np.float32(1.8) - lateral, 1.0)
    depth += spine * (np.float32(0.16) + np.float32(0.05) * np.cos(f.y * np.float32(2 * np.pi / 2.6)))
    trachea = f.ramp(np.float32(0.8) - lateral, 0.5) * f.ramp(np.float32(-3.5) - f.y, 1.5)
    return depth - np.float32(0.28) * trachea


def vessels(t: Thorax, habitus: Habitus) -> Field:
    """Vascular markings fanning out of the hila, 0 … about 1."""
    f = t.frame
    angle = np.arctan2(f.y - np.float32(HILUM[1]), t.lateral - np.float32(HILUM[0]))
    phase = np.where(t.side > 0, np.float32(habitus.vessel_phase[0]), np.float32(habitus.vessel_phase[1]))
    wave = np.cos(angle * 11 + np.float32(0.9) * np.sin(t.from_hilum * np.float32(0.8) + phase) + phase)
    branches = np.clip(wave - np.float32(0.55), 0, 1, dtype=np.float32) * np.float32(2.2)
    return branches * np.exp(t.from_hilum * np.float32(-1 / 5.0)) + np.exp(
        -np.square(t.from_hilum * np.float32(1 / 1.7))
    )
