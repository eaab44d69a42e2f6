from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from consilium.modalities.image.image_record import ViewPosition
from training.cohorts.phantom.image import radiograph
from training.cohorts.phantom.image.anatomy import Thorax, frame, thorax
from training.cohorts.phantom.image.lesions import IMAGE_CHANNELS, Look, ordinary_look, severity
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.image.radiograph import Radiograph, render_radiograph
from training.cohorts.phantom.interaction import InteractionImage
from training.cohorts.phantom.schemes import INTERACTION
from training.cohorts.phantom.state import StateTable, load_states
from training.cohorts.phantom.tables import table

SITES = [row["name"] for row in table("sites")["sites"]]


def _render(evidence: list[float] | npt.NDArray[np.float64], seed: int, size: int = 96) -> Radiograph:
    return render_radiograph(evidence, np.random.default_rng(seed), size, SITES[seed % len(SITES)])


def test_twelve_bits_air_dark_bone_bright() -> None:
    shown = _render([0, 0, 0, 0], 1, 128)
    assert shown.pixels.dtype == np.uint16
    assert shown.pixels.shape == (128, 128)
    assert shown.pixels.max() < 4096
    lung, spine = shown.pixels[45:60, 34:40].mean(), shown.pixels[90:110, 60:68].mean()
    assert spine > lung + 800
    assert shown.pixel_spacing == pytest.approx(430 / 128)


def test_the_same_evidence_and_nuisance_give_the_same_bytes() -> None:
    one, two = _render([1, 0, 2, 0], 3), _render([1, 0, 2, 0], 3)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.masks, two.masks)


@pytest.mark.parametrize("channel", range(len(IMAGE_CHANNELS)), ids=IMAGE_CHANNELS)
def test_changed_evidence_changes_its_own_region_only(channel: int) -> None:
    for seed in range(6):
        low, high = [0.0] * 4, [0.0] * 4
        high[channel] = 4.0
        before, after = _render(low, seed), _render(high, seed)
        difference = np.abs(after.pixels.astype(float) - before.pixels)
        mask = after.masks[channel] | before.masks[channel]
        assert difference[mask].mean() > 10 * difference[~mask].mean()
        assert mask.mean() < 0.35
        assert before.view is after.view
        assert before.device == after.device


@pytest.mark.parametrize("channel", range(len(IMAGE_CHANNELS)), ids=IMAGE_CHANNELS)
def test_extent_and_conspicuity_grow_with_evidence(channel: int) -> None:
    levels = np.linspace(-3.5, 5, 8)
    sign = -1 if IMAGE_CHANNELS[channel] == "pneumothorax" else 1
    for seed in range(3):
        shown = []
        for level in levels:
            evidence = [0.0] * 4
            evidence[channel] = level
            shown.append(_render(evidence, seed, 128))
        areas = [r.masks[channel].sum() for r in shown]
        assert (np.diff(areas) >= 0).all()
        assert areas[-1] > 1.5 * areas[2]
        widest = shown[-1].masks[channel]
        means = [sign * r.pixels[widest].mean() for r in shown]
        assert (np.diff(means) > 0).all()


def test_severity_is_strictly_monotone() -> None:
    assert (np.diff([severity(e) for e in np.linspace(-4, 6, 200)]) > 0).all()


def test_views_and_devices_vary_whatever_the_evidence() -> None:
    ill, well = ([_render([e] * 4, seed, 64) for seed in range(120)] for e in (3.0, -1.0))
    assert [r.view for r in ill] == [r.view for r in well]
    assert 0.2 < np.mean([r.view is ViewPosition.AP for r in ill]) < 0.5
    assert len({r.device["model"] for r in ill}) == sum(len(row["devices"]) for row in table("sites")["sites"])


def test_a_given_device_replaces_the_sites() -> None:
    own = render_radiograph([0] * 4, np.random.default_rng(0), 64, "north")
    unseen = table("sites")["unseen_device"]
    other = render_radiograph([0] * 4, np.random.default_rng(0), 64, "north", device=unseen)
    assert other.device["model"] == unseen["model"]
    assert (own.pixels != other.pixels).mean() > 0.5
    np.testing.assert_array_equal(own.masks, other.masks)


def _measured(seed: int, evidence: npt.NDArray[np.float64], size: int, look: Look = ordinary_look) -> list[float]:
    """Mean brightness of the rings in which each lesion grows, against the lung outside all of them."""
    site = SITES[seed % len(SITES)]
    pixels = render_radiograph(evidence, np.random.default_rng(seed), size, site, look=look).pixels / 4095
    nuisance = radiograph._draw_nuisance(np.random.default_rng(seed), site, None)
    body: Thorax = thorax(frame(nuisance.habitus, size), nuisance.habitus)
    levels = [
        look(body, np.full(evidence.shape, level), nuisance.sites, nuisance.habitus).shown for level in (-2.0, 0, 2, 4)
    ]
    clear = np.median(pixels[(body.aerated > 0.6) & ~levels[-1].any(axis=0)])
    seen = [float(clear)]
    for channel in range(len(evidence)):
        inner = np.zeros((size, size), dtype=bool)
        for masks in levels:
            ring = masks[channel] & ~inner
            inner |= masks[channel]
            seen.append(float(pixels[ring].mean() - clear) if ring.any() else 0.0)
    return seen


def _assert_recovered(phantom: ImagePhantom, states: StateTable, size: int, studies: int, within: float) -> None:
    """With the masks known, at resolutions models work at: else the oracle's bound for the image were loose."""
    rng = np.random.default_rng(7)
    evidence = np.stack([rng.normal(phantom.means[states.draw(rng).index]) for _ in range(studies)])
    seen = np.array([_measured(seed, e, size, phantom.look) for seed, e in enumerate(evidence)])
    features = np.hstack([seen, seen**2])
    reader = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 3, 15)))
    for channel, name in enumerate(phantom.shifts):
        read = cross_val_predict(reader, features, evidence[:, channel], cv=10)
        assert np.sqrt(np.mean((read - evidence[:, channel]) ** 2)) < within, name


@pytest.mark.parametrize(("size", "studies"), [(128, 300), (256, 130)])
def test_evidence_is_recovered_from_the_pixels_to_three_tenths_of_its_deviation(size: int, studies: int) -> None:
    _assert_recovered(ImagePhantom(), load_states(), size, studies, 0.3)


def test_so_is_that_of_the_interaction_scheme_which_reaches_further() -> None:
    states = INTERACTION.states()
    _assert_recovered(InteractionImage(states.members), states, 128, 300, 0.4)
