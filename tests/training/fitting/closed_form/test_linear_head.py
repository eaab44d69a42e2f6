"""Projection and head of one modality, against scikit-learn on the same data."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.fitting.closed_form.linear_head import LinearHead, Projection, prior_log_odds


def data(studies=60, features=12, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 2, (studies, features))
    labels = (values[:, :2] + rng.normal(size=(studies, 2)) > 3).astype(float)
    return values, labels


def head(values, labels, width=5, strength=0.5, exclusive=False):
    projection = Projection.fit(values, width)
    return LinearHead.fit(projection, projection(values), labels, strength, exclusive=exclusive)


def test_projection_is_that_of_scaler_and_principal_components():
    values, _ = data()
    expected = make_pipeline(StandardScaler(), PCA(5, svd_solver="full")).fit_transform(values)
    assert Projection.fit(values, 5)(values) == pytest.approx(expected / np.sqrt(12))


def test_all_components_give_studies_of_unit_mean_square():
    values, _ = data()
    assert (Projection.fit(values, 12)(values) ** 2).sum(axis=1).mean() == pytest.approx(1)


def test_logits_equal_those_of_a_scikit_learn_pipeline():
    values, labels = data()
    others, _ = data(seed=1)
    fitted = head(values, labels, width=12, strength=0.5)
    # Components shorter by 1 / sqrt(K) are the same as a penalty K times as strong.
    penalty = LogisticRegression(C=1 / (0.5 * 12), max_iter=5000, tol=1e-8)
    for column in range(2):
        expected = make_pipeline(StandardScaler(), penalty).fit(values, labels[:, column])
        assert fitted(others)[:, column] == pytest.approx(expected.decision_function(others), abs=1e-3)


def test_exclusive_logits_give_the_probabilities_of_a_softmax_regression():
    values, labels = data(features=4)
    classes = (labels[:, 0] + labels[:, 1]).astype(int)
    fitted = head(values, np.eye(3)[classes], width=4, strength=0.5, exclusive=True)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (0.5 * 4), max_iter=5000, tol=1e-8)).fit(
        values, classes
    )
    logits = fitted(values)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert probabilities == pytest.approx(expected.predict_proba(values), abs=1e-3)


def test_two_exclusive_classes_of_three_keep_their_odds():
    values, labels = data(features=4)
    classes = labels[:, 0].astype(int)
    fitted = head(values, np.eye(3)[classes], width=4, exclusive=True)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (0.5 * 4), max_iter=5000, tol=1e-8)).fit(
        values, classes
    )
    logits = fitted(values)
    assert logits[:, 1] - logits[:, 0] == pytest.approx(expected.decision_function(values), abs=1e-3)
    assert (logits[:, 2] < logits[:, :2].max(axis=1)).all()


def test_contributions_of_features_add_up_to_the_logit():
    values, labels = data()
    fitted = head(values, labels)
    each = fitted.weight @ fitted.projection.components / fitted.projection.scale
    contributions = (values - fitted.projection.mean)[:, None] * each
    assert contributions.sum(axis=2) + fitted.bias == pytest.approx(fitted(values))


def test_a_constant_feature_weighs_nothing_whatever_it_is_later():
    values, labels = data()
    values[:, 3] = 0.1
    fitted = head(values, labels, width=12)
    changed = values.copy()
    changed[:, 3] = 1e6
    assert fitted(changed) == pytest.approx(fitted(values))


def test_unknown_labels_are_left_out_of_their_finding_alone():
    values, labels = data()
    labels[:20, 1] = np.nan
    fitted = head(values, labels)
    projected = fitted.projection(values)
    expected = LogisticRegression(C=2, max_iter=5000, tol=1e-8).fit(projected[20:], labels[20:, 1])
    assert fitted.weight[1] == pytest.approx(expected.coef_[0], abs=1e-3)
    assert fitted.prior[1] == pytest.approx(prior_log_odds(labels[20:, 1:], exclusive=False)[0])


def test_a_finding_of_one_class_has_its_prior_for_a_logit():
    values, labels = data()
    labels[:, 0] = 1
    fitted = head(values, labels)
    assert fitted(values)[:, 0] == pytest.approx(np.log(60.5 / 0.5))


def test_features_of_one_scale_keep_their_proportions():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3)) * [1.0, 0.1, 0.0]
    projection = Projection.fit(values, 3, one_scale=True)
    projected = projection(values)
    assert (projected**2).sum(axis=1).mean() == pytest.approx(1)
    apart = np.linalg.norm(values[:1] - values[1:], axis=1)
    shrunk = np.linalg.norm(projected[:1] - projected[1:], axis=1) / apart
    assert shrunk == pytest.approx(np.full(39, shrunk[0]))
