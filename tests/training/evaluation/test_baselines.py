from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium.configuration.modality_sections import Scope
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient, Window
from consilium.domain.variables import BUILT_IN
from consilium.modalities.image.image_record import Image
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.note import Note, NoteKind
from consilium.modalities.text.section import TextSection
from tests.training.audit.made import made_cached
from training.cohorts.cohort import Cohort, StudyRecord
from training.cohorts.splits import folds
from training.evaluation.baselines import baseline_names, baseline_predictions

HISTORY = NoteKind.HISTORY


def observation(value, time=None):
    return Observation("crp", BUILT_IN["crp"].code, value, value, "mg/L", time)


def make_cohort(labels, *, notes=None, observations=None, exclusive=False, reference_time=None, patients=None):
    labels = np.asarray(labels, np.float32).reshape(len(labels), -1)
    findings = FindingSet(tuple(Finding(f"finding_{i}", f"Finding {i}") for i in range(labels.shape[1])), exclusive)
    records = tuple(
        StudyRecord(
            f"s{i}",
            f"p{i if patients is None else patients[i]}",
            row,
            parts={
                "text": notes[i] if notes else (),
                "observations": observations[i] if observations else (),
            },
            patient=Patient(50.0),
            reference_time=reference_time,
        )
        for i, row in enumerate(labels)
    )
    return Cohort("made", findings, records, Path(), "digest")


def cached(cohort, images=None, has_image=None):
    """`cohort` with one of `images`, float [N, S, S] from 0 to 1, for each study that `has_image`; else without."""
    has_image = np.zeros(len(cohort), bool) if has_image is None else has_image
    rows = np.flatnonzero(has_image).tolist()
    squares = {str(row): np.rint(images[row].clip(0, 1) * 65535).astype(np.uint16) for row in rows}
    seen = {row: (Image(squares[str(row)], str(row), "png"),) for row in rows}
    studies = [record.study({"image": seen.get(row, ())}) for row, record in enumerate(cohort.records)]
    return made_cached(cohort, studies, squares)


def auroc(cohort, predicted, column=0):
    known = ~np.isnan(predicted[:, column]) & ~np.isnan(cohort.labels[:, column])
    return roc_auc_score(cohort.labels[known, column], predicted[known, column])


def stripes(labels, rng):
    """Vertical stripes where the finding is there, horizontal ones where it is not."""
    wave = np.sin(np.arange(32) * 0.8) * 0.2 + 0.5
    images = np.stack([np.tile(wave, (32, 1)) if label == 1 else np.tile(wave[:, None], (1, 32)) for label in labels])
    return (images + rng.normal(0, 0.05, images.shape)).astype(np.float32)


def test_each_baseline_reads_its_own_modality_alone():
    rng = np.random.default_rng(0)
    by_value, by_word, by_image = (rng.integers(0, 2, 120) for _ in range(3))
    cohort = make_cohort(
        np.column_stack([by_value, by_word, by_image]),
        notes=[(Note(HISTORY, f"cough and {'fever' if word else 'pain'}"),) for word in by_word],
        observations=[(observation(100 * high + rng.normal(10, 3)),) for high in by_value],
    )
    has_image = np.ones(120, bool)
    predicted = baseline_predictions(cached(cohort, stripes(by_image, rng), has_image), folds(cohort, 4, 0))
    assert tuple(predicted) == baseline_names()
    expected = {"values_gradient_boosting": 0, "note_tfidf": 1, "image_hog": 2}
    for name, own in expected.items():
        assert predicted[name].shape == (120, 3)
        for column in range(3):
            score = auroc(cohort, predicted[name], column)
            assert score > 0.95 if column == own else score < 0.75
    assert auroc(cohort, predicted["average"], 0) > 0.95
    assert auroc(cohort, predicted["average"], 2) > 0.95
    assert auroc(cohort, predicted["average"], 1) < 0.75


def test_absent_modalities_give_nan_and_the_average_goes_on_with_what_is_there():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 80)
    has_image, has_note = rng.random(80) < 0.6, rng.random(80) < 0.5
    cohort = make_cohort(
        labels,
        notes=[
            (Note(HISTORY, "fever" if label else "pain"),) if there else ()
            for label, there in zip(labels, has_note, strict=True)
        ],
        observations=[(observation(50.0 * label),) for label in labels],
    )
    images = stripes(labels, rng)
    images[~has_image] = np.nan
    predicted = baseline_predictions(cached(cohort, images, has_image), folds(cohort, 4, 0))
    assert np.array_equal(~np.isnan(predicted["image_hog"][:, 0]), has_image)
    assert np.array_equal(~np.isnan(predicted["note_tfidf"][:, 0]), has_note)
    for name in ("values_gradient_boosting", "average"):
        assert not np.isnan(predicted[name]).any()
        assert auroc(cohort, predicted[name]) > 0.95


