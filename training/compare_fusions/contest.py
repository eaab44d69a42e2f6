"""From trained contenders to a comparison: calibrate, add what needs no training, judge."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from consilium.calibration import Calibration, patient_bootstrap
from consilium.recipe import Recipe
from consilium.study import Modality, subset_key
from training.cohorts.cohort import Cohort
from training.cohorts.phantom.oracle import POSTERIORS_FILE, load_oracle
from training.cohorts.phantom.state import CONFOUNDERS
from training.compare_fusions.comparison import Comparison
from training.compare_fusions.judging import (
    AS_PRESENT,
    Answers,
    Bench,
    Contender,
    difference_table,
    explaining_away_table,
    measure,
    share_table,
)
from training.compare_fusions.rules import mean_answer, product_of_experts, summed_scores
from training.compare_fusions.trained import Trained
from training.evaluate import calibrate
from training.metrics import Sample
from training.predictions import Predictions

_log = logging.getLogger(__name__)

SUM, PRODUCT = "rule/sum_of_log_odds", "rule/product_of_experts"
BOUND = "bound/product_of_experts"
"""Experts who know all that their modality can tell: what no sum of log-odds can exceed."""

_STATES_FILE = "truth/states.csv"
_POINT_REPLICATES = 1  # operating points take no part here, nor do their intervals


def compare(trained: Mapping[str, Sequence[Trained]], recipe: Recipe, cohort: Cohort) -> Comparison:
    """Judge everything that was trained, and what follows from it without training.

    Parameters
    ----------
    trained : mapping of contender's name to sequence of Trained
        One a seed; ``end_to_end/late`` has the opinions of the modalities' own heads.
    """
    judge = _Judge(recipe, cohort, trained["end_to_end/late"][0].test)
    _log.info("judging on %d test studies", len(judge.test))
    teachers = trained["end_to_end/late"]
    best = min(
        (name for name in trained if name.startswith("fusion/")),
        key=lambda name: np.mean([one.validation_loss for one in trained[name]]),
    )
    contenders = [*judge.rules(teachers), *(judge.contender(name, ones) for name, ones in trained.items())]
    if len(trained[best]) > 1:
        contenders.append(judge.ensemble(f"ensemble/{best.partition('/')[2]}", trained[best]))
    contenders += judge.bounds()
    bench = judge.bench
    everything = subset_key(recipe.modalities)
    measurements = measure(bench, contenders)
    tables = {
        "contenders": pd.DataFrame(
            [{"contender": c.name, "seconds": c.seconds, "parameters": c.parameters} for c in contenders]
        ),
        "shares": share_table(bench, contenders, measurements),
        "differences": difference_table(measurements, [SUM, PRODUCT, best]),
    }
    if bench.confounded is not None:
        subsets = [everything, AS_PRESENT]
        tables["explaining_away"] = explaining_away_table(bench, contenders, [SUM, PRODUCT], subsets)
    return Comparison(everything, SUM, best, tables)


class _Judge:
    """Calibrates contenders alike and lines them up with the test studies.

    Parameters
    ----------
    test : Predictions
        Names the test studies and what each of them has.
    """

    def __init__(self, recipe: Recipe, cohort: Cohort, test: Predictions) -> None:
        self.recipe = recipe
        self.findings = cohort.findings
        self.test = test
        self.oracle = load_oracle(cohort.root) if (cohort.root / POSTERIORS_FILE).is_file() else None
        weights = patient_bootstrap(test.patient_ids, recipe.evaluation.bootstrap, recipe.seed)
        confounded = _confounded(cohort.root, test.study_ids)
        self.bench = Bench(self.findings, Sample(test.labels, weights), self._best(), confounded)

    def contender(self, name: str, trained: Sequence[Trained]) -> Contender:
        """Its logits, calibrated on the calibration split of each training."""
        answers = tuple(self._answers(self._calibration(one.calibration), one.test) for one in trained)
        return Contender(name, answers, float(np.mean([one.seconds for one in trained])), trained[0].parameters)

    def rules(self, teachers: Sequence[Trained]) -> list[Contender]:
        """What follows from the modalities' own heads."""
        sums, products = [], []
        for teacher in teachers:
            alone = self._calibration(teacher.calibration)
            summed = self._calibration(summed_scores(teacher.calibration, alone))
            sums.append(self._answers(summed, summed_scores(teacher.test, alone)))
            opinions = {m: alone.opinion(values, m) for m, values in teacher.test.opinions.items()}
            products.append(self._product(opinions, expit(alone.prior_log_odds)))
        return [Contender(SUM, tuple(sums)), Contender(PRODUCT, tuple(products))]

    def ensemble(self, name: str, trained: Sequence[Trained]) -> Contender:
        """The mean probability of all seeds, calibrated again."""
        calibrations = [self._calibration(one.calibration) for one in trained]

        def mean(split: str) -> Predictions:
            said = [getattr(one, split) for one in trained]
            answers = [one.probabilities(c) for one, c in zip(said, calibrations, strict=True)]
            return mean_answer(said[0], answers, exclusive=self.findings.exclusive)

        answers = self._answers(self._calibration(mean("calibration")), mean("test"))
        seconds, size = (float(sum(getattr(one, name) for one in trained)) for name in ("seconds", "parameters"))
        return Contender(name, (answers,), seconds, int(size))

    def bounds(self) -> list[Contender]:
        """The best that experts of one modality each can do, where the cohort knows it."""
        if self.oracle is None:
            return []
        best = self.bench.oracle
        assert best is not None
        opinions = {modality: best[modality.value] for modality in self.recipe.modalities}
        # The mean posterior is the prior; over the whole cohort it is as good as exact.
        prior = np.mean([self.oracle.posteriors[modality.value].mean(axis=0) for modality in opinions], axis=0)
        return [Contender(BOUND, (self._product(opinions, prior),))]

    def _calibration(self, predictions: Predictions) -> Calibration:
        options = {"bootstrap": _POINT_REPLICATES, "seed": self.recipe.seed}
        return calibrate(predictions, self.findings, self.recipe.calibration, **options)

    def _answers(self, calibration: Calibration, test: Predictions) -> Answers:
        rows = self._in_line(test, test.probabilities(calibration))
        # Who cannot be heard without one modality has nothing to say of what each study has.
        whole = len(test.fused) == len(self.test.fused)
        return ({AS_PRESENT: self.test.as_present(rows)} if whole else {}) | rows

    def _product(self, opinions: Mapping[Modality, npt.NDArray], prior: npt.NDArray) -> Answers:
        exclusive = self.findings.exclusive
        rows = {key: product_of_experts(opinions, prior, key, exclusive=exclusive) for key in self.test.fused}
        return {AS_PRESENT: self.test.as_present(rows)} | rows

    def _in_line(self, said: Predictions, rows: Mapping[str, npt.NDArray]) -> dict[str, npt.NDArray]:
        """`rows` of the studies of `said`, in the order of the test studies; NaN for those not in it."""
        place = {study: row for row, study in enumerate(said.study_ids.tolist())}
        order = np.array([place.get(study, -1) for study in self.test.study_ids.tolist()])
        return {key: np.where((order >= 0)[:, None], values[order], np.nan) for key, values in rows.items()}

    def _best(self) -> Answers | None:
        if self.oracle is None:
            return None
        rows = {
            key: np.where(np.isnan(logits), np.nan, self.oracle.of(self.test.study_ids.tolist(), _members(key)))
            for key, logits in self.test.fused.items()
        }
        return {AS_PRESENT: self.test.as_present(rows)} | rows


def _members(key: str) -> list[Modality]:
    return [Modality(name) for name in key.split("+")]


def _confounded(root: Path, study_ids: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_] | None:
    """Which studies have a hidden confounder, where the cohort knows it."""
    if not (root / _STATES_FILE).is_file():
        return None
    states = pd.read_csv(root / _STATES_FILE, dtype={"study": str}).set_index("study")
    return states.loc[study_ids.tolist(), list(CONFOUNDERS)].to_numpy(bool).any(axis=1)
