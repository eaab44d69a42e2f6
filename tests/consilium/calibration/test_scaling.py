from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

from consilium.calibration import Scaling, Shrinkage, fit_scaling
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.findings import FindingSet
from tests.consilium.calibration.simulated import CLASSES, FINDINGS, SHIFT, STRETCH, SUBSETS, simulate


def prior_of(case: dict) -> np.ndarray:
    return logit(case["prevalence"])


@pytest.fixture(scope="module")
def case() -> dict:
    return simulate(FINDINGS, 6000, 0)


@pytest.fixture(scope="module")
def scaling(case: dict) -> Scaling:
    return fit_scaling(FINDINGS, case["labels"], case["fused"], prior_of(case))


def test_slopes_and_biases_undo_what_the_model_did_to_each_subset(scaling: Scaling) -> None:
    for subset in SUBSETS:
        # log-odds = z / stretch - shift
        assert np.allclose(np.multiply(scaling.scale[subset], STRETCH[subset]), 1, atol=0.1), subset
        assert np.allclose(scaling.bias[subset], [-SHIFT[subset], SHIFT[subset]], atol=0.2), subset


def test_exclusive_findings_share_a_slope_unless_it_is_vector_scaling() -> None:
    case = simulate(CLASSES, 6000, 1)
    logits = case["fused"]["text"] * [1.0, 2.0, 0.5]
    prior = logit([0.5, 0.3, 0.2])
    shared = fit_scaling(CLASSES, case["labels"], {"text": logits}, prior)
    assert len(set(shared.scale["text"])) == 1
    vector = fit_scaling(CLASSES, case["labels"], {"text": logits}, prior, per_class=True)
    assert np.allclose(np.multiply(vector.scale["text"], [1.0, 2.0, 0.5]), 1, atol=0.12)
    present = ~np.isnan(logits[:, 0])
    truth = case["labels"][present].argmax(axis=1)
    nll = [
        -log_softmax(one(logits[present], "text"), axis=1)[np.arange(present.sum()), truth].mean()
        for one in (shared, vector)
    ]
    assert nll[1] < nll[0] - 0.02


def test_vector_scaling_is_the_maximum_of_the_penalised_likelihood() -> None:
    case = simulate(CLASSES, 400, 2, missing=0)
    rows, labels, prior = case["fused"]["image"], case["labels"], np.log([0.5, 0.3, 0.2])
    shrinkage = Shrinkage(0.3, 0.5)
    fitted = fit_scaling(CLASSES, labels, {"image": rows}, logit([0.5, 0.3, 0.2]), per_class=True, shrinkage=shrinkage)
    centre = rows.mean(axis=0)
    spread = (rows - centre).std()

    def loss(theta: np.ndarray) -> float:
        common, bias, slopes, offsets = theta.reshape(4, 3)
        log_p = log_softmax(slopes * (rows - centre) / spread + prior + bias + offsets, axis=1)
        penalty = (common**2).sum() / 25 + (bias**2).sum() / 25
        penalty += ((slopes - common) ** 2).sum() / 0.25 + (offsets**2).sum() / 0.25
        return float(-(log_p * labels).sum() + penalty / 2)

    best = minimize(loss, np.repeat([1.0, 0, 1, 0], 3), method="BFGS").x.reshape(4, 3)
    assert np.allclose(fitted.scale["image"], best[2] / spread, atol=1e-3)
    assert np.allclose(fitted.bias["image"], prior + best[1] + best[3] - best[2] / spread * centre, atol=1e-3)


@pytest.mark.parametrize("factor", [1e-6, 1e6, 1e30])
def test_the_unit_of_the_logits_does_not_matter(case: dict, scaling: Scaling, factor: float) -> None:
    stretched = {subset: values * factor for subset, values in case["fused"].items()}
    other = fit_scaling(FINDINGS, case["labels"], stretched, prior_of(case))
    for subset in SUBSETS:
        expected = expit(scaling(case["fused"][subset], subset))
        assert np.allclose(expit(other(stretched[subset], subset)), expected, atol=1e-4, equal_nan=True)


