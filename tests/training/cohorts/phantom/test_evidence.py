from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from tests.training.cohorts.phantom.sampling import sample
from training.cohorts.phantom.evidence import load_evidence
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.observations.phantom import ObservationsPhantom
from training.cohorts.phantom.observations.values import SPEAKS_FOR, VARIABLE_CHANNELS
from training.cohorts.phantom.record import Shift
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES, checked_modalities
from training.cohorts.phantom.state import FINDINGS, MEMBERS, PRESENT, State, load_states
from training.cohorts.phantom.text.note import GRADES, ORDINARY, TEXT_CHANNELS
from training.cohorts.phantom.text.phantom import TextPhantom

ILL = State((True, False, False, False, True, False), 50, Sex.FEMALE)


def test_channel_means_add_up_what_is_present() -> None:
    means = ImagePhantom().means
    alone = State((True, False, False, False, False, False), 50, Sex.FEMALE)
    scar = State((False, False, False, False, True, False), 50, Sex.FEMALE)
    assert means[ILL.index, 0] == pytest.approx(means[alone.index, 0] + means[scar.index, 0])
    assert means[scar.index, 0] > 1
    assert ObservationsPhantom().means[scar.index].tolist() == [0.0] * len(VARIABLE_CHANNELS)


def test_grade_probabilities_sum_to_one_and_grades_are_the_cut() -> None:
    phantom, states = TextPhantom(), load_states()
    everything = np.tile(np.arange(GRADES)[:, None], (1, len(TEXT_CHANNELS)))
    for channel in range(len(TEXT_CHANNELS)):
        grades = np.zeros_like(everything)
        grades[:, channel] = np.arange(GRADES)
        rest = np.zeros((1, len(TEXT_CHANNELS)), dtype=np.int64)
        relative = np.exp(phantom.log_likelihood(grades, states) - phantom.log_likelihood(rest, states))
        first = 0.5 * math.erfc((phantom.means[0, channel] - ORDINARY.thresholds[channel, 0]) / math.sqrt(2))
        assert relative[:, 0].sum() == pytest.approx(1 / first)
    low, high = ORDINARY.grades(np.full(len(TEXT_CHANNELS), -9.0)), ORDINARY.grades(np.full(len(TEXT_CHANNELS), 9.0))
    assert set(low) == {0}
    assert set(high) == {GRADES - 1}


def test_likelihoods_are_the_gaussians() -> None:
    """Difference of log-likelihoods between two states against the textbook formula."""
    phantom, rng = ImagePhantom(), np.random.default_rng(0)
    x = rng.normal(size=(3, phantom.means.shape[1]))
    got = phantom.log_likelihood(x, load_states())
    want = -0.5 * ((x[:, None, :] - phantom.means[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(got - got[:, :1], want - want[:, :1], atol=1e-10)


def test_a_missing_value_says_only_that_it_is_missing() -> None:
    phantom = ObservationsPhantom()
    values = np.full((1, len(VARIABLE_CHANNELS)), 2.0)
    measured = np.ones_like(values, dtype=bool)
    measured[0, 0] = False
    with_other_value = values.copy()
    with_other_value[0, 0] = -7.0
    np.testing.assert_array_equal(
        phantom.value_log_likelihood(values, measured), phantom.value_log_likelihood(with_other_value, measured)
    )
    none = np.zeros_like(measured)
    ratio = phantom.value_log_likelihood(values, none)
    carried = sum(SPEAKS_FOR[name] == FINDINGS[0] for name in VARIABLE_CHANNELS)
    healthy, ill = 0, int(np.flatnonzero(PRESENT @ (1 << np.arange(len(MEMBERS))) == 1)[0])
    assert ratio[0, ill] - ratio[0, healthy] == pytest.approx(carried * math.log(0.09 / 0.13))


def test_drawn_evidence_has_unit_variance_around_its_mean() -> None:
    phantom, rng = ImagePhantom(), np.random.default_rng(2)
    drawn = np.stack([phantom.draw(ILL, rng) for _ in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), phantom.means[ILL.index], atol=0.1)
    np.testing.assert_allclose(drawn.std(axis=0), 1, atol=0.07)


def test_modalities_go_missing_at_their_rate_and_never_all() -> None:
    often = Shift(missing_modality=dict.fromkeys(DEFAULT_MODALITIES, 0.6))
    model, rng = load_evidence(DEFAULT_MODALITIES, often), np.random.default_rng(3)
    kept = [model.draw(ILL, lambda _: rng).modalities for _ in range(2000)]
    assert min(len(modalities) for modalities in kept) == 1
    usual = load_evidence(DEFAULT_MODALITIES, Shift())
    kept = [usual.draw(ILL, lambda _: rng).modalities for _ in range(3000)]
    missing = {m: 1 - np.mean([m in modalities for modalities in kept]) for m in DEFAULT_MODALITIES}
    assert missing["image"] == pytest.approx(0.06, abs=0.02)
    assert missing["text"] == pytest.approx(0.10, abs=0.025)


def test_pattern_of_missing_values_tells_little() -> None:
    state, readings = sample(40000, 5)
    pattern, labels = readings["observations"].measured.astype(float), PRESENT[state]
    for finding in range(len(FINDINGS)):
        fitted = LogisticRegression().fit(pattern[:20000], labels[:20000, finding])
        auroc = roc_auc_score(labels[20000:, finding], fitted.predict_proba(pattern[20000:])[:, 1])
        assert 0.505 < auroc < 0.56


@pytest.mark.parametrize("rates", [{"absent": 1.0}, {"absent": 0.0}, {"sometimes": 0.2}])
def test_bad_missing_rates_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(InputError, match="missing_value"):
        load_evidence(DEFAULT_MODALITIES, Shift(missing_value=rates))


def test_modalities_are_named_in_their_order_and_unknown_ones_refused() -> None:
    assert checked_modalities(["observations", "image"]) == ("image", "observations")
    with pytest.raises(InputError, match="modalities: got 'sonogram', must be one of image, text, observations"):
        checked_modalities(["image", "sonogram"])
    for none_or_twice in ([], ["text", "text"]):
        with pytest.raises(InputError, match="must name at least one modality, none twice"):
            checked_modalities(none_or_twice)
    with pytest.raises(InputError, match="missing_modality: got 'text', must be one of image, observations"):
        load_evidence(["image", "observations"], Shift(missing_modality={"text": 0.5}))
