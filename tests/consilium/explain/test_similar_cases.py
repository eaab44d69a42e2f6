from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from consilium.domain.errors import ArtifactError, InputError
from consilium.explain import Neighbours
from consilium.explain import similar_cases as neighbours
from tests.consilium.more_modalities import install
from tests.consilium.tiny import FINDINGS

IMAGE, TEXT, VALUES = "image", "text", "observations"
STUDIES = [f"secret-study-{n}" for n in range(40)]


def _fitted(features: np.ndarray | None = None) -> Neighbours:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)) if features is None else features
    labels = np.where(rng.random((len(features), 2)) < 0.2, np.nan, rng.random((len(features), 2)) < 0.5)
    present = dict(zip((IMAGE, TEXT, VALUES), (rng.random((len(features), 3)) < 0.7).T, strict=True))
    return Neighbours.fit(features, labels, present, STUDIES[: len(features)], "digest", FINDINGS)


def test_the_nearest_are_those_of_the_smallest_angle() -> None:
    features = np.array([[1, 0], [10, 10], [-1, 0], [0, 3], [0.5, -0.1]])
    labels = np.array([[1, 0], [np.nan, 1], [0, 0], [1, 1], [0, np.nan]])
    table = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]], bool)
    present = dict(zip((IMAGE, TEXT, VALUES), table.T, strict=True))
    fitted = Neighbours.fit(features, labels, present, STUDIES[:5], "digest", FINDINGS)
    first, second, third = fitted.nearest([0.02, 0.02], 3)
    assert (first.similarity, second.similarity) == pytest.approx((1, np.sqrt(0.5)), abs=1e-3)
    assert first.pseudonym == hashlib.sha256(b"digestsecret-study-1").hexdigest()[:12]
    assert first.labels == {"pneumonia": None, "effusion": True}
    assert first.modalities == (IMAGE,)
    assert second.labels == {"pneumonia": True, "effusion": False}
    assert third.modalities == (VALUES,)
    assert len(fitted.nearest([1, 1], 99)) == 5
    assert fitted.nearest([1, 0], 5)[-1].similarity == pytest.approx(-1, abs=1e-3)


def test_it_agrees_with_scipy() -> None:
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(3)
    features, asked = rng.normal(size=(40, 6)), rng.normal(size=6)
    distance = cdist(features, asked[None], "cosine")[:, 0]
    found = _fitted(features).nearest(asked, 4)
    expected = [neighbours.pseudonym("digest", STUDIES[row]) for row in np.argsort(distance)[:4]]
    assert [one.pseudonym for one in found] == expected
    assert [one.similarity for one in found] == pytest.approx(1 - np.sort(distance)[:4], abs=1e-3)


def test_it_comes_back_from_disk_to_the_bit_and_names_no_study(tmp_path: Path) -> None:
    fitted = _fitted()
    fitted.save(tmp_path / "neighbours")
    loaded = Neighbours.load(tmp_path / "neighbours")
    asked = np.arange(6) - 2.5
    assert loaded.nearest(asked, 40) == fitted.nearest(asked, 40)
    assert (loaded.cohort_studies, len(loaded)) == (40, 40)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "neighbours").iterdir())
    assert b"secret" not in stored
    assert (tmp_path / "neighbours" / "neighbours.safetensors").stat().st_size < 40 * (6 * 2 + 2 + 3) + 500


def test_a_larger_cohort_is_represented_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", 10)
    fitted = _fitted()
    assert (len(fitted), fitted.cohort_studies) == (10, 40)
    rows = [STUDIES.index(study) for study in STUDIES if neighbours.pseudonym("digest", study) in fitted.pseudonyms]
    assert len(rows) == 10
    monkeypatch.setattr(neighbours, "MOST", 100)
    whole = _fitted()
    assert np.array_equal(fitted.states.vectors, whole.states.vectors[rows])
    assert np.array_equal(fitted.labels, whole.labels[rows])


@pytest.mark.parametrize(
    ("features", "field"),
    [
        (np.zeros((4, 2)), "state"),
        (np.full((4, 2), np.nan), "state"),
        (np.ones((0, 2)), "neighbours.features"),
    ],
)
def test_states_without_a_direction_are_refused(features: np.ndarray, field: str) -> None:
    with pytest.raises(InputError) as error:
        _fitted(features)
    assert error.value.field == field


def test_questions_that_cannot_be_answered_are_refused() -> None:
    fitted = _fitted()
    for state, k in (([1, 2], 3), ([0] * 6, 3), ([np.inf] * 6, 3), ([1] * 6, 0)):
        with pytest.raises(InputError):
            fitted.nearest(state, k)
    with pytest.raises(InputError, match="labels"):
        Neighbours.fit(np.ones((2, 3)), np.ones((2, 1)), {TEXT: np.ones(2, bool)}, ["a", "b"], "d", FINDINGS)
    with pytest.raises(InputError, match=r"present\.text"):
        Neighbours.fit(np.ones((2, 3)), np.ones((2, 2)), {TEXT: np.ones(3, bool)}, ["a", "b"], "d", FINDINGS)


@pytest.mark.parametrize("damage", ["missing", "format", "shape", "json"])
def test_what_is_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    _fitted().save(tmp_path)
    names = tmp_path / "neighbours.json"
    content = json.loads(names.read_text())
    if damage == "missing":
        (tmp_path / "neighbours.safetensors").unlink()
    elif damage == "format":
        names.write_text(json.dumps(content | {"format": 9}))
    elif damage == "shape":
        names.write_text(json.dumps(content | {"pseudonyms": content["pseudonyms"][1:]}))
    else:
        names.write_text("{")
    with pytest.raises(ArtifactError):
        Neighbours.load(tmp_path)


@pytest.mark.parametrize("first", [False, True])
def test_cases_of_three_modalities_load_where_a_fourth_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    fitted = _fitted()
    expected = fitted.nearest(np.ones(6), 40)
    fitted.save(tmp_path)
    install(monkeypatch, "signal", first=first)
    assert Neighbours.load(tmp_path).nearest(np.ones(6), 40) == expected