def test_perfect_separation_of_few_studies_does_not_become_certainty() -> None:
    labels = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
    scaling = fit_scaling(FINDINGS, labels, {"image": np.where(labels == 1, 5.0, -5.0)}, np.zeros(2))
    p = expit(scaling([[5.0, -5.0]], "image"))[0]
    assert 0.9 < p[0] < 0.9999
    assert 0.0001 < p[1] < 0.1


@pytest.mark.parametrize(("findings", "per_class"), [(FINDINGS, False), (CLASSES, False), (CLASSES, True)])
def test_logits_worse_than_chance_are_flattened_not_turned(findings, per_class: bool) -> None:
    case = simulate(findings, 1000, 4)
    against = {subset: -values for subset, values in case["fused"].items()}
    scaling = fit_scaling(findings, case["labels"], against, prior_of(case), per_class=per_class)
    assert min(min(row) for row in scaling.scale.values()) > 0
    assert np.nanmax(np.nanstd(expit(scaling(against["image"], "image")), axis=0)) < 0.01


def test_constant_logits_give_the_prevalence(case: dict) -> None:
    constant = {subset: np.where(np.isnan(values), np.nan, 7.0) for subset, values in case["fused"].items()}
    scaling = fit_scaling(FINDINGS, case["labels"], constant, prior_of(case))
    assert np.allclose(expit(scaling([[7.0, 7.0]], "text")), case["prevalence"], atol=0.03)


def test_unknown_labels_are_masked(case: dict, scaling: Scaling) -> None:
    labels = case["labels"].copy()
    hidden = np.random.default_rng(1).random(len(labels)) < 0.5
    labels[hidden, 1] = np.nan
    masked = fit_scaling(FINDINGS, labels, case["fused"], prior_of(case))
    kept = {subset: values[~hidden] for subset, values in case["fused"].items()}
    expected = fit_scaling(FINDINGS, labels[~hidden], kept, prior_of(case))
    assert masked.scale["text"][1] == pytest.approx(expected.scale["text"][1], abs=1e-4)
    assert masked.scale["text"][0] == pytest.approx(scaling.scale["text"][0], abs=1e-6)
    assert masked.scale["text"][0] != pytest.approx(expected.scale["text"][0], abs=1e-4)


def test_a_subset_that_few_or_none_have_is_calibrated_like_the_others(case: dict, scaling: Scaling) -> None:
    logits = case["fused"]["image+text"]
    for studies in (0, 3):
        few = np.where((np.cumsum(~np.isnan(logits[:, 0])) <= studies)[:, None], logits, np.nan)
        sparse = fit_scaling(FINDINGS, case["labels"], case["fused"] | {"image+text": few}, prior_of(case))
        slopes = np.array([row for subset, row in sparse.scale.items() if subset != "image+text"])
        assert (slopes.min(axis=0) < sparse.scale["image+text"]).all()
        assert (sparse.scale["image+text"] < slopes.max(axis=0)).all()


def additive_case(studies: int, seed: int) -> tuple[dict, dict[str, np.ndarray], dict[str, float]]:
    """A case, the true log-odds per subset, and the slopes that turn logits into them: additive over modalities."""
    case = simulate(FINDINGS, studies, seed)
    slopes = {subset: 0.4 + 0.2 * ("image" in subset) + 0.3 * ("text" in subset) for subset in SUBSETS}
    truth = {
        subset: values / STRETCH[subset] - SHIFT[subset] * np.array([1, -1]) for subset, values in case["fused"].items()
    }
    logits = {subset: (values - 0.5 * ("text" in subset)) / slopes[subset] for subset, values in truth.items()}
    return case | {"fused": logits}, truth, slopes


def test_a_subset_that_the_fit_never_saw_gets_what_is_additive() -> None:
    case, truth, slopes = additive_case(6000, 21)
    unseen = ("image+text", "image+text+observations")
    seen = {subset: values for subset, values in case["fused"].items() if subset not in unseen}
    scaling = fit_scaling(FINDINGS, case["labels"], seen, prior_of(case), shrinkage=Shrinkage(0.5, 0.1))
    for subset in unseen:
        answers = scaling(case["fused"][subset], subset)
        assert np.nanmean(np.abs(answers - truth[subset])) < 0.15
        assert np.allclose(scaling.additive.of(subset)[0], slopes[subset], atol=0.1)
    everything = fit_scaling(FINDINGS, case["labels"], case["fused"], prior_of(case), shrinkage=Shrinkage(0.5, 0.1))
    for subset in SUBSETS:
        assert np.allclose(
            everything.additive.of(subset), (everything.scale[subset], everything.bias[subset]), atol=0.1
        )


