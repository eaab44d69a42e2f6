"""Radiograph: anatomy, lesions and look-alikes through Beer–Lambert's law, a noisy detector and a display curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.image.image_record import ViewPosition
from training.cohorts.phantom.image.anatomy import (
    FIELD_OF_VIEW,
    LUNG_DEPTH,
    SOFT_DEPTH,
    WALL_DEPTH,
    Field,
    Frame,
    Habitus,
    Thorax,
    bones,
    draw_habitus,
    frame,
    thorax,
    vessels,
)
from training.cohorts.phantom.image.lesions import Lesions, Look, Sites, draw_sites, lookalikes, ordinary_look
from training.cohorts.phantom.tables import table

BITS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """A rendered image.

    Attributes
    ----------
    pixels : uint16 [size, size]
        12-bit display values, air dark.
    masks : bool [C, size, size]
        Where each channel's evidence shows: see `Lesions.shown`.
    pixel_spacing : float
        mm.
    device : dict
        The row of the device table.
    """

    pixels: npt.NDArray[np.uint16]
    masks: npt.NDArray[np.bool_]
    pixel_spacing: float
    view: ViewPosition
    device: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Nuisance:
    """Everything of an image that is not evidence."""

    habitus: Habitus
    sites: Sites
    texture: npt.NDArray[np.float32]
    exposure: float
    brightness: float
    collimation: npt.NDArray[np.float64]
    marker_side: int
    device: dict[str, Any]
    lookalikes: np.random.Generator
    noise: np.random.Generator


def _draw_nuisance(rng: np.random.Generator, site: str, device: dict[str, Any] | None) -> _Nuisance:
    devices = next(row["devices"] for row in table("sites")["sites"] if row["name"] == site)
    own = devices[int(rng.random() * len(devices))]
    lookalike_rng, noise_rng = rng.spawn(2)
    return _Nuisance(
        habitus=draw_habitus(rng),
        sites=draw_sites(rng),
        texture=rng.normal(size=(14, 14)).astype(np.float32),
        exposure=float(rng.lognormal(0, 0.25)),
        brightness=float(rng.normal(0, 0.04)),
        collimation=np.abs(rng.normal(0, 1, size=4)),
        marker_side=int(rng.choice((-1, 1))),
        device=device or own,
        lookalikes=lookalike_rng,
        noise=noise_rng,
    )


def _smooth(grid: npt.NDArray[np.float32], size: int) -> Field:
    """A coarse grid, interpolated to size × size by cosine weights."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size * (len(grid) - 1)
    low = at.astype(np.intp)
    share = (0.5 - 0.5 * np.cos(np.pi * (at - low))).astype(np.float32)
    rows = grid[low] * (1 - share)[:, None] + grid[low + 1] * share[:, None]
    blended: Field = rows[:, low] * (1 - share)
    blended += rows[:, low + 1] * share
    return blended


def _optical_depth(t: Thorax, lesions: Lesions, n: _Nuisance) -> Field:
    """Optical depth of patient and lesions."""
    f, habitus = t.frame, n.habitus
    lung = t.aerated * (1 - lesions.heart)
    replaced = np.float32(SOFT_DEPTH - LUNG_DEPTH) * t.body
    texture = np.float32(0.018) * _smooth(n.texture, f.x.shape[0])
    marks = np.float32(0.16) * vessels(t, habitus) + lesions.opacity + lesions.haze + texture
    parenchyma = np.float32(LUNG_DEPTH) * (1 + np.float32(habitus.lung_balance) * t.side) + marks
    depth = t.body * np.float32(WALL_DEPTH * habitus.wall) + t.body * np.float32(SOFT_DEPTH) * (1 - lung)
    depth += lung * (parenchyma * (1 - lesions.gas) + lesions.liquid * (replaced - marks))
    depth += bones(t, habitus) + lung * lesions.line + lookalikes(t, n.lookalikes)
    return depth


def _detected(depth: Field, n: _Nuisance) -> Field:
    """Optical depth as measured: Beer–Lambert, then quantum noise of a detector pixel."""
    pixel = FIELD_OF_VIEW / depth.shape[0]
    photons = np.float32(n.device["photons"] * n.exposure * (pixel / 0.01) ** 2)
    intensity = np.exp(-depth)
    intensity += np.sqrt(intensity / photons) * n.noise.standard_normal(depth.shape, dtype=np.float32)
    return -np.log(np.clip(intensity, 1e-3, None, dtype=np.float32))


def _marker(f: Frame, glyph: str, side: int) -> npt.NDArray[np.bool_]:
    """Pixels of the site's lead marker in the upper corner of one side, in the detector's own frame."""
    size = f.x.shape[0]
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * FIELD_OF_VIEW
    x, y = np.abs(line - side * 18.2)[None, :], np.abs(line + 18.6)[:, None]
    if glyph == "square":
        return np.maximum(x, y) < 1.1
    if glyph == "ring":
        radius = np.hypot(x, y)
        return (radius < 1.3) & (radius > 0.5)
    return (np.maximum(x, y) < 1.3) & (np.abs(x - 0.8) < 0.4)


def _displayed(depth: Field, f: Frame, n: _Nuisance, glyph: str) -> npt.NDArray[np.uint16]:
    """12-bit display values: the device's curve, collimation, the lead marker."""
    share = np.clip((depth - np.float32(0.35 + n.brightness)) * np.float32(1 / n.device["span"]), 0, 1)
    share = np.power(share, np.float32(n.device["gamma"]))
    share[_marker(f, glyph, n.marker_side)] = 0.97
    size = len(share)
    top, bottom, left, right = (
        int(np.clip(n.device["collimation"] * edge, 0, 1.5) / FIELD_OF_VIEW * size) for edge in n.collimation
    )
    share[:top] = share[size - bottom :] = share[:, :left] = share[:, size - right :] = 0
    return np.rint(share * (2**BITS - 1)).astype(np.uint16)


def render_radiograph(
    evidence: npt.ArrayLike,
    rng: np.random.Generator,
    size: int,
    site: str,
    *,
    look: Look = ordinary_look,
    device: dict[str, Any] | None = None,
) -> Radiograph:
    """One frontal chest radiograph.

    Parameters
    ----------
    evidence : float [C]
        Of the channels that `look` draws.
    rng : Generator
        Nuisance. The same generator with other evidence gives the same patient, device and noise.
    size : int
        Rows and columns.
    site : str
        Whose marker and, unless `device` is given, whose devices are used.
    device : dict, optional
        A row like those of the device table, for cohorts of a device that no site has.
    """
    nuisance = _draw_nuisance(rng, site, device)
    glyph = next(row["marker"] for row in table("sites")["sites"] if row["name"] == site)
    f = frame(nuisance.habitus, size)
    body = thorax(f, nuisance.habitus)
    lesions = look(body, np.asarray(evidence, dtype=np.float64), nuisance.sites, nuisance.habitus)
    depth = _optical_depth(body, lesions, nuisance)
    return Radiograph(
        pixels=_displayed(_detected(depth, nuisance), f, nuisance, glyph),
        masks=lesions.shown,
        pixel_spacing=10 * FIELD_OF_VIEW / size,
        view=ViewPosition.AP if nuisance.habitus.frontal_beam else ViewPosition.PA,
        device=nuisance.device,
    )
