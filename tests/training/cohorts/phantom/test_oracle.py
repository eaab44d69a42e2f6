from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from consilium.domain.errors import InputError
from consilium.modalities.registry import nonempty_subsets, subset_key
from tests.training.cohorts.phantom.sampling import DESIGN, likelihoods_of, sample
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.observations.phantom import ObservationsPhantom, ValueReading
from training.cohorts.phantom.oracle import load_oracle, posterior
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.state import CONFOUNDERS, FINDINGS, MEMBERS, PRESENT, load_states
from training.cohorts.phantom.write import write_phantom

Labels = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
IMAGE, GRADES = np.array([[1.0, -0.5, 2.0, 0.3]]), np.array([[4, 1, 0, 3, 5, 2]])
VALUES = ValueReading(
    written=np.array([[1.1, 0.2, -0.4, 0.9, 2.2, -1.0, 0.0, 0.7]]),
    measured=np.array([[True, False, True, True, True, True, False, True]]),
    age=np.array([77]),
    sex=np.array([1]),
)


@pytest.fixture(scope="module")
def large() -> tuple[Labels, dict[str, Floats]]:
    state, readings = sample(60000, 11)
    likelihoods = likelihoods_of(readings)
    subsets = nonempty_subsets(DEFAULT_MODALITIES)
    best = {subset_key(s): posterior(DESIGN.states().prior, likelihoods, DEFAULT_MODALITIES, s) for s in subsets}
    return PRESENT[state], best


def _answer(subset: Iterable[str], present: tuple[bool, ...] = (True, True, True), **readings: Any) -> Floats:
    """The best answer to one record."""
    read = {"image": IMAGE, "text": GRADES, "observations": VALUES} | readings
    return posterior(DESIGN.states().prior, likelihoods_of(read, present), DEFAULT_MODALITIES, subset)


def test_posterior_is_bayes_by_hand() -> None:
    """Every state enumerated with plain Python numbers."""
    states, images, values = load_states(), ImagePhantom(), ObservationsPhantom()
    total, numerator = 0.0, np.zeros(len(FINDINGS))
    for s in range(len(PRESENT)):
        weight = states.states[3, 1, s]
        for channel, x in enumerate(IMAGE[0]):
            weight *= np.exp(-0.5 * (x - images.means[s, channel]) ** 2)
        for channel, x in enumerate(VALUES.written[0]):
            if VALUES.measured[0, channel]:
                weight *= np.exp(-0.5 * (x - values.means[s, channel]) ** 2)
                weight *= 1 - values.missing_values[s, channel]
            else:
                weight *= values.missing_values[s, channel]
        total += weight
        numerator += weight * PRESENT[s, : len(FINDINGS)]
    np.testing.assert_allclose(_answer(("image", "observations"))[0], numerator / total, rtol=1e-9)


def test_age_and_sex_belong_to_the_values() -> None:
    young = replace(VALUES, age=np.array([20]))
    without = ("image", "text")
    np.testing.assert_array_equal(_answer(without), _answer(without, observations=young))
    assert not np.allclose(_answer(DEFAULT_MODALITIES), _answer(DEFAULT_MODALITIES, observations=young))


def test_a_missing_modality_is_left_out_and_none_leaves_the_prior() -> None:
    blind = (False, True, True)
    np.testing.assert_array_equal(_answer(DEFAULT_MODALITIES, blind), _answer(("text", "observations")))
    prior = load_states().prior @ PRESENT[:, : len(FINDINGS)]
    np.testing.assert_allclose(_answer(("image",), blind)[0], prior)
    np.testing.assert_allclose(_answer(())[0], prior)
    with pytest.raises(InputError, match="subset: got 'volume', must be one of the cohort's modalities: image, text"):
        _answer(("image", "volume"))


@pytest.mark.parametrize("finding", range(len(FINDINGS)), ids=FINDINGS)
def test_aurocs_are_those_the_design_asks_for(
    large: tuple[Labels, dict[str, npt.NDArray[np.float64]]], finding: int
) -> None:
    labels, best = large
    windows = {1: (0.82, 0.86), 2: (0.90, 0.93), 3: (0.95, 0.965)}
    slack = 0.003  # three standard errors of an AUROC on this sample
    for subset in nonempty_subsets(DEFAULT_MODALITIES):
        low, high = windows[len(subset)]
        auroc = roc_auc_score(labels[:, finding], best[subset_key(subset)][:, finding])
        assert low - slack <= auroc <= high + slack, subset_key(subset)