def test_a_listed_subset_without_a_study_gets_exactly_what_is_additive(case: dict) -> None:
    nothing = np.full_like(case["labels"], np.nan)
    scaling = fit_scaling(FINDINGS, case["labels"], case["fused"] | {"image+text": nothing}, prior_of(case))
    scale, bias = scaling.additive.of("image+text")
    assert np.allclose(scale, scaling.scale["image+text"], atol=1e-4)
    assert np.allclose(bias, scaling.bias["image+text"], atol=1e-3)


@pytest.mark.parametrize("shrinkage", [Shrinkage(0.3, 0.2), Shrinkage(0.3, 0.02), Shrinkage(0.0, 0.3)])
def test_shrinkage_is_that_of_a_hierarchy_of_gaussians(shrinkage: Shrinkage) -> None:
    """Common part, modalities and subsets fitted side by side, by another optimiser, end in the same answers."""
    case = simulate(FINDINGS, 150, 3)
    labels, prior = case["labels"][:, [0]], prior_of(case)[:1]
    logits = {subset: values[:, [0]] for subset, values in case["fused"].items()}
    one = FindingSet(FINDINGS.findings[:1])
    fitted = fit_scaling(one, labels, logits, prior, shrinkage=shrinkage)
    rows = {s: np.concatenate([z, labels], axis=1)[~np.isnan(z[:, 0])] for s, z in logits.items()}
    everything = np.concatenate([part[:, 0] for part in rows.values()])
    centre, spread = everything.mean(), everything.std()
    has = np.array([[name in subset.split("+") for name in ("image", "text", "observations")] for subset in SUBSETS])
    design = np.column_stack([np.ones(len(SUBSETS)), has - has.mean(axis=0)])
    sd = np.array([5.0] + [max(shrinkage.modality_sd, 1e-12)] * 3)[:, None]

    def coefficients(theta: np.ndarray) -> np.ndarray:
        above, own = theta[:8].reshape(4, 2), theta[8:].reshape(-1, 2)
        return design @ (above * sd) + own * shrinkage.subset_sd

    def loss(theta: np.ndarray) -> float:
        total = theta @ theta / 2
        for subset, (slope, offset) in zip(SUBSETS, coefficients(theta), strict=True):
            eta = slope * (rows[subset][:, 0] - centre) / spread + prior[0] + offset
            total += (np.logaddexp(0, eta) - rows[subset][:, 1] * eta).sum()
        return float(total)

    best = coefficients(minimize(loss, np.full(8 + 2 * len(SUBSETS), 0.1), method="BFGS").x)
    for subset, (slope, offset) in zip(SUBSETS, best, strict=True):
        assert fitted.scale[subset][0] == pytest.approx(slope / spread, rel=2e-3)
        expected = prior[0] + offset - slope / spread * centre
        assert fitted.bias[subset][0] == pytest.approx(expected, abs=2e-3)


def test_what_cannot_be_fitted_ends_in_an_error(case: dict) -> None:
    unheard = {"text": np.full_like(case["labels"], np.nan)}
    with pytest.raises(TrainingError, match="text has a known label of pneumonia"):
        fit_scaling(FINDINGS, case["labels"], unheard, prior_of(case))
    infinite = {"text": np.where(np.isnan(case["fused"]["text"]), np.nan, np.inf)}
    with pytest.raises(TrainingError, match="not finite"):
        fit_scaling(FINDINGS, case["labels"], infinite, prior_of(case))
    with pytest.raises(InputError, match=r"'image\+genome', must be of image, text, observations"):
        fit_scaling(FINDINGS, case["labels"], case["fused"], prior_of(case))([[0.0, 0.0]], "image+genome")