def test_noise_stays_noise_when_patients_are_kept_together():
    """Images identify the patient, not the finding: a method that saw the test patients would do better than chance."""
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 4)
    labels = rng.integers(0, 2, 40)[patients]
    cohort = make_cohort(labels, patients=patients)
    images = rng.random((40, 32, 32))[patients].astype(np.float32)
    predicted = baseline_predictions(cached(cohort, images, np.ones(160, bool)), folds(cohort, 5, 0))
    assert auroc(cohort, predicted["image_hog"]) < 0.72


def test_a_cohort_without_any_value_is_predicted_by_its_notes_alone():
    labels = np.tile([0, 1, 1], 20)
    cohort = make_cohort(labels, notes=[(Note(HISTORY, "fever" if label else "pain"),) for label in labels])
    bare = replace(cohort, records=tuple(replace(record, patient=Patient()) for record in cohort.records))
    predicted = baseline_predictions(cached(bare), folds(bare, 4, 0))
    assert np.allclose(predicted["values_gradient_boosting"], 2 / 3, atol=0.05)
    assert auroc(bare, predicted["note_tfidf"]) == 1


def test_exclusive_findings_share_one_distribution():
    rng = np.random.default_rng(3)
    classes = np.tile(np.arange(3), 40)
    cohort = make_cohort(
        np.eye(3)[classes], observations=[(observation(40.0 * c + rng.normal(5, 1)),) for c in classes], exclusive=True
    )
    images = rng.random((120, 32, 32)).astype(np.float32)
    predicted = baseline_predictions(cached(cohort, images, np.ones(120, bool)), folds(cohort, 4, 0))
    for name in ("values_gradient_boosting", "image_hog", "average"):
        assert np.allclose(predicted[name].sum(axis=1), 1)
    assert (predicted["values_gradient_boosting"].argmax(axis=1) == classes).mean() > 0.95
    assert (predicted["average"].argmax(axis=1) == classes).mean() > 0.95


def test_unknown_labels_teach_nothing_and_are_predicted():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 100).astype(np.float32)
    values = 50 * labels + rng.normal(10, 2, 100)
    labels[::5] = np.nan
    cohort = make_cohort(labels, observations=[(observation(value),) for value in values])
    predicted = baseline_predictions(cached(cohort), folds(cohort, 4, 0))
    assert not np.isnan(predicted["values_gradient_boosting"]).any()
    assert roc_auc_score(values[::5] > 35, predicted["values_gradient_boosting"][::5, 0]) > 0.95
    assert np.isnan(predicted["image_hog"]).all()


def test_records_a_model_may_not_read_are_not_read():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 100)
    reference, later = datetime(2020, 3, 1, 10, tzinfo=UTC), datetime(2020, 3, 1, 12, tzinfo=UTC)
    cohort = make_cohort(
        labels,
        notes=[(Note(NoteKind.IMPRESSION, "fever" if label else "pain"),) for label in labels],
        observations=[(observation(100.0 * label, later),) for label in labels],
        reference_time=reference,
    )
    arguments = (cached(cohort), folds(cohort, 4, 0))
    closed = baseline_predictions(*arguments)
    assert np.isnan(closed["note_tfidf"]).all()
    assert auroc(cohort, closed["values_gradient_boosting"]) < 0.6
    scope = Scope(Window(after_hours=4), {"text": TextSection(note_kinds=(NoteKind.IMPRESSION,))})
    opened = baseline_predictions(*arguments, inputs=scope)
    assert auroc(cohort, opened["note_tfidf"]) > 0.95
    assert auroc(cohort, opened["values_gradient_boosting"]) > 0.95


def test_the_latest_plausible_value_stands():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, 100)
    early, late = datetime(2020, 3, 1, 8, tzinfo=UTC), datetime(2020, 3, 1, 9, tzinfo=UTC)
    slip = Observation(
        "crp", BUILT_IN["crp"].code, 1e6, 1e6, "mg/L", datetime(2020, 3, 1, 10, tzinfo=UTC), implausible=True
    )
    observations = [
        (observation(80.0 * label + 5, late), observation(rng.normal(40, 9), early), slip) for label in labels
    ]
    cohort = make_cohort(labels, observations=observations)
    predicted = baseline_predictions(cached(cohort), folds(cohort, 4, 0))
    assert auroc(cohort, predicted["values_gradient_boosting"]) == pytest.approx(1.0)
