"""The nested fit: patients on one side, absent modalities, and what is refused."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from consilium.configuration.recipe import ClosedFormRecipe
from consilium.domain.errors import TrainingError
from training.fitting.closed_form import nested
from training.fitting.closed_form.nested import fit_closed_form

QUICK = ClosedFormRecipe(strengths=(0.1, 1.0), folds=3)


def cohort(patients=60, per_patient=2, seed=0):
    rng = np.random.default_rng(seed)
    patient_ids = np.repeat([f"P{n}" for n in range(patients)], per_patient)
    state = np.repeat(rng.normal(size=patients), per_patient)
    labels = (state > 0).astype(float)[:, None]
    image = state[:, None] + rng.normal(size=(len(state), 30))
    values = 0.5 * state[:, None] + rng.normal(size=(len(state), 4))
    values[rng.random(len(state)) < 0.3] = np.nan
    return {"image": image, "observations": values}, labels, patient_ids


def fitted(features, labels, patient_ids, recipe=QUICK, exclusive=False):
    return fit_closed_form(features, labels, patient_ids, recipe, width=8, exclusive=exclusive, seed=0)


def test_it_learns_and_every_subset_has_an_answer():
    features, labels, patient_ids = cohort()
    model = fitted(features, labels, patient_ids)
    new, truth, _ = cohort(seed=1)
    assert roc_auc_score(truth, model(new)) > 0.9
    absent = {**new, "observations": np.full_like(new["observations"], np.nan)}
    assert model(absent) == pytest.approx(model({"image": new["image"]}))
    assert np.isfinite(model({name: np.full_like(one, np.nan) for name, one in new.items()})).all()


def test_no_patient_stands_on_two_sides(monkeypatch):
    features, labels, patient_ids = cohort()
    seen = []
    fit = nested.Projection.fit

    def watched(values, width, **options):
        seen.append(
            {patient_ids[row] for row in range(len(patient_ids)) if (values == features["image"][row]).all(1).any()}
        )
        return fit(values, width, **options)

    monkeypatch.setattr(nested.Projection, "fit", watched)
    fitted({"image": features["image"]}, labels, patient_ids)
    *folds, whole = seen
    assert len(folds) == 3
    assert whole == set(patient_ids)
    left_out = [whole - one for one in folds]
    assert set.union(*left_out) == whole
    assert sum(map(len, left_out)) == len(whole)


def test_out_of_fold_answers_of_pure_noise_know_nothing():
    _, labels, patient_ids = cohort(patients=100)
    noise = np.random.default_rng(3).normal(size=(len(labels), 200))
    model = fitted({"image": noise}, labels, patient_ids)
    inside = roc_auc_score(
        labels, noise @ (model.heads["image"].weight @ model.heads["image"].projection.components)[0]
    )
    assert roc_auc_score(labels, model.out_of_fold) < 0.65 < inside


def test_the_strongest_shrinkage_within_a_standard_error_is_taken():
    features, labels, patient_ids = cohort()
    noise = np.random.default_rng(3).normal(size=(len(labels), 50))
    recipe = ClosedFormRecipe(strengths=(0.001, 1.0, 1000.0), folds=3)
    model = fitted({"image": noise}, labels, patient_ids, recipe)
    assert model.strengths["image"] == 1000
    assert model.nll["image"][0.001] > model.nll["image"][1000.0]
    assert fitted(features, labels, patient_ids, recipe).strengths["image"] < 1000


def test_unknown_labels_and_exclusive_findings():
    features, labels, patient_ids = cohort()
    classes = np.eye(3)[(features["image"].mean(axis=1) > 0).astype(int) + (labels[:, 0] > 0)]
    classes[:5] = np.nan
    model = fitted(features, classes, patient_ids, exclusive=True)
    answers = np.exp(model(features))
    assert (answers / answers.sum(axis=1, keepdims=True)).shape == classes.shape
    labels[:10] = np.nan
    assert np.isfinite(expit(fitted(features, labels, patient_ids)(features))).all()


def test_studies_that_are_all_alike_are_refused_by_modality():
    features, labels, patient_ids = cohort()
    features["observations"][labels[:, 0] == 0] = np.nan
    with pytest.raises(
        TrainingError, match="no finding has both positive and negative training studies with observations"
    ):
        fitted(features, labels, patient_ids)


def test_fewer_patients_than_folds_are_refused():
    features, labels, patient_ids = cohort(patients=2, per_patient=10)
    with pytest.raises(TrainingError, match="2 patients"):
        fitted(features, labels, patient_ids)
