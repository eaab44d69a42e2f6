from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.image.records import read_image
from consilium.modalities.observations.records import read_observations
from consilium.modalities.text.note import NoteKind
from tests.consilium.tiny import THREE
from tests.training.evaluation.out_of_distribution.conftest import SIZE
from training.cohorts.cohort import Cohort
from training.cohorts.phantom.image.other_parts import draw_lateral, draw_limb
from training.cohorts.phantom.tables import table
from training.evaluation.out_of_distribution import Case, Kind, all_kinds
from training.evaluation.out_of_distribution import kinds as kind_table
from training.evaluation.out_of_distribution.renderer import PhantomRenderer
from training.modalities.image import odd_images
from training.modalities.observations.odd_values import MISTAKEN
from training.training_side import TrainingSide, training_sides

BY_NAME = {kind.name: kind for kind in all_kinds()}


@pytest.fixture(scope="module")
def cases(phantom: Cohort) -> list[Case]:
    """Studies with all modalities; their images have no pixels, as those of a cached cohort."""
    renderer = PhantomRenderer.of(phantom.root)
    found = []
    for record in phantom.records[:16]:
        if record.files["image"] and record.parts["text"] and record.parts["observations"]:
            images = [read_image(file.path.read_bytes()) for file in record.files["image"]]
            bare = [replace(image, pixels=np.broadcast_to(np.uint16(0), image.shape)) for image in images]
            found.append(Case(record, record.study({"image": bare}), renderer))
    assert len(found) >= 5
    return found


def _change(name: str, case: Case, seed: int = 0) -> Study:
    return BY_NAME[name].change(case, np.random.default_rng(seed))


def _own_pixels(case: Case) -> np.ndarray:
    return read_image(case.record.files["image"][0].path.read_bytes()).pixels


@pytest.mark.parametrize("name", BY_NAME)
def test_only_the_named_modality_changes_and_the_same_seed_changes_it_alike(name: str, cases: list[Case]) -> None:
    parts = {
        "image": lambda study: [image.digest for image in study.parts["image"]],
        "text": lambda study: [(note.kind, note.text) for note in study.parts["text"]],
        "observations": lambda study: [(o.code, o.value, o.implausible) for o in study.parts["observations"]],
    }
    changed = 0
    for case in cases:
        first, second = _change(name, case), _change(name, case)
        for modality, read in parts.items():
            assert read(first) == read(second)
            if modality is not BY_NAME[name].modality:
                assert read(first) == read(case.study)
        part = parts[BY_NAME[name].modality]
        changed += part(first) != part(case.study)
        assert (first.patient, first.reference_time) == (case.study.patient, case.study.reference_time)
        assert [image.acquired for image in first.parts["image"]] == [
            image.acquired for image in case.study.parts["image"]
        ]
    assert changed == len(cases)


def test_far_and_near_kinds_of_every_modality_are_there() -> None:
    for modality in THREE:
        own = [kind for kind in all_kinds() if kind.modality == modality]
        assert {kind.far for kind in own} == {True, False}
        assert [kind.far for kind in own] == sorted((kind.far for kind in own), reverse=True)
    assert len(BY_NAME) == len(all_kinds()) == 16


def test_inverted_and_rotated_images_are_the_studys_own(cases: list[Case]) -> None:
    for case in cases[:3]:
        own = _own_pixels(case)
        (inverted,) = _change("inverted", case).parts["image"]
        assert np.array_equal(inverted.pixels, 65535 - own)
        turned = [np.rot90(own, quarters) for quarters in range(4)]
        rotated = [_change("rotated", case, seed).parts["image"][0].pixels for seed in range(8)]
        assert {[np.array_equal(one, picture) for one in turned].index(True) for picture in rotated} == {1, 3}
        (exposed,) = _change("shifted exposure", case).parts["image"]
        assert np.corrcoef(exposed.pixels.ravel(), own.ravel())[0, 1] > 0.8


def test_photographs_differ_and_are_what_scikit_image_carries() -> None:
    shots = [odd_images.photograph(np.random.default_rng(seed), SIZE) for seed in range(12)]
    assert len({shot.shape for shot in shots}) > 6
    assert {shot.ndim for shot in shots} == {2, 3}, "grey and colour"
    for shot in shots:
        assert read_image(odd_images.as_png(shot)).pixels.std() > 2000


def test_a_lateral_view_says_that_it_is_one(cases: list[Case]) -> None:
    assert [image.view for image in _change("lateral view", cases[0]).parts["image"]] == [ViewPosition.LATERAL]


@pytest.mark.parametrize("draw", [draw_limb, draw_lateral])
def test_other_parts_are_films_of_their_own(draw, cases: list[Case]) -> None:
    first, again, other = (draw(np.random.default_rng(seed), SIZE) for seed in (1, 1, 2))
    assert first.dtype == np.uint16
    assert first.shape == (SIZE, SIZE)
    assert first.max() < 4096
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    own = _own_pixels(cases[0])
    assert abs(np.corrcoef(first.ravel(), own.ravel())[0, 1]) < 0.75


