from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.modalities.registry import modality_names
from tests.training.cohorts.phantom.sampling import sample
from training.cohorts.phantom.evidence import GRADES, SPEAKS_FOR, TEXT_CHANNELS, VARIABLE_CHANNELS, load_evidence
from training.cohorts.phantom.state import FINDINGS, MEMBERS, PRESENT, State

ILL = State((True, False, False, False, True, False), 50, Sex.FEMALE)


def test_channel_means_add_up_what_is_present() -> None:
    model = load_evidence()
    alone = State((True, False, False, False, False, False), 50, Sex.FEMALE)
    scar = State((False, False, False, False, True, False), 50, Sex.FEMALE)
    both = model.image_means[ILL.index, 0]
    assert both == pytest.approx(model.image_means[alone.index, 0] + model.image_means[scar.index, 0])
    assert model.image_means[scar.index, 0] > 1
    assert model.observation_means[scar.index].tolist() == [0.0] * len(VARIABLE_CHANNELS)


def test_grade_probabilities_sum_to_one_and_grades_are_the_cut() -> None:
    model = load_evidence()
    everything = np.tile(np.arange(GRADES)[:, None], (1, len(TEXT_CHANNELS)))
    for channel in range(len(TEXT_CHANNELS)):
        grades = np.zeros_like(everything)
        grades[:, channel] = np.arange(GRADES)
        rest = np.zeros((1, len(TEXT_CHANNELS)), dtype=np.int64)
        relative = np.exp(model.text_log_likelihood(grades) - model.text_log_likelihood(rest))
        first = 0.5 * math.erfc((model.text_means[0, channel] - model.thresholds[channel, 0]) / math.sqrt(2))
        assert relative[:, 0].sum() == pytest.approx(1 / first)
    low, high = model.grades(np.full(len(TEXT_CHANNELS), -9.0)), model.grades(np.full(len(TEXT_CHANNELS), 9.0))
    assert set(low) == {0}
    assert set(high) == {GRADES - 1}


def test_likelihoods_are_the_gaussians() -> None:
    """Difference of log-likelihoods between two states against the textbook formula."""
    model, rng = load_evidence(), np.random.default_rng(0)
    x = rng.normal(size=(3, model.image_means.shape[1]))
    got = model.image_log_likelihood(x)
    want = -0.5 * ((x[:, None, :] - model.image_means[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(got - got[:, :1], want - want[:, :1], atol=1e-10)


def test_a_missing_value_says_only_that_it_is_missing() -> None:
    model = load_evidence()
    values = np.full((1, len(VARIABLE_CHANNELS)), 2.0)
    measured = np.ones_like(values, dtype=bool)
    measured[0, 0] = False
    with_other_value = values.copy()
    with_other_value[0, 0] = -7.0
    np.testing.assert_array_equal(
        model.observation_log_likelihood(values, measured), model.observation_log_likelihood(with_other_value, measured)
    )
    none = np.zeros_like(measured)
    ratio = model.observation_log_likelihood(values, none)
    carried = sum(SPEAKS_FOR[name] == FINDINGS[0] for name in VARIABLE_CHANNELS)
    healthy, ill = 0, int(np.flatnonzero(PRESENT @ (1 << np.arange(len(MEMBERS))) == 1)[0])
    assert ratio[0, ill] - ratio[0, healthy] == pytest.approx(carried * math.log(0.09 / 0.13))


def test_drawn_evidence_has_unit_variance_around_its_mean() -> None:
    model, rng = load_evidence(), np.random.default_rng(2)
    drawn = np.stack([model.draw(ILL, rng).image for _ in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), model.image_means[ILL.index], atol=0.1)
    np.testing.assert_allclose(drawn.std(axis=0), 1, atol=0.07)


def test_modalities_go_missing_at_their_rate_and_never_all() -> None:
    model, rng = (
        load_evidence(missing_modality={"image": 0.6, "text": 0.6, "observations": 0.6}),
        np.random.default_rng(3),
    )
    kept = [model.draw(ILL, rng).modalities for _ in range(2000)]
    assert min(len(modalities) for modalities in kept) == 1
    usual = load_evidence()
    kept = [usual.draw(ILL, rng).modalities for _ in range(3000)]
    missing = {m: 1 - np.mean([m in modalities for modalities in kept]) for m in modality_names()}
    assert missing["image"] == pytest.approx(0.06, abs=0.02)
    assert missing["text"] == pytest.approx(0.10, abs=0.025)


def test_pattern_of_missing_values_tells_little() -> None:
    state, witnesses = sample(40000, 5)
    pattern, labels = witnesses.measured.astype(float), PRESENT[state]
    for finding in range(len(FINDINGS)):
        fitted = LogisticRegression().fit(pattern[:20000], labels[:20000, finding])
        auroc = roc_auc_score(labels[20000:, finding], fitted.predict_proba(pattern[20000:])[:, 1])
        assert 0.505 < auroc < 0.56


@pytest.mark.parametrize("rates", [{"absent": 1.0}, {"absent": 0.0}, {"sometimes": 0.2}])
def test_bad_missing_rates_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(InputError, match="missing_value"):
        load_evidence(missing_value=rates)
