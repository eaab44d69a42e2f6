from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from consilium.artifacts.reference_studies import ReferenceStudy
from consilium.domain.errors import TrainingError
from consilium.domain.study import Patient
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.text.note import NoteKind
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import TEXT, tiny_preprocessing, tiny_recipe, tiny_study
from training.pipeline import reference_studies as module
from training.pipeline.reference_studies import LEAST, reference_studies
from training.pipeline.train import train


def subsets(preprocessing: Preprocessing, studies: tuple[ReferenceStudy, ...]) -> Counter[str]:
    return Counter(subset_key(preprocessing.prepare(study.study()).present) for study in studies)


@pytest.mark.parametrize("modalities", [["image", "text", "observations"], ["image", "text"], ["observations"]])
def test_every_subset_of_the_models_modalities_occurs_equally_often(modalities: list[str]) -> None:
    preprocessing = tiny_preprocessing(tiny_recipe(modalities=modalities))
    studies = reference_studies(preprocessing)
    found = subsets(preprocessing, studies)
    assert set(found) == {subset_key(subset) for subset in nonempty_subsets(modalities)}
    assert len(set(found.values())) == 1
    assert LEAST <= len(studies) < LEAST + len(found)


def test_one_and_two_views_and_missing_values_occur() -> None:
    studies = reference_studies(tiny_preprocessing(tiny_recipe()))
    assert {len(study.files.get("images", ())) for study in studies} == {0, 1, 2}
    asked = [study.request for study in studies if study.request.observations]
    assert {request.patient is None or request.patient.age is None for request in asked} == {True, False}
    assert len({o.value for request in asked for o in request.observations}) > len(asked) // 2


def test_notes_are_of_the_kinds_that_the_model_reads() -> None:
    studies = reference_studies(tiny_preprocessing(tiny_recipe(text={**TEXT, "note_kinds": ["history"]})))
    found = {note.kind for study in studies for note in study.request.notes}
    assert found == {NoteKind.HISTORY}


def test_nothing_of_them_is_refused_left_out_or_implausible() -> None:
    preprocessing = tiny_preprocessing(tiny_recipe(text={"width": 16, "depth": 1, "heads": 2, "vocabulary": 200}))
    for study in reference_studies(preprocessing):
        warnings = preprocessing.prepare(study.study()).warnings
        assert [warning for warning in warnings if "view position" not in warning and "cut off" not in warning] == []


def test_a_model_of_age_and_sex_alone_is_asked_too() -> None:
    recipe = tiny_recipe(modalities=["observations"])
    patients = [tiny_study(number).with_parts(observations=()) for number in range(30)]
    preprocessing = Preprocessing.fit(recipe, patients)
    assert {feature.name for feature in preprocessing.preparations["observations"].features} == {"age", "sex"}
    studies = reference_studies(preprocessing)
    assert set(subsets(preprocessing, studies)) == {"observations"}
    assert all(study.study().patient != Patient() for study in studies)


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (reference_studies(tiny_preprocessing(tiny_recipe())) for _ in range(2))
    assert first == second


def test_a_recipe_that_no_phantom_renders_is_refused_before_its_cohort_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "phantom_modalities", lambda: {"text": None})

    with pytest.raises(TrainingError, match="no phantom renders image or observations"):
        train(tiny_recipe(modalities=["image", "observations"]), tmp_path / "nowhere")