def test_a_limb_lies_in_air_and_a_thorax_from_the_side_has_its_spine_on_the_right() -> None:
    limb, side = draw_limb(np.random.default_rng(3), 128), draw_lateral(np.random.default_rng(3), 128)
    assert (limb < 200).mean() > 0.6
    middle = side[40:80].mean(axis=0)
    assert middle[90:100].max() > middle[50:80].max()


def test_another_device_shows_the_same_patient(cases: list[Case]) -> None:
    for case in cases[:3]:
        assert case.renderer is not None
        own = _own_pixels(case)
        usual = case.renderer.render("image", case.study.study_id)
        assert usual is not None
        assert np.corrcoef(usual.pixels.ravel(), own.ravel())[0, 1] > 0.999, "the renderer draws what the cohort holds"
        (other,) = _change("other device", case).parts["image"]
        assert 0.8 < np.corrcoef(other.pixels.ravel(), own.ravel())[0, 1] < 0.999


def test_held_out_phrases_are_those_that_no_ordinary_note_has(cases: list[Case]) -> None:
    banks = table("phrases").values()
    held_out = {phrase for bank in banks for grade in bank for phrase in grade[-2:]}
    usual = {phrase for bank in banks for grade in bank for phrase in grade[:-2]} - held_out

    def occurrences(study: Study, phrases: set[str]) -> int:
        text = " ".join(
            n.text for n in study.parts["text"] if n.kind in (NoteKind.HISTORY, NoteKind.INDICATION)
        ).lower()
        return sum(phrase.lower() in text for phrase in phrases)

    before, after = (sum(occurrences(study, held_out) for study in studies) for studies in _before_and_after(cases))
    assert after > before + len(cases)
    before, after = (sum(occurrences(study, usual) for study in studies) for studies in _before_and_after(cases))
    assert before > after + len(cases)


def _before_and_after(cases: list[Case]) -> tuple[list[Study], list[Study]]:
    return [case.study for case in cases], [_change("held-out phrases", case) for case in cases]


def test_shuffled_notes_have_the_same_words(cases: list[Case]) -> None:
    for case in cases:
        for before, after in zip(case.study.parts["text"], _change("shuffled words", case).parts["text"], strict=True):
            assert Counter(after.text.split()) == Counter(before.text.split())
            assert len(before.text.split()) < 4 or after.text != before.text


def test_empty_notes_say_nothing_and_foreign_ones_much(cases: list[Case]) -> None:
    languages = set()
    for seed, case in enumerate(cases):
        assert all(len(note.text.split()) <= 2 for note in _change("empty note", case, seed).parts["text"])
        for note in _change("foreign language", case, seed).parts["text"]:
            assert len(note.text.split()) > 15
            languages.add("Patient" in note.text or " der " in note.text or " mit " in note.text)
    assert languages == {True, False}


def test_impossible_values_are_not_read(cases: list[Case]) -> None:
    values = [o for case in cases for o in _change("impossible values", case).parts["observations"]]
    assert np.mean([o.implausible for o in values]) > 0.8


def test_mixed_units_move_every_value_that_has_two_by_their_factor(cases: list[Case]) -> None:
    for case in cases:
        before = case.study.parts["observations"]
        after = _change("mixed units", case).parts["observations"]
        powers = set()
        for old, new in zip(before, after, strict=True):
            ratio = new.given_value / old.given_value
            if old.variable in MISTAKEN:
                powers.add(round(np.log(ratio) / np.log(MISTAKEN[old.variable]), 6))
            else:
                assert ratio == 1
        assert powers in ({1.0}, {-1.0})


def test_one_mixed_unit_is_one(cases: list[Case]) -> None:
    for case in cases:
        after = _change("one mixed unit", case).parts["observations"]
        moved = [
            new.variable
            for old, new in zip(case.study.parts["observations"], after, strict=True)
            if old.value != new.value
        ]
        assert len(moved) == 1
        assert moved[0] in MISTAKEN


def test_mistaken_units_are_of_variables_that_exist() -> None:
    assert set(MISTAKEN) <= set(BUILT_IN)
    creatinine = [{"code": "2160-0", "value": 1.0, "unit": "mg/dL"}]
    assert read_observations(creatinine)[0][0].value == pytest.approx(MISTAKEN["creatinine"], rel=0.001)


class SoundSide(TrainingSide):
    """Of a modality of this test alone."""

    def out_of_distribution_kinds(self) -> tuple[Kind, ...]:
        return SOUND_KINDS


def test_another_modality_brings_kinds_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = [*training_sides(), SoundSide("sound")]
    monkeypatch.setattr(kind_table, "training_sides", lambda: iter(sides))
    monkeypatch.setattr(kind_table, "modality_names", lambda: (*THREE, "sound"))
    found = kind_table.all_kinds.__wrapped__()
    assert [kind.name for kind in found[-2:]] == ["silence", "faint"]
    assert found[:-2] == all_kinds()
    monkeypatch.setattr(kind_table, "training_sides", lambda: iter([*sides, SoundSide("sound")]))
    with pytest.raises(ValueError, match="have the same name"):
        kind_table.all_kinds.__wrapped__()


SOUND_KINDS = (
    Kind("faint", "sound", False, lambda case, rng: case.study),
    Kind("silence", "sound", True, lambda case, rng: case.study),
)
