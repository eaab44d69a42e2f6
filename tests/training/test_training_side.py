"""What is known of a modality where a model is trained, and what of one that declares nothing."""

from __future__ import annotations

import numpy as np
import pytest

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN
from consilium.modalities.registry import modalities
from consilium.modalities.text.note import Note, NoteKind
from tests.training.audit.made import made_cached, made_cohort
from training.training_side import TrainingSide, training_side, training_sides


def test_every_built_in_modality_has_a_side_of_its_own() -> None:
    sides = list(training_sides())

    assert [side.name for side in sides] == list(modalities())
    assert all(type(side) is not TrainingSide for side in sides)
    assert [side.baseline().name for side in sides if side.baseline()] == [
        "image_hog",
        "note_tfidf",
        "values_gradient_boosting",
        "sound_spectra",
    ]


def test_a_modality_that_declares_none_goes_without() -> None:
    side = training_side("sound")

    assert type(side) is TrainingSide
    assert side.baseline() is None
    assert side.out_of_distribution_kinds() == ()
    assert side.subgroups([Study()], BUILT_IN) == {}
    assert side.copies(made_cohort([1, 0]), None, Scope(), np.arange(2), 0) is None


def test_origins_of_any_modality_count_its_records() -> None:
    cached = made_cached(made_cohort([1, 0], notes=[(Note(NoteKind.HISTORY, "cough"),), ()]))

    assert TrainingSide("text").origins(cached, Scope()) == {"missingness": [{"text": 1.0}, {"text": 0.0}]}


def test_noise_moves_numbers_by_a_share_of_their_spread_and_nothing_else() -> None:
    arrays = {"signal": np.linspace(0, 10, 4000, dtype=np.float32), "codes": np.arange(5), "none": np.zeros((0, 2))}
    noisy = training_side("sound").noisy(arrays, np.random.default_rng(0))

    assert set(noisy) == {"signal"}
    assert noisy["signal"].dtype == np.float32
    moved = (noisy["signal"] - arrays["signal"]).std()
    assert moved == pytest.approx(0.05 * arrays["signal"].std(), rel=0.05)
