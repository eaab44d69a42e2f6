"""From trained contenders to a comparison: calibrate, add what needs no training, score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from consilium.calibration import Calibration, patient_bootstrap
from consilium.configuration.recipe import Recipe
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import subset_key
from training.cohorts import cohort_kind
from training.cohorts.cohort import Cohort
from training.cohorts.cohort_kind import Oracle
from training.cohorts.phantom.record import Design
from training.evaluation.evaluate import calibrate
from training.evaluation.metrics import Sample
from training.evaluation.predictions import Predictions
from training.evaluation.rows import ALL_PRESENT
from training.experiments.fusion_comparison.comparison import Comparison
from training.experiments.fusion_comparison.rules import mean_answer, product_of_experts, sum_of_log_odds, with_answers
from training.experiments.fusion_comparison.scoring import (
    Answers,
    Contender,
    TestStudies,
    difference_table,
    explaining_away_table,
    measure,
    share_table,
)
from training.experiments.fusion_comparison.trained import Trained

_log = logging.getLogger(__name__)

SUM, PRODUCT, CALIBRATED = "rule/sum_of_log_odds", "rule/product_of_experts", "rule/product_calibrated"
BEST, BOUND = "bound/best_possible", "bound/product_of_experts"
"""The best answer from all modalities, and the product of the best answers from each modality alone."""

Rule = Callable[..., npt.NDArray]
"""`training.experiments.fusion_comparison.rules`: unimodal, subset, exclusive → probabilities [N, F]."""

_STATES_FILE = "truth/states.csv"
_POINT_REPLICATES = 1  # operating points take no part here, nor do their intervals


def compare(trained: Mapping[str, Sequence[Trained]], recipe: Recipe, cohort: Cohort) -> Comparison:
    """Score everything that was trained, and what follows from it without training.

    Parameters
    ----------
    trained : mapping of contender's name to sequence of Trained
        One a seed; ``end_to_end/late`` has the unimodal of the modalities' own heads.
    """
    test = trained["end_to_end/late"][0].test
    oracle = cohort_kind(recipe.cohort.kind).load_oracle(cohort.root)
    scorer = Scorer(recipe, cohort.findings, test, oracle, _confounded(cohort.root, test.study_ids))
    _log.info("scoring on %d test studies", len(scorer.test))
    encoders = trained["end_to_end/late"]
    best = min(
        (name for name in trained if name.startswith("fusion/")),
        key=lambda name: np.mean([one.validation_loss for one in trained[name]]),
    )
    contenders = [*scorer.rules(encoders), *(scorer.contender(name, ones) for name, ones in trained.items())]
    if len(trained[best]) > 1:
        contenders.append(scorer.ensemble(f"ensemble/{best.partition('/')[2]}", trained[best]))
    contenders += scorer.bounds()
    tested = scorer.tested
    everything = subset_key(recipe.modalities)
    measurements = measure(tested, contenders)
    tables = {
        "contenders": pd.DataFrame(
            [{"contender": c.name, "seconds": c.seconds, "parameters": c.parameters} for c in contenders]
        ),
        "shares": share_table(tested, contenders, measurements),
        "differences": difference_table(measurements, [PRODUCT, CALIBRATED, best]),
    }
    if tested.confounded is not None:
        references = [SUM, PRODUCT, CALIBRATED, *([] if tested.oracle is None else [BOUND])]
        subsets = [everything, ALL_PRESENT]
        tables["explaining_away"] = explaining_away_table(tested, contenders, references, subsets)
    return Comparison(everything, PRODUCT, best, tables)


class Scorer:
    """Calibrates contenders alike and lines them up with the test studies.

    Parameters
    ----------
    test : Predictions
        Names the test studies and what each of them has.
    oracle : Oracle or None
        Of the cohort, where it has one.
    confounded : bool [N] or None
        Which test studies have a hidden confounder, where that is known.
    """

    def __init__(
        self,
        recipe: Recipe,
        findings: FindingSet,
        test: Predictions,
        oracle: Oracle | None,
        confounded: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.recipe = recipe
        self.findings = findings
        self.test = test
        self.oracle = oracle
        weights = patient_bootstrap(test.patient_ids, recipe.evaluation.bootstrap, recipe.seed)
        self.tested = TestStudies(self.findings, Sample(test.labels, weights), self._best(), confounded)

    def contender(self, name: str, trained: Sequence[Trained]) -> Contender:
        """Its logits, calibrated on the calibration split of each training."""
        answers = tuple(self._answers(self._calibration(one.calibration), one.test) for one in trained)
        return Contender(name, answers, float(np.mean([one.seconds for one in trained])), trained[0].parameters)

    def rules(self, encoders: Sequence[Trained]) -> list[Contender]:
        """What follows from the modalities' own heads."""
        exclusive = self.findings.exclusive
        found: dict[str, list[Answers]] = {SUM: [], PRODUCT: [], CALIBRATED: []}
        for one in encoders:
            alone = self._calibration(one.calibration)
            product = partial(product_of_experts, prior=expit(alone.prior_log_odds))
            held_out, tested = (
                {
                    modality: alone.unimodal_probabilities(logits, modality)
                    for modality, logits in predictions.unimodal.items()
                }
                for predictions in (one.calibration, one.test)
            )
            products = self._combined(tested, product)
            found[SUM].append(self._with_as_present(self._combined(tested, sum_of_log_odds)))
            found[PRODUCT].append(self._with_as_present(products))
            logits = with_answers(one.calibration, self._combined(held_out, product), exclusive=exclusive)
            again = with_answers(one.test, products, exclusive=exclusive)
            found[CALIBRATED].append(self._answers(self._calibration(logits), again))
        return [Contender(name, tuple(answers)) for name, answers in found.items()]

    def ensemble(self, name: str, trained: Sequence[Trained]) -> Contender:
        """The mean probability of all seeds, calibrated once more."""
        calibrations = [self._calibration(one.calibration) for one in trained]

        def mean(members: Sequence[Predictions]) -> Predictions:
            answers = mean_answer([one.probabilities(c) for one, c in zip(members, calibrations, strict=True)])
            return with_answers(members[0], answers, exclusive=self.findings.exclusive)

        held_out = mean([one.calibration for one in trained])
        answers = self._answers(self._calibration(held_out), mean([one.test for one in trained]))
        size = sum(one.parameters for one in trained)
        return Contender(name, (answers,), float(sum(one.seconds for one in trained)), size)

    def bounds(self) -> list[Contender]:
        """The best that is possible, from all at once and from one modality each, where the cohort knows it."""
        best = self.tested.oracle
        if self.oracle is None or best is None:
            return []
        unimodal = {modality: best[modality] for modality in self.recipe.modalities}
        # The mean posterior is the prior; over the whole cohort it is as good as exact.
        prior = np.mean([self.oracle.posteriors[modality].mean(axis=0) for modality in unimodal], axis=0)
        experts = self._with_as_present(self._combined(unimodal, partial(product_of_experts, prior=prior)))
        return [Contender(BEST, (best,)), Contender(BOUND, (experts,))]

    def _calibration(self, predictions: Predictions) -> Calibration:
        options = {"bootstrap": _POINT_REPLICATES, "seed": self.recipe.seed}
        return calibrate(predictions, self.findings, self.recipe.calibration, **options)

    def _answers(self, calibration: Calibration, test: Predictions) -> Answers:
        rows = self._in_line(test, test.probabilities(calibration))
        # A contender that cannot do without a modality has no answer from what each study has.
        return self._with_as_present(rows) if set(rows) == set(self.test.fused) else rows

    def _combined(self, unimodal: Mapping[str, npt.NDArray], rule: Rule) -> dict[str, npt.NDArray]:
        return {key: rule(unimodal, subset=key, exclusive=self.findings.exclusive) for key in self.test.fused}

    def _with_as_present(self, rows: dict[str, npt.NDArray]) -> Answers:
        return {ALL_PRESENT: self.test.as_present(rows)} | rows

    def _in_line(self, predictions: Predictions, rows: Mapping[str, npt.NDArray]) -> dict[str, npt.NDArray]:
        """`rows` of the studies of `predictions`, in the order of the test studies; NaN for those not in it."""
        place = {study: row for row, study in enumerate(predictions.study_ids.tolist())}
        order = np.array([place.get(study, -1) for study in self.test.study_ids.tolist()])
        return {key: np.where((order >= 0)[:, None], values[order], np.nan) for key, values in rows.items()}

    def _best(self) -> Answers | None:
        if self.oracle is None:
            return None
        place = {study: row for row, study in enumerate(np.asarray(self.oracle.study_ids).tolist())}
        order = [place[study] for study in self.test.study_ids.tolist()]
        rows = {
            key: np.where(np.isnan(logits), np.nan, self.oracle.posteriors[key][order])
            for key, logits in self.test.fused.items()
        }
        return self._with_as_present(rows)


def _confounded(root: Path, study_ids: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_] | None:
    """Which studies have a hidden confounder, where the cohort knows it."""
    design = Design.load(root)
    if design is None:
        return None
    states = pd.read_csv(root / _STATES_FILE, dtype={"study": str}).set_index("study")
    return states.loc[study_ids.tolist(), list(design.states().confounders)].to_numpy(bool).any(axis=1)
