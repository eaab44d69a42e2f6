from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from consilium.domain.errors import InputError
from consilium.modalities.registry import modality_names, nonempty_subsets, subset_key
from tests.training.cohorts.phantom.sampling import sample
from training.cohorts.phantom.evidence import load_evidence
from training.cohorts.phantom.oracle import SUBSETS, Witnesses, load_oracle, posterior, posteriors
from training.cohorts.phantom.state import CONFOUNDERS, FINDINGS, MEMBERS, PRESENT, load_states
from training.cohorts.phantom.write import write_phantom

Labels = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def large() -> tuple[Labels, dict[str, npt.NDArray[np.float64]]]:
    state, witnesses = sample(60000, 11)
    return PRESENT[state], posteriors(load_states(), load_evidence(), witnesses)


def _one(**changes: object) -> Witnesses:
    fields: dict[str, object] = {
        "image": np.array([[1.0, -0.5, 2.0, 0.3]]),
        "grades": np.array([[4, 1, 0, 3, 5, 2]]),
        "observations": np.array([[1.1, 0.2, -0.4, 0.9, 2.2, -1.0, 0.0, 0.7]]),
        "measured": np.array([[True, False, True, True, True, True, False, True]]),
        "age": np.array([77]),
        "sex": np.array([1]),
        "present": np.ones((1, 3), dtype=bool),
    }
    return Witnesses(**{**fields, **changes})  # type: ignore[arg-type]


def test_posterior_is_bayes_by_hand() -> None:
    """Every state enumerated with plain Python numbers."""
    states, model, w = load_states(), load_evidence(), _one()
    total, numerator = 0.0, np.zeros(len(FINDINGS))
    for s in range(len(PRESENT)):
        weight = states.states[3, 1, s]
        for channel, x in enumerate(w.image[0]):
            weight *= np.exp(-0.5 * (x - model.image_means[s, channel]) ** 2)
        for channel, x in enumerate(w.observations[0]):
            if w.measured[0, channel]:
                weight *= np.exp(-0.5 * (x - model.observation_means[s, channel]) ** 2)
                weight *= 1 - model.missing[s, channel]
            else:
                weight *= model.missing[s, channel]
        total += weight
        numerator += weight * PRESENT[s, : len(FINDINGS)]
    got = posterior(states, model, w, ("image", "observations"))
    np.testing.assert_allclose(got[0], numerator / total, rtol=1e-9)


def test_age_and_sex_belong_to_the_values() -> None:
    states, model = load_states(), load_evidence()
    young = _one(age=np.array([20]))
    without = ("image", "text")
    np.testing.assert_array_equal(posterior(states, model, _one(), without), posterior(states, model, young, without))
    assert not np.allclose(
        posterior(states, model, _one(), modality_names()), posterior(states, model, young, modality_names())
    )


def test_a_missing_modality_is_left_out_and_none_leaves_the_prior() -> None:
    states, model = load_states(), load_evidence()
    blind = _one(present=np.array([[False, True, True]]))
    np.testing.assert_allclose(
        posterior(states, model, blind, modality_names()),
        posterior(states, model, _one(), ("text", "observations")),
    )
    prior = states.prior @ PRESENT[:, : len(FINDINGS)]
    np.testing.assert_allclose(posterior(states, model, blind, ("image",))[0], prior)


@pytest.mark.parametrize("finding", range(len(FINDINGS)), ids=FINDINGS)
def test_aurocs_are_those_the_design_asks_for(
    large: tuple[Labels, dict[str, npt.NDArray[np.float64]]], finding: int
) -> None:
    labels, best = large
    windows = {1: (0.82, 0.86), 2: (0.90, 0.93), 3: (0.95, 0.965)}
    slack = 0.003  # three standard errors of an AUROC on this sample
    for subset in nonempty_subsets(modality_names()):
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

    added = sum(log_odds(best[m]) for m in modality_names()) - 2 * log_odds(prior)
    fused = log_odds(best[subset_key(modality_names())])
    for finding, confounder in (("pneumonia", "scar"), ("heart_failure", "large_heart")):
        f, confounded = FINDINGS.index(finding), labels[:, len(FINDINGS) + CONFOUNDERS.index(confounder)]
        sign = np.where(labels[:, f], -1.0, 1.0)
        gain = np.logaddexp(0, sign * added[:, f]) - np.logaddexp(0, sign * fused[:, f])
        error = gain[confounded].std() / np.sqrt(confounded.sum())
        assert gain[confounded].mean() > max(0.03, 5 * error)
        assert gain.mean() > 0.01


def test_a_scar_in_the_note_takes_the_pneumonia_back() -> None:
    states, model = load_states(), load_evidence()
    shadow = np.array([[3.0, 0.0, 0.0, 0.0]])
    scar = list(MEMBERS).index("scar")
    unknown, known = (np.array([[2, 2, 2, 2, grade, 2]]) for grade in (0, 6))
    assert scar == 4
    without = posterior(states, model, _one(image=shadow, grades=unknown), ("image", "text"))
    with_scar = posterior(states, model, _one(image=shadow, grades=known), ("image", "text"))
    assert without[0, 0] > 0.6
    assert with_scar[0, 0] < without[0, 0] - 0.3


def test_oracle_survives_the_disk(tmp_path: Path) -> None:
    write_phantom(tmp_path / "cohort", 25, seed=2, size=64, workers=1)
    oracle = load_oracle(tmp_path / "cohort")
    assert oracle.findings == FINDINGS
    assert tuple(oracle.posteriors) == SUBSETS
    assert oracle.study_ids.tolist() == [f"S{i:06d}" for i in range(25)]
    chosen = oracle.of(["S000007", "S000003"], ("text",))
    np.testing.assert_array_equal(chosen, oracle.posteriors["text"][[7, 3]])
    assert oracle.evidence.loc["S000003"].filter(like="grade:").isin(range(7)).all()
    with pytest.raises(InputError, match="S999999"):
        oracle.of(["S999999"], modality_names())
    with pytest.raises(InputError, match="subset"):
        oracle.of(["S000003"], ())


def test_no_oracle_where_there_is_no_phantom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="phantom cohort"):
        load_oracle(tmp_path)


def test_the_order_of_the_modalities_changes_no_bit() -> None:
    states, model = load_states(), load_evidence()
    one, *others = (posterior(states, model, _one(), order) for order in itertools.permutations(modality_names()))
    for other in others:
        np.testing.assert_array_equal(one, other)
