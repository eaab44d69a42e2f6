from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import ks_2samp, kstest

from consilium.monitoring.reference import (
    ADVANTAGE,
    DIRECTIONS,
    OTHER,
    HeldOut,
    MonitoringReference,
    Projection,
    least_noise,
)
from tests.consilium.monitoring.membership import (
    FINDINGS,
    PARTS,
    Population,
    auroc,
    by_likelihood_ratio,
    by_nearest_row,
    reference,
)

POPULATION = Population.draw(0)
TRAINING = POPULATION.studies(600, seed=1)


@pytest.fixture(scope="module")
def found() -> MonitoringReference:
    return reference(TRAINING, POPULATION.studies(2000, seed=2))


@pytest.mark.parametrize("attack", ["likelihood ratio over the whole file", "nearest row"])
def test_who_was_held_out_is_told_no_better_than_by_chance(attack: str):
    """Over several draws, each with other members: one alone is off by some hundredths by chance."""
    others = POPULATION.studies(600, seed=3)
    aurocs = []
    for draw in range(24):
        inside, outside = (POPULATION.studies(400, seed=100 + 2 * draw + k) for k in (0, 1))
        made = reference(TRAINING, inside, draw)
        if attack == "nearest row":
            aurocs.append(auroc(by_nearest_row(made, inside), by_nearest_row(made, outside)))
        else:
            aurocs.append(auroc(*(by_likelihood_ratio(made, asked, others) for asked in (inside, outside))))
    assert 0.48 < np.mean(aurocs) <= 0.52


def test_the_attack_succeeds_where_rows_carry_no_noise():
    """What the test above would show were there nothing between the studies and the file."""
    inside, outside = POPULATION.studies(400, seed=5), POPULATION.studies(400, seed=6)
    made = reference(TRAINING, inside)
    bare = replace(made, rows={p: v[np.isfinite(v).all(axis=1)] for p, v in made.project(inside.features).items()})
    assert auroc(by_nearest_row(bare, inside), by_nearest_row(bare, outside)) > 0.95


def test_few_directions_leave_the_features_undetermined(found: MonitoringReference):
    weights = found.projections["image"].weights.astype(np.float64)
    assert weights.shape == (64, DIRECTIONS)
    study = TRAINING.features["image"][np.isfinite(TRAINING.features["image"]).all(axis=1)][0]
    # Whatever lies across all directions changes no figure, and may be anything.
    across = np.linalg.svd(weights.T)[2][DIRECTIONS:]
    other = study + 10 * across.sum(axis=0)
    assert np.abs(other - study).max() > 5
    assert np.allclose(found.projections["image"](other[None]), found.projections["image"](study[None]), atol=1e-3)


def test_projections_have_the_scale_of_the_training_studies(found: MonitoringReference):
    projected = found.project(TRAINING.features)
    assert set(projected) == set(PARTS)
    for values in projected.values():
        known = values[np.isfinite(values).all(axis=1)]
        assert np.allclose(known.mean(axis=0), 0, atol=1e-3)
        assert np.allclose(known.std(axis=0), 1, atol=1e-3)


def test_absent_parts_stay_absent(found: MonitoringReference):
    absent = np.isnan(TRAINING.features["image"]).all(axis=1)
    assert absent.any()
    assert (np.isnan(found.project(TRAINING.features)["image"]).all(axis=1) == absent).all()


def test_features_that_do_not_vary_are_passed_over():
    features = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    features[:, 3] = 7.0
    projection = Projection.fit(features, np.random.default_rng(0))
    assert (projection.weights[3] == 0).all()
    assert np.isfinite(projection(features)).all()


def test_studies_alike_are_one_distribution_with_the_reference(found: MonitoringReference):
    alike, rng = POPULATION.studies(2000, seed=8), np.random.default_rng(9)
    projected = found.project(alike.features)
    pairs = [
        (found.noisy_projections(projected[part][:, axis], rng), found.rows[part][:, axis])
        for part in ("text", "fused")
        for axis in range(DIRECTIONS)
    ]
    pairs += [
        (found.noisy_log_odds(name, alike.probabilities[:, number], rng), found.log_odds[name])
        for number, name in enumerate(FINDINGS)
    ]
    p_values = [ks_2samp(one, other).pvalue for one, other in pairs]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_a_shift_is_seen_through_the_noise(found: MonitoringReference):
    shifted, rng = POPULATION.studies(2000, seed=8, shift=1.0), np.random.default_rng(9)
    noisy = found.noisy_projections(found.project(shifted.features)["fused"], rng)
    assert min(ks_2samp(noisy[:, axis], found.rows["fused"][:, axis]).pvalue for axis in range(DIRECTIONS)) < 1e-6
    odds = found.noisy_log_odds(FINDINGS[0], shifted.probabilities[:, 0], rng)
    assert ks_2samp(odds, found.log_odds[FINDINGS[0]]).pvalue < 1e-6


