from __future__ import annotations

import numpy as np
import pytest
from crepes import ConformalClassifier
from scipy.stats import betabinom

from consilium.calibration.conformal import NO_GROUP, Conformal, HeldOutGroup, fit_conformal, quantile_rank
from consilium.calibration.venn_abers import fit_bounds
from consilium.domain.errors import InputError
from consilium.domain.findings import Finding, FindingSet

ONE = FindingSet((Finding("pneumonia", "Pneumonia"),))


def draw(studies: int, seed: int, prevalence: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, 1)) < prevalence).astype(float)
    return labels, 2 * labels - 2 + rng.normal(size=(studies, 1))


def conformal_of(labels: np.ndarray, scores: np.ndarray, coverage: float) -> Conformal:
    """All studies are held out; as many are fitted on, of which nothing but the number matters."""
    fitting = np.r_[np.zeros(len(labels), bool), np.ones(len(labels), bool)]
    both = np.concatenate([labels, labels])
    return fit_conformal(
        both, {"image": np.concatenate([scores, scores])}, np.full(2 * len(labels), "image"), ~fitting, coverage
    )


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_are_those_of_crepes(coverage: float) -> None:
    """The class-conditional sets of an independent library, for the same nonconformity."""
    labels, scores = draw(400, 0)
    fresh = draw(1000, 1)[1]
    sets = conformal_of(labels, scores, coverage).ruled_in(fresh, "image")[:, 0]

    def nonconformity(log_odds: np.ndarray) -> np.ndarray:
        return np.column_stack([log_odds, -log_odds])

    truth = labels[:, 0].astype(int)
    reference = ConformalClassifier().fit(nonconformity(scores[:, 0])[np.arange(400), truth], bins=truth)
    p_values = np.column_stack(
        [
            reference.predict_p(nonconformity(fresh[:, 0]), bins=np.full(1000, answer), smoothing=False)[:, answer]
            for answer in (0, 1)
        ]
    )
    assert np.array_equal(sets, p_values > 1 - coverage + 1e-12)
    assert 0 < (~sets).mean() < 0.6


def test_the_limits_by_hand() -> None:
    labels = np.array([[1.0]] * 9 + [[0.0]] * 8)
    scores = np.r_[np.arange(9.0), np.arange(8.0) - 6][:, None]
    [[group]] = conformal_of(labels, scores, 0.9).groups
    # Of 9 the ninth may not be exceeded, .9 of 9 + 1; 8 are too few to rule anything out.
    assert (group.present, group.lowest_present) == (9, 0.0)
    assert (group.absent, group.highest_absent) == (8, None)
    [[group]] = conformal_of(labels, scores, 0.75).groups
    assert group.lowest_present == 1.0  # .75 of 10: the eighth
    assert group.highest_absent == 0.0  # .75 of 9: the seventh
    answers = Conformal(0.75, ((group,),)).ruled_in(np.array([[-0.5], [0.0], [0.5], [1.0], [np.nan]]), "image")[:, 0]
    assert answers.tolist() == [[True, False], [True, False], [False, False], [False, True], [True, True]]


def test_ranks() -> None:
    assert [quantile_rank(n, 0.9) for n in (0, 8, 9, 10, 19, 99)] == [1, 9, 9, 10, 18, 90]


def test_coverage_of_each_class_is_beta_binomial() -> None:
    """Over 200 splits the coverage lies in its 95 % band in 95 % of them, for the rare class as for the other."""
    inside = np.zeros(2)
    covered = np.zeros(2)
    for seed in range(200):
        labels, scores = draw(300, 1000 + seed, 0.15)
        fresh, log_odds = draw(500, 5000 + seed, 0.15)
        conformal = conformal_of(labels, scores, 0.9)
        [[group]] = conformal.groups
        sets = conformal.ruled_in(log_odds, "image")[:, 0]
        for answer, count in ((0, group.absent), (1, group.present)):
            holds = sets[fresh[:, 0] == answer, answer]
            rank = quantile_rank(count, 0.9)
            low, high = betabinom.ppf([0.025, 0.975], len(holds), rank, count + 1 - rank)
            inside[answer] += low <= holds.sum() <= high
            covered[answer] += holds.mean() / 200
    assert (inside >= 182).all()  # fewer than 182 of 200 have a chance of 1 in 400
    assert (inside <= 199).all()
    assert np.allclose(covered, 0.9, atol=0.015)