def test_posteriors_are_calibrated(large: tuple[Labels, dict[str, npt.NDArray[np.float64]]]) -> None:
    labels, best = large
    for key, finding in itertools.product(best, range(len(FINDINGS))):
        chance, label = best[key][:, finding], labels[:, finding]
        for part in np.array_split(np.argsort(chance), 10):
            error = np.sqrt((chance[part] * (1 - chance[part])).sum()) / len(part)
            assert abs(label[part].mean() - chance[part].mean()) < 4.5 * error, (key, FINDINGS[finding])


def test_explaining_away_is_real(large: tuple[Labels, dict[str, npt.NDArray[np.float64]]]) -> None:
    """With a confounder present, adding up single-modality log-odds loses to the joint posterior, and by far."""
    labels, best = large
    prior = load_states().prior @ PRESENT[:, : len(FINDINGS)]

    def log_odds(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.log(p) - np.log1p(-p)

    added = sum(log_odds(best[m]) for m in DEFAULT_MODALITIES) - 2 * log_odds(prior)
    fused = log_odds(best[subset_key(DEFAULT_MODALITIES)])
    for finding, confounder in (("pneumonia", "scar"), ("heart_failure", "large_heart")):
        f, confounded = FINDINGS.index(finding), labels[:, len(FINDINGS) + CONFOUNDERS.index(confounder)]
        sign = np.where(labels[:, f], -1.0, 1.0)
        gain = np.logaddexp(0, sign * added[:, f]) - np.logaddexp(0, sign * fused[:, f])
        error = gain[confounded].std() / np.sqrt(confounded.sum())
        assert gain[confounded].mean() > max(0.03, 5 * error)
        assert gain.mean() > 0.01


def test_a_scar_in_the_note_takes_the_pneumonia_back() -> None:
    shadow = np.array([[3.0, 0.0, 0.0, 0.0]])
    scar = list(MEMBERS).index("scar")
    unknown, known = (np.array([[2, 2, 2, 2, grade, 2]]) for grade in (0, 6))
    assert scar == 4
    without = _answer(("image", "text"), image=shadow, text=unknown)
    with_scar = _answer(("image", "text"), image=shadow, text=known)
    assert without[0, 0] > 0.6
    assert with_scar[0, 0] < without[0, 0] - 0.3


def test_oracle_survives_the_disk(tmp_path: Path) -> None:
    write_phantom(tmp_path / "cohort", 25, seed=2, size=64, workers=1)
    oracle = load_oracle(tmp_path / "cohort")
    assert oracle.findings == FINDINGS
    assert list(oracle.posteriors) == [subset_key(subset) for subset in nonempty_subsets(DEFAULT_MODALITIES)]
    assert len(oracle.posteriors) == 7
    assert "image+volume" not in oracle.posteriors
    assert oracle.likelihoods.shape == (25, 3, 64)
    assert oracle.study_ids.tolist() == [f"S{i:06d}" for i in range(25)]
    chosen = oracle.of(["S000007", "S000003"], ("text",))
    np.testing.assert_array_equal(chosen, oracle.posteriors["text"][[7, 3]])
    assert oracle.evidence.loc["S000003"].filter(like="grade:").isin(range(7)).all()
    with pytest.raises(InputError, match="S999999"):
        oracle.of(["S999999"], DEFAULT_MODALITIES)
    with pytest.raises(InputError, match="subset"):
        oracle.of(["S000003"], ())


def test_no_oracle_where_there_is_no_phantom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="phantom cohort"):
        load_oracle(tmp_path)


def test_the_order_of_the_modalities_changes_no_bit() -> None:
    one, *others = (_answer(order) for order in itertools.permutations(DEFAULT_MODALITIES))
    for other in others:
        np.testing.assert_array_equal(one, other)
