from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.domain.errors import ArtifactError, InputError
from consilium.domain.study import Patient, Sex, Study
from consilium.formats.dicom.origin import Origin
from consilium.masking import PLACEHOLDERS
from consilium.modalities.image.origins import Origins
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.explanation import words_of
from consilium.modalities.text.note import Note, NoteKind
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import (
    ALL,
    NOON,
    TEXT,
    THREE,
    numbers_of,
    pieces_of,
    squares_of,
    tiny_preprocessing,
    tiny_recipe,
    tiny_study,
)


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return tiny_preprocessing(tiny_recipe())


def test_absent_modalities_have_no_mask_and_no_value(preprocessing: Preprocessing) -> None:
    items = [preprocessing.prepare(tiny_study(1, ALL - {m})) for m in THREE]
    batch = preprocessing.collate(items)
    for row, modality in enumerate(THREE):
        assert items[row].present == ALL - {modality}
        for other in THREE:
            assert bool(batch.present(other)[row]) == (other != modality)
    assert not batch.inputs["image"]["images"][0].any()
    assert not batch.inputs["observations"]["numbers"][2].any()


def test_values_are_standardised_and_missing_ones_masked(preprocessing: Preprocessing) -> None:
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(n)) for n in range(30)])
    assert [f.name for f in preprocessing.preparations["observations"].features] == ["age", "sex", "crp"]
    assert batch.inputs["observations"]["numbers"].mean(0).abs().max() < 1e-5
    assert batch.inputs["observations"]["numbers"].std(0, correction=0) == pytest.approx(torch.ones(3), abs=1e-4)
    alone = preprocessing.prepare(
        Study({"observations": tiny_study(1).parts["observations"]}, patient=Patient(None, Sex.OTHER))
    )
    assert preprocessing.collate([alone]).inputs["observations"]["mask"].tolist() == [[False, False, True]]


def test_the_latest_plausible_observation_is_read(preprocessing: Preprocessing) -> None:
    def crp(value: float, hours: float | None, implausible: bool = False) -> Observation:
        time = None if hours is None else NOON + timedelta(hours=hours)
        return Observation("crp", "1988-5", value, value, "mg/L", time, implausible)

    values = (crp(5, None), crp(10, -3), crp(20, -2), crp(40, -1, implausible=True), crp(80, 1))
    study = tiny_study(1).with_parts(observations=values)
    prepared = preprocessing.prepare(study)
    course = prepared.parts["observations"].read[2]
    assert course is not None
    assert course.last is values[2]
    assert course.before is values[1]
    assert any("observation (crp) left out: recorded after" in warning for warning in prepared.warnings)


def test_notes_of_other_kinds_are_left_out_and_pieces_count_notes_as_sent(preprocessing: Preprocessing) -> None:
    notes = (Note(NoteKind.IMPRESSION, "fever"), Note(NoteKind.HISTORY, "cough fever"))
    prepared = preprocessing.prepare(tiny_study(1).with_parts(text=notes))
    read = [notes[p.note].text[p.start : p.end] for p in prepared.parts["text"].pieces if p is not None]
    assert "".join(read) == "coughfever"
    assert {p.note for p in prepared.parts["text"].pieces if p is not None} == {1}
    assert any("impression" in warning for warning in prepared.warnings)


SENT = "Mr Doe coughs since 12.03.2020, fever. Roe 0012345"
READ = "Mr [name] coughs since [date], fever. [name] [id]"


def named_study(text: str) -> Study:
    (image, *_) = tiny_study(1).parts["image"]
    return replace(
        tiny_study(1).with_parts(
            image=(replace(image, names=("Roe^Jane", "0012345")),), text=(Note(NoteKind.HISTORY, text),)
        ),
        names=("Doe",),
    )


def test_a_note_is_masked_by_what_is_known_and_pieces_stay_where_they_were_sent(preprocessing: Preprocessing) -> None:
    sent, read = preprocessing.prepare(named_study(SENT)), preprocessing.prepare(named_study(READ))
    assert pieces_of(sent) == pieces_of(read)
    assert sent.study.parts["text"][0].text == SENT
    pieces = [SENT[piece.start : piece.end] for piece in sent.parts["text"].pieces if piece is not None]
    for original in ("Doe", "12.03.2020", "Roe", "0012345"):
        assert pieces.count(original) == 1
    words = {
        word.text: SENT[word.start : word.end] for word, _ in words_of(sent.parts["text"], sent.study.parts["text"])
    }
    assert words == {
        **{word: word for word in ("Mr", "coughs", "since", "fever")},
        "[name]": "Roe",
        "[date]": "12.03.2020",
        "[id]": "0012345",
    }


def test_masking_can_be_switched_off_for_training_and_service_alike() -> None:
    unmasked = tiny_preprocessing(tiny_recipe(text={**TEXT, "mask_notes": False}))
    sent, read = unmasked.prepare(named_study(SENT)), unmasked.prepare(named_study(READ))
    assert pieces_of(sent) != pieces_of(read)
    assert not any(sent.parts["text"].masked.values())


def test_notes_are_fitted_as_they_are_read() -> None:
    studies = [tiny_study(n).with_parts(text=(Note(NoteKind.HISTORY, "fever Mr Quux"),)) for n in range(40)]
    fitted = Preprocessing.fit(tiny_recipe(), studies)
    vocabulary = fitted.preparations["text"].tokenizer.get_vocab()
    assert set(PLACEHOLDERS) <= set(vocabulary)
    assert "fever" in vocabulary
    assert "quux" not in vocabulary
    assert fitted.preparations["text"].tokenizer.tokenize("Mr [name] fever") == ["mr", "[name]", "fever"]


