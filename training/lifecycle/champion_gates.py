"""A version beside the champion on the same studies: on the champion's test set, on the newest data, group by group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from consilium.calibration import patient_bootstrap
from consilium.configuration.recipe import CohortRecipe
from consilium.domain.errors import TrainingError
from consilium.output.labels import share
from training.evaluation.metrics import Sample, macro
from training.evaluation.subgroups import LEAST_OF_EACH_CLASS
from training.lifecycle.frozen_answers import FrozenAnswers, Rival
from training.lifecycle.gate_file import ChampionGate, Gates, SubgroupGate
from training.lifecycle.gate_results import GateResult
from training.lifecycle.looks import Look, studies_digest, take_look
from training.pipeline.compare_models import Answers, common_studies, compare_answers
from training.pipeline.evaluate_registered import evaluate_model

TEST, NEWEST, GROUPS = "champion, frozen test set", "champion, newest data", "subgroups"


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """AUROC of one model less that of another, mean over findings, and its standard error over patients."""

    value: float
    standard_error: float
    studies: int

    def low(self, alpha: float) -> float:
        """Lower bound, missed with a chance of `alpha`; none where there is none to miss."""
        return -np.inf if alpha <= 0 else self.value - float(norm.isf(alpha)) * self.standard_error


def frozen_test_gate(
    gates: Gates, one: Rival, other: Rival, answers: FrozenAnswers, tables: dict[str, pd.DataFrame], seed: int
) -> tuple[GateResult, Answers, Answers]:
    """Not inferior on the studies that the champion was tested on, by their labels of then; also both's answers.

    Raises
    ------
    TrainingError
        As `FrozenAnswers.of`, or the two were tested on too few common studies.
    InputError, CohortError
        The cohort cannot be read by one of them.
    """
    wanted = gates.champion or ChampionGate()
    frozen, own = answers.of(other), answers.of(one)
    first, second = common_studies(own, frozen)
    first = replace(first, labels=second.labels)
    covered = len(first.study_ids) / len(other.kept().study_ids)
    if covered < wanted.least_common:
        rule = f"{share(covered)} of the champion's test studies, at least {share(wanted.least_common)} must be"
        raise TrainingError(f"in the version's own test split are {rule}")
    look = take_look(one.name, one.version, studies_digest(frozen.study_ids.tolist()), other.uri, gates)
    tables["frozen_test"] = compare_answers(first, second, margin=wanted.margin, bootstrap=gates.bootstrap, seed=seed)
    return _not_inferior(TEST, first, second, wanted.margin, look, gates, seed), first, second


def newest_gate(
    gates: Gates,
    one: Rival,
    other: Rival,
    root: Path,
    cohort: CohortRecipe | None,
    tables: dict[str, pd.DataFrame],
    seed: int,
) -> GateResult:
    """Not inferior on the studies in `root` of patients that neither model has learned from.

    Raises
    ------
    InputError, CohortError, TrainingError
        The cohort cannot be read by both, or there is no such patient.
    """
    wanted = gates.champion or ChampionGate()
    known = one.learned_from() | other.learned_from()
    chosen = cohort or one.artifact.recipe.cohort
    answers = [Answers.of(evaluate_model(each.uri, root, cohort=chosen, bootstrap=1)) for each in (one, other)]
    fresh = [each.at(np.flatnonzero(~np.isin(each.patient_ids, sorted(known)))) for each in answers]
    if not len(fresh[0].study_ids):
        raise TrainingError("the newest cohort has no patient that neither model has learned from")
    first, second = common_studies(*fresh)
    look = take_look(one.name, one.version, studies_digest(first.study_ids.tolist()), other.uri, gates)
    tables["newest"] = compare_answers(first, second, margin=wanted.newest_margin, bootstrap=gates.bootstrap, seed=seed)
    return _not_inferior(NEWEST, first, second, wanted.newest_margin, look, gates, seed)


def subgroup_gate(wanted: SubgroupGate, first: Answers, second: Answers, *, bootstrap: int, seed: int) -> GateResult:
    """No group's AUROC of a finding lower than under the champion by more than the margin, beyond chance.

    Groups with fewer than `LEAST_OF_EACH_CLASS` studies of a class are not tested, and counted.
    """
    demanded = f"no group's AUROC lower by more than {wanted.margin:g}, beyond chance"
    if not first.groups:
        return GateResult.unmeasured(GROUPS, "the training kept no groups of its test studies; train again", demanded)
    found, small = _by_group(first, second, bootstrap, seed)
    if not found:
        return GateResult.not_applicable(GROUPS, f"all {small} groups are too small to be tested", demanded)
    worst = min(found, key=lambda line: line[1].value)
    bound = float(norm.isf(0.05 / len(found)))
    worse = [
        f"{where} by {-one.value:.3f}"
        for where, one in found
        if one.value < -wanted.margin and one.value + bound * one.standard_error < 0
    ]
    tested = f"{len(found)} tested, {small} too small"
    text = f"worse: {'; '.join(worse)}" if worse else f"lowest difference {worst[1].value:+.3f}, {worst[0]}"
    return GateResult.of(
        GROUPS, not worse, f"{text}; {tested}", demanded, {"lowest_difference": worst[1].value, "tested": len(found)}
    )


def _by_group(first: Answers, second: Answers, bootstrap: int, seed: int) -> tuple[list[tuple[str, Difference]], int]:
    """Each group and finding that can be tested, and how many cannot."""
    found, small = [], 0
    for kind, members in first.groups.items():
        for group in sorted(set(members.tolist())):
            rows = np.flatnonzero(members == group)
            for f, finding in enumerate(first.findings):
                labels = first.labels[rows, f]
                if min((labels == 1).sum(), (labels == 0).sum()) < LEAST_OF_EACH_CLASS:
                    small += 1
                    continue
                difference = auroc_difference(first.at(rows), second.at(rows), [f], bootstrap=bootstrap, seed=seed)
                found.append((f"{finding}, {kind} {group}", difference))
    return found, small


def auroc_difference(
    first: Answers, second: Answers, findings: list[int] | None = None, *, bootstrap: int, seed: int
) -> Difference:
    """First minus second, of the same studies in the same order; the mean over `findings`, positions; None: all.

    The standard error is that of the bootstrap over patients: so far out as the shares of alpha lie, a percentile of
    the replicates would rest on one or two of them.
    """
    chosen = list(range(len(first.findings))) if findings is None else findings
    labels = first.labels[:, chosen]
    sides: list[npt.NDArray] = [first.probabilities[:, chosen], second.probabilities[:, chosen]]
    known = ~np.isnan(sides[0]) & ~np.isnan(sides[1])
    sample = Sample(labels, patient_bootstrap(first.patient_ids, bootstrap, seed))
    one, two = (macro(sample.measure(np.where(known, side, np.nan))).figures["auroc"] for side in sides)
    replicates = one - two
    return Difference(float(replicates[0]), float(np.nanstd(replicates[1:], ddof=1)), len(labels))


def _not_inferior(
    gate: str, first: Answers, second: Answers, margin: float, look: Look, gates: Gates, seed: int
) -> GateResult:
    found = auroc_difference(first, second, bootstrap=gates.bootstrap, seed=seed)
    demanded = f"difference of AUROC above -{margin:g} ({look})"
    if look.alpha <= 0:
        why = f"all {gates.looks} looks at these studies are used up: test on others, or the next cohort's"
        return GateResult.unmeasured(gate, why, demanded)
    low = found.low(look.alpha)
    text = f"{found.value:+.3f}, at least {low:+.3f}, on {found.studies} studies"
    figures = {
        "difference": found.value,
        "low": low,
        "studies": found.studies,
        "look": look.number,
        "alpha": look.alpha,
    }
    return GateResult.of(gate, low > -margin, text, demanded, figures)