def test_no_row_is_a_study():
    """Of one study the columns lie at different places, so what is rare in one tells nothing of another."""
    held_out = POPULATION.studies(3000, seed=4)
    made = replace(reference(TRAINING, held_out), noise=0)
    assert abs(np.corrcoef(made.log_odds[FINDINGS[0]], made.rows["fused"][:, 0])[0, 1]) < 0.1
    true = made.project(held_out.features)["fused"][:, 0]
    assert abs(np.corrcoef(true, made.rows["fused"][:, 0])[0, 1]) < 0.1


def test_more_studies_need_less_noise():
    few, many = (
        least_noise([(studies, DIRECTIONS)] * 4 + [(studies, 1)] * 7, [(studies, 9)]) for studies in (300, 6000)
    )
    assert few > 5
    assert many < 2
    # One figure of 10,000 studies needs none to speak of: sqrt(1 / 10,000) is below the bound.
    assert least_noise([], [(10_000, 1)]) < 0.01


def test_a_closer_bound_needs_more_noise(monkeypatch: pytest.MonkeyPatch):
    before = least_noise([(1000, DIRECTIONS)], [])
    monkeypatch.setattr("consilium.monitoring.reference.ADVANTAGE", ADVANTAGE / 3)
    assert least_noise([(1000, DIRECTIONS)], []) > before


def test_a_value_that_few_studies_have_is_not_shown():
    held_out = POPULATION.studies(2000, seed=4)
    units = [{"unit:crp": "mg/L" if n % 2 else "mg/dL"} for n in range(2000)]
    units[7] = {"unit:crp": "grains per firkin"}
    made = reference(TRAINING, HeldOut(held_out.features, held_out.probabilities, units))
    assert set(made.counts["unit:crp"]) <= {"mg/L", "mg/dL", OTHER}
    assert made.counts["unit:crp"]["mg/L"] == pytest.approx(1000, abs=5 * made.noise * 1000**0.5)


def test_out_of_fold_there_are_log_odds_and_no_rows(tmp_path: Path):
    held_out = POPULATION.studies(500, seed=4)
    made = reference(TRAINING, HeldOut({}, held_out.probabilities, held_out.categories))
    made.save(tmp_path)
    loaded = MonitoringReference.load(tmp_path)
    assert loaded.rows == {}
    assert set(loaded.projections) == set(PARTS)
    assert len(loaded.log_odds[FINDINGS[0]]) == 500


def test_what_is_saved_is_loaded(found: MonitoringReference, tmp_path: Path):
    found.save(tmp_path)
    loaded = MonitoringReference.load(tmp_path)
    assert (loaded.studies, loaded.noise, loaded.counts) == (found.studies, found.noise, found.counts)
    assert (loaded.centres, loaded.spreads) == (found.centres, found.spreads)
    for part in PARTS:
        assert np.array_equal(loaded.rows[part], found.rows[part])
        assert np.array_equal(loaded.project(TRAINING.features)[part], found.project(TRAINING.features)[part], True)
    assert all(np.array_equal(loaded.log_odds[name], found.log_odds[name]) for name in FINDINGS)
    assert loaded.weight == pytest.approx(2000 / (1 + found.noise**2))


def test_the_same_seed_makes_the_same_file(tmp_path: Path):
    for name in ("one", "other"):
        reference(TRAINING, POPULATION.studies(200, seed=4), seed=5).save(tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


@pytest.mark.parametrize("broken", ["format", "infinite", "missing"])
def test_a_broken_file_is_refused(found: MonitoringReference, tmp_path: Path, broken: str):
    found.save(tmp_path)
    names, tensors = tmp_path / "reference.json", tmp_path / "reference.safetensors"
    if broken == "format":
        names.write_text(json.dumps(json.loads(names.read_text()) | {"format": 99}))
    elif broken == "infinite":
        save_file(load_file(tensors) | {"rows/text": np.full((2, 4), np.inf, np.float32)}, tensors)
    else:
        save_file({k: v for k, v in load_file(tensors).items() if k != "offset/text"}, tensors)
    with pytest.raises((ValueError, KeyError)):
        MonitoringReference.load(tmp_path)