def mixed(seed: int, studies: int = 1200) -> dict:
    """Studies of which few came with text alone, and none with observations; text says less than an image."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, 1)) < 0.4).astype(float)
    came_with = rng.choice(["image", "image+text", "text"], studies, p=[0.6, 0.38, 0.02])
    strength = {"image": 0.8, "text": 0.5, "image+text": 6.0, "observations": 1.0}
    log_odds = {}
    for subset, strong in strength.items():
        scores = strong * (2 * labels - 1) + np.sqrt(2 * strong) * rng.normal(size=labels.shape)
        have = np.array([set(subset.split("+")) <= set(c.split("+")) or subset == "observations" for c in came_with])
        log_odds[subset] = np.where(have[:, None], scores, np.nan)
    return {"labels": labels, "log_odds": log_odds, "came_with": came_with, "held_out": rng.random(studies) < 0.5}


def test_which_subsets_share_a_group() -> None:
    case = mixed(0)
    conformal = fit_conformal(**case, coverage=0.9)
    groups = {group.subsets: group for group in conformal.groups[0]}
    kinds = {subsets: group.kind for subsets, group in groups.items()}
    assert kinds == {
        ("image",): "own",
        ("image+text",): "own",
        ("text",): "pooled",
        ("observations",): "simulated",
    }
    for subset in ("image", "image+text", "text"):
        here = case["held_out"] & (case["came_with"] == subset)
        assert groups[(subset,)].present == case["labels"][here].sum()
        assert groups[(subset,)].absent == (1 - case["labels"][here]).sum()
        # Their own answers, given what they came with.
        scores, positive = case["log_odds"][subset][here, 0], case["labels"][here, 0] == 1
        assert groups[(subset,)].bounds == fit_bounds(scores, positive)
    simulated = groups[("observations",)]
    assert simulated.present + simulated.absent == case["held_out"].sum()
    assert conformal.of(0, "genome") == NO_GROUP


def test_rare_subsets_are_pooled_each_with_the_modalities_it_came_with() -> None:
    case = mixed(1)
    case["came_with"][:] = np.random.default_rng(0).choice(["image", "text"], 1200)
    case["held_out"][60:] = case["came_with"][60:] == "nothing"
    case["held_out"][:60] = np.arange(60) % 2 == 0
    for values in case["log_odds"].values():
        values[60:] = np.nan
        values[:60] = np.where(np.isnan(values[:60]), 0.0, values[:60])
    case["labels"][60:] = np.nan
    pooled = next(group for group in fit_conformal(**case, coverage=0.9).groups[0] if group.kind == "pooled")
    assert set(pooled.subsets) == {"image", "text"}
    assert pooled.present + pooled.absent == 30
    scores = [case["log_odds"][case["came_with"][row]][row, 0] for row in np.flatnonzero(case["held_out"])]
    assert pooled.bounds == fit_bounds(np.array(scores), case["labels"][case["held_out"], 0] == 1)


def test_every_subset_keeps_its_coverage_where_one_limit_for_all_would_not() -> None:
    shares: dict[str, list[float]] = {"image": [], "image+text": []}
    together: dict[str, list[float]] = {"image": [], "image+text": []}
    for seed in range(20):
        conformal, fresh = fit_conformal(**mixed(seed), coverage=0.9), mixed(100 + seed)
        for subset, own in shares.items():
            here = (fresh["came_with"] == subset) & (fresh["labels"][:, 0] == 1)
            scores = fresh["log_odds"][subset][here]
            own.append(conformal.ruled_in(scores, subset)[:, 0, 1].mean())
            together[subset].append(conformal.ruled_in(scores, "image")[:, 0, 1].mean())
    assert all(np.mean(values) == pytest.approx(0.9, abs=0.02) for values in shares.values())
    assert np.mean(together["image+text"]) > 0.95


def test_json_comes_back_to_the_bit() -> None:
    conformal = fit_conformal(**mixed(2), coverage=0.9)
    again = Conformal.from_json(conformal.to_json())
    again.require_sound("conformal", 1)
    assert again == conformal


def test_a_subset_without_calibration_studies_rules_nothing_out() -> None:
    conformal = Conformal(0.9, ((),))
    assert conformal.ruled_in(np.array([[30.0], [-30.0]]), "image").all()
    assert conformal.bounds(np.array([[2.0]]), "image").tolist() == [[[0.0, 1.0]]]


@pytest.mark.parametrize(
    "change", [{"kind": "own guess"}, {"lowest_present": float("inf")}, {"highest_absent": float("nan")}]
)
def test_unusable_groups_are_refused(change: dict) -> None:
    plain = NO_GROUP.to_json()
    with pytest.raises(InputError, match=r"^conformal"):
        Conformal(0.9, ((HeldOutGroup.from_json(plain | change),),)).require_sound("conformal", 1)
    with pytest.raises(InputError, match="1 findings"):
        Conformal(0.9, ()).require_sound("conformal", 1)