def test_an_artifact_of_other_masking_rules_is_refused(
    preprocessing: Preprocessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing.save(tmp_path / "p")
    loaded = Preprocessing.load(tmp_path / "p", preprocessing.recipe)
    assert loaded.preparations["text"].tokenizer.tokenize("[id]") == ["[id]"]
    monkeypatch.setattr("consilium.masking.VERSION", 0)
    with pytest.raises(ArtifactError, match="preparation of text masking"):
        Preprocessing.load(tmp_path / "p", preprocessing.recipe)


def test_long_notes_are_cut_off_with_a_warning(preprocessing: Preprocessing) -> None:
    study = tiny_study(1).with_parts(text=(Note(NoteKind.HISTORY, "fever " * 100),))
    prepared = preprocessing.prepare(study)
    assert len(pieces_of(prepared)) == 32
    assert any("cut off" in warning for warning in prepared.warnings)


def test_an_unread_variable_is_named(preprocessing: Preprocessing) -> None:
    sodium = Observation("sodium", "2951-2", 140, 140, "mmol/L", NOON)
    prepared = preprocessing.prepare(tiny_study(1).with_parts(observations=(sodium,)))
    assert "observation not read by this model: Sodium" in prepared.warnings


def test_a_study_with_nothing_to_read_is_refused(preprocessing: Preprocessing) -> None:
    with pytest.raises(InputError, match="must have image or text or observations"):
        preprocessing.prepare(Study({"text": (Note(NoteKind.IMPRESSION, "fever"),)}))


def test_padding_does_not_reach_the_shorter_study(preprocessing: Preprocessing) -> None:
    short = preprocessing.prepare(tiny_study(1).with_parts(text=(Note(NoteKind.HISTORY, "fever"),)))
    long = preprocessing.prepare(tiny_study(2))
    alone, together = preprocessing.collate([short]), preprocessing.collate([short, long])
    short_mask, mask = (batch.inputs["text"]["mask"] for batch in (alone, together))
    width = short_mask.shape[1]
    assert mask[0, :width].tolist() == short_mask[0].tolist()
    assert not mask[0, width:].any()


def test_images_given_beforehand_are_taken(preprocessing: Preprocessing) -> None:
    study = tiny_study(3)
    cached = preprocessing.preparations["image"].convert(study.parts["image"][0])
    stand_in = replace(study.parts["image"][0], pixels=np.broadcast_to(np.uint16(0), study.parts["image"][0].shape))
    prepared = preprocessing.prepare(study.with_parts(image=(stand_in,)), {"image": [cached]})
    assert (squares_of(prepared) == squares_of(preprocessing.prepare(study))).all()


def test_save_and_load_prepare_the_same(preprocessing: Preprocessing, tmp_path: Path) -> None:
    preprocessing.save(tmp_path / "p")
    loaded = Preprocessing.load(tmp_path / "p", preprocessing.recipe)
    assert loaded.digest == preprocessing.digest
    first, second = (p.prepare(tiny_study(5)) for p in (preprocessing, loaded))
    assert pieces_of(first) == pieces_of(second)
    assert np.array_equal(numbers_of(first), numbers_of(second))


def test_a_text_model_that_is_not_there_is_refused() -> None:
    recipe = tiny_recipe(text={"model": "/absent/model"})
    with pytest.raises(InputError, match=r"modalities\.text\.model"):
        Preprocessing.fit(recipe, [tiny_study(n) for n in range(12)])


def test_what_files_say_of_themselves_is_learned_kept_and_held_against_others(tmp_path: Path) -> None:
    recipe = tiny_recipe()

    def study(number: int, origin: Origin, patient: Patient | None = None) -> Study:
        made = tiny_study(number)
        return made.with_parts(image=(replace(made.parts["image"][0], origin=origin, patient=patient or Patient()),))

    chest = Origin("DX", "CHEST")
    fitted = Preprocessing.fit(recipe, [study(number, chest) for number in range(30)])
    assert fitted.preparations["image"].origins == Origins(30, {"DX": 30}, {"CHEST": 30})
    fitted.save(tmp_path / "preprocessing")
    loaded = Preprocessing.load(tmp_path / "preprocessing", recipe)
    assert loaded.preparations["image"].origins == fitted.preparations["image"].origins
    assert loaded.digest == fitted.digest
    plain = Preprocessing.fit(recipe, [tiny_study(number) for number in range(30)])
    assert plain.digest != fitted.digest

    ordinary = loaded.prepare(study(1, chest))
    assert ordinary.parts["image"].unknown_origin == ()
    odd = loaded.prepare(study(1, Origin("CT", "KNEE"), Patient(90, Sex.MALE)))
    assert [warning for warning in odd.warnings if warning not in ordinary.warnings] == [
        "images[0] gives the patient's age as 90, the record as 21",
        "images[0] gives the patient's sex as M, the record as F",
        "images[0]: modality CT; this model was trained on DX",
        "images[0]: body part KNEE; this model was trained on CHEST",
    ]
    assert odd.parts["image"].unknown_origin == odd.warnings[-2:]


def test_the_letterbox_of_pixels_that_were_not_square_leads_back_to_the_files_grid() -> None:
    recipe = tiny_recipe()
    preprocessing = tiny_preprocessing(recipe)
    study = tiny_study(1)
    squeezed = study.with_parts(image=(replace(study.parts["image"][0], grid=(48, 128)),))
    (box,) = preprocessing.prepare(squeezed).parts["image"].letterboxes
    assert box.inner == (96, 128)
    assert box.backward(np.zeros((16, 16), np.float32)).shape == (48, 128)
