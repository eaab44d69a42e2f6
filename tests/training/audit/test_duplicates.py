"""Patients, images and notes that stand twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from consilium.modalities.image.image_record import Image
from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.text.note import Note, NoteKind
from tests.training.audit.made import made_cached, made_cohort
from tests.training.audit.made_notes import phantom_notes
from training.audit.duplicates import ACROSS, CONTRADICTING, WITHIN, find_duplicates
from training.audit.report import REMARK, SUSPECT, UNUSABLE
from training.data.cached_cohort import CachedCohort

STUDIES, SIDE = 60, 64


def _square(seed: int) -> npt.NDArray[np.uint16]:
    values = gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), 3)
    pixels = np.rint((values - values.min()) / np.ptp(values) * 60000).astype(np.uint16)
    return Letterbox(*pixels.shape, SIDE).forward(pixels)


def _with_images(seeds: list[int], brighter: frozenset[int] = frozenset(), **columns) -> CachedCohort:
    """Studies with one image each, drawn from `seeds`; `brighter` rows show theirs at another exposure."""
    labels = np.arange(len(seeds)) % 2
    cohort = made_cohort(columns.pop("labels", labels), patients=columns.pop("patients", None), **columns)
    squares, studies = {}, []
    for row, (record, seed) in enumerate(zip(cohort.records, seeds, strict=True)):
        digest = f"{seed}b" if row in brighter else str(seed)
        own = _square(seed)
        squares[digest] = own // 2 + 5000 if row in brighter else own
        image = Image(np.zeros((SIDE, SIDE), np.uint16), digest, "png")
        studies.append(record.study().with_parts(image=(image,)))
    return made_cached(cohort, studies, squares)


def _line(table: pd.DataFrame, record: str, likeness: str, relation: str) -> tuple[int, int, int, int]:
    [line] = table[(table.record == record) & (table.likeness == likeness) & (table.relation == relation)].itertuples()
    return line.groups, line.studies, line.patients, line.contradicting


def test_a_patient_in_two_splits_makes_a_cohort_unusable():
    split = ["train"] * 20 + ["test"] * 10
    patients = [*range(20), 0, 1, *range(20, 28)]
    cohort = made_cohort([0.0] * 20 + [1.0] + [0.0] * 9, patients=patients, split=split)
    tables, [concern] = find_duplicates(cohort)
    # Patient 0 has both labels, patient 1 has not.
    assert _line(tables["duplicates"], "patient", "the same", ACROSS) == (2, 4, 2, 1)
    assert (concern.grade, concern.kind) == (UNUSABLE, "split")
    assert "2 patients stand in more than one split, 4 studies" in concern.text
    assert find_duplicates(cohort, parts=["train"] * 30)[1] == []


def test_parts_name_every_record():
    with pytest.raises(ValueError, match="each of 3 records, got 2"):
        find_duplicates(made_cohort([0, 1, 0]), parts=["train", "test"])


def test_an_image_under_two_patients_is_found_in_any_exposure():
    seeds = [*range(STUDIES - 2), 0, 1]
    cached = _with_images(seeds, brighter=frozenset({STUDIES - 1}))
    tables, [concern] = find_duplicates(cached.cohort, cached)
    # Labels alternate: row 58 is as row 0, row 59 as row 1.
    assert _line(tables["duplicates"], "image", "the same", ACROSS) == (1, 2, 2, 0)
    assert _line(tables["duplicates"], "image", "nearly the same", ACROSS) == (1, 2, 2, 0)
    assert (concern.kind, concern.grade) == ("duplicate_image", SUSPECT)
    assert "2 images are shared by patients of different splits: 1 the same, 1 nearly so" in concern.text


def test_within_one_split_a_shared_image_is_a_remark():
    split = ["train"] * (STUDIES - 10) + ["test"] * 10
    seeds = list(range(STUDIES))
    seeds[1] = seeds[0]
    cached = _with_images(seeds, split=split)
    tables, [concern] = find_duplicates(cached.cohort, cached)
    assert _line(tables["duplicates"], "image", "the same", WITHIN) == (1, 2, 2, 1)
    assert concern.grade == REMARK
    assert "1 group with different labels" in concern.text


def test_one_patients_image_may_come_twice_but_not_with_two_labels():
    seeds = [*range(STUDIES - 1), 0]
    for label, expected in ((0.0, []), (1.0, ["repeated under one patient with different labels"])):
        patients = [*range(STUDIES - 1), 0]
        cached = _with_images(seeds, labels=[0.0] * (STUDIES - 1) + [label], patients=patients)
        tables, concerns = find_duplicates(cached.cohort, cached)
        assert [text in concern.text for text, concern in zip(expected, concerns, strict=True)] == [True] * len(
            expected
        )
        assert _line(tables["duplicates"], "image", "the same", CONTRADICTING)[0] == len(expected)


def test_blank_images_are_no_copies():
    cached = _with_images(list(range(STUDIES)))
    blank = Image(np.zeros((SIDE, SIDE), np.uint16), "blank", "png")
    studies = [study.with_parts(image=(blank,)) if row < 5 else study for row, study in enumerate(cached.studies)]
    squares = {image.digest: cached.array("image", image) for study in studies[5:] for image in study.parts["image"]}
    squares["blank"] = np.full((SIDE, SIDE), 300, np.uint16)
    cached = made_cached(cached.cohort, studies, squares)
    assert find_duplicates(cached.cohort, cached)[1] == []


def test_a_note_under_two_patients_is_found_and_stock_phrases_are_not():
    cohort = phantom_notes(400, seed=2)
    assert find_duplicates(cohort)[1] == []
    story = (
        "Fell from the third rung of a ladder while picking Bramley apples, landed on the left flank, walked home over"
        " the orchard, slept badly, noticed at breakfast that laughing hurt more than bending down to the dog. Takes"
        " nothing but cod liver oil, has never been in hospital, and would rather be at the village fair than here."
    )
    leaking = (Note(NoteKind.HISTORY, story),)
    # Row 5 is of the test split, row 1 of the training's.
    records = [
        replace(r, parts={**r.parts, "text": leaking}) if row in (1, 5) else r for row, r in enumerate(cohort.records)
    ]
    tables, [concern] = find_duplicates(replace(cohort, records=tuple(records)))
    assert _line(tables["duplicates"], "note", "the same", ACROSS)[:3] == (1, 2, 2)
    assert (concern.kind, concern.grade) == ("duplicate_note", SUSPECT)
    nearly = (Note(NoteKind.HISTORY, story.replace("Bramley", "Cox")),)
    records[5] = replace(records[5], parts={**records[5].parts, "text": nearly})
    tables, [concern] = find_duplicates(replace(cohort, records=tuple(records)))
    assert _line(tables["duplicates"], "note", "nearly the same", ACROSS)[:3] == (1, 2, 2)
