"""Evaluation: calibrated probabilities beside the truth, every way of answering beside every other.

What answers is a `training.evaluation.rows.Row`: the fused model from all that a study has or from one modality subset,
a modality's own head, a baseline, the oracle. `evaluate` scores a held-out split, `evaluate_folds` the out-of-fold
predictions of a cross-validation; both end in one `Evaluation`. Intervals are 95 %, by bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import Calibration, fit_calibration, fit_steps, patient_bootstrap
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from training.cohorts.cohort_kind import Oracle
from training.cohorts.targets import step_labels
from training.evaluation.comparisons import (
    MACRO,
    estimate_columns,
    find_leaks,
    leave_one_out_pairs,
    oracle_shares,
    paired_differences,
)
from training.evaluation.coverage import SetAnswers, coverage_table
from training.evaluation.metrics import BY_CHANCE, METRICS, WITHIN_FOLDS, Sample, interval, macro
from training.evaluation.predictions import Predictions
from training.evaluation.reliability import reliability_table
from training.evaluation.results import Evaluation, ScoredStudies
from training.evaluation.rows import AS_PRESENT, Row, RowKind, alone, fused
from training.evaluation.targets.target_metrics import target_tables
from training.evaluation.targets.target_rows import PassedRows, oracle_passed, passed_rows

Rows = dict[Row, npt.NDArray]

FurtherTables = Callable[[ScoredStudies, Calibration], Mapping[str, pd.DataFrame]]
"""Makes tables, by name, of scored studies and the calibration that ships with the model."""


def no_further_tables(scored: ScoredStudies, calibration: Calibration) -> Mapping[str, pd.DataFrame]:
    """Only those that every evaluation has."""
    del scored, calibration
    return {}


def calibrate(
    predictions: Predictions, findings: FindingSet, recipe: CalibrationRecipe, *, bootstrap: int, seed: int
) -> Calibration:
    """`consilium.calibration.fit_calibration` on `predictions`, and `fit_steps` where there are targets."""
    fitted = fit_calibration(
        findings,
        predictions.labels,
        predictions.patient_ids,
        predictions.fused,
        predictions.unimodal,
        present=predictions.present,
        recipe=recipe,
        seed=seed,
        bootstrap=bootstrap,
    )
    of_targets = predictions.targets
    if of_targets is None:
        return fitted
    labels = step_labels(findings.targets, of_targets.outcomes)
    return replace(fitted, steps=fit_steps(findings.targets, labels, of_targets.logits))


def evaluate(
    predictions: Predictions,
    calibration: Calibration,
    findings: FindingSet,
    *,
    oracle: Oracle | None = None,
    baselines: Mapping[str, npt.NDArray] | None = None,
    further: FurtherTables = no_further_tables,
    bootstrap: int,
    seed: int,
) -> Evaluation:
    """Evaluate `predictions`, of studies that neither the model nor `calibration` has learned from.

    Parameters
    ----------
    oracle : Oracle, optional
        Of a cohort that knows its best possible answer; must hold every study of `predictions`.
    baselines : mapping of str to float [N, F], optional
        Probabilities of simpler methods for the same studies, NaN where they have none.
    further : FurtherTables
        Tables beside those that every evaluation has.
    bootstrap : int
        Replicates.

    Raises
    ------
    TrainingError
        Where there is no study, the oracle lacks one, or a baseline is not [N, F].
    """
    if not len(predictions):
        raise TrainingError("there is no study to evaluate on")
    answers = _Answers.of(predictions, calibration)
    return _evaluation(
        predictions,
        answers.beside(predictions, oracle, baselines),
        findings,
        calibration,
        further,
        weights=patient_bootstrap(predictions.patient_ids, bootstrap, seed),
    )


def evaluate_folds(
    folds: Sequence[Predictions],
    findings: FindingSet,
    recipe: CalibrationRecipe,
    *,
    oracle: Oracle | None = None,
    baselines: Mapping[str, npt.NDArray] | None = None,
    further: FurtherTables = no_further_tables,
    bootstrap: int,
    seed: int,
) -> tuple[Evaluation, Calibration]:
    """Evaluate the out-of-fold predictions of a cross-validation together.

    Each fold is calibrated, and called at operating points, by the other folds' out-of-fold predictions, so no study
    takes part in its own calibration. Where no study of the other folds has a modality, as it happens where folds are
    sources, nothing can calibrate its own head, which then answers nothing in the fold. The calibration that is
    returned is fitted on all of them: it is the one to ship.

    Parameters
    ----------
    folds : sequence of Predictions
        Out-of-fold predictions of each fold.
    baselines : mapping of str to float [N, F], optional
        In the order of ``Predictions.concatenate(folds)``.

    Raises
    ------
    TrainingError
        As `evaluate`; also where the studies outside one fold lack a class, or there is only one fold.
    """
    if len(folds) < 2:
        raise TrainingError(f"a cross-validation needs at least 2 folds, got {len(folds)}")
    answers = []
    for number, fold in enumerate(folds):
        calibration = calibrate_others(folds, number, findings, recipe, bootstrap=bootstrap, seed=seed)
        answers.append(_Answers.of_fold(fold, calibration))
    pooled = Predictions.concatenate(folds)
    final = calibrate(pooled, findings, recipe, bootstrap=bootstrap, seed=seed)
    evaluation = _evaluation(
        pooled,
        _Answers.concatenate(answers).beside(pooled, oracle, baselines),
        findings,
        final,
        further,
        weights=patient_bootstrap(pooled.patient_ids, bootstrap, seed),
        folds=np.repeat(np.arange(len(folds)), [len(fold) for fold in folds]),
    )
    return evaluation, final


def rows_of_folds(
    folds: Sequence[Predictions],
    findings: FindingSet,
    recipe: CalibrationRecipe,
    *,
    baselines: Mapping[str, npt.NDArray] | None = None,
    seed: int,
) -> Rows:
    """Probabilities of every row as `evaluate_folds` makes them, [N, F] in the order of the folds, and nothing else."""
    answers = []
    for number, fold in enumerate(folds):
        # The replicates are for intervals of operating points, which are not asked for.
        calibration = calibrate_others(folds, number, findings, recipe, bootstrap=1, seed=seed)
        answers.append(_Answers.of_fold(fold, calibration))
    pooled = Predictions.concatenate(folds)
    return _Answers.concatenate(answers).rows | _baseline_rows(pooled, baselines or {})


def calibrate_others(
    folds: Sequence[Predictions],
    number: int,
    findings: FindingSet,
    recipe: CalibrationRecipe,
    *,
    bootstrap: int,
    seed: int,
) -> Calibration:
    """`calibrate` on the out-of-fold predictions of every fold but the one at `number`."""
    others = _of_known_modalities(Predictions.concatenate([other for k, other in enumerate(folds) if k != number]))
    return calibrate(others, findings, recipe, bootstrap=bootstrap, seed=seed)


def _of_known_modalities(predictions: Predictions) -> Predictions:
    """Without the own heads of modalities that no study with a known label of some finding has."""
    known = ~np.isnan(predictions.labels)
    able = {m: logits for m, logits in predictions.unimodal.items() if (known & ~np.isnan(logits)).any(axis=0).all()}
    return replace(predictions, unimodal=able)


def require_no_leak(evaluation: Evaluation) -> None:
    """`TrainingError` where a model is significantly better than the best possible answer."""
    if evaluation.leaks:
        raise TrainingError(
            "the model is better than the best possible answer, so something gives the labels away:\n"
            + "\n".join(f"  {leak}" for leak in evaluation.leaks)
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Probabilities of every row, operating points and sets; the oracle's answers to rows; those for targets."""

    rows: Rows
    thresholds: npt.NDArray
    sets: SetAnswers
    bounds: Rows
    passed: PassedRows

    @classmethod
    def of(cls, predictions: Predictions, calibration: Calibration) -> _Answers:
        thresholds = np.broadcast_to(calibration.thresholds, predictions.labels.shape)
        sets = SetAnswers.of(predictions, calibration)
        passed = passed_rows(predictions.targets, calibration, predictions.as_present)
        return cls(_model_rows(predictions, calibration), thresholds, sets, {}, passed)

    @classmethod
    def of_fold(cls, fold: Predictions, calibration: Calibration) -> _Answers:
        """NaN for the own heads that the other folds could not calibrate."""
        able = {modality: logits for modality, logits in fold.unimodal.items() if modality in calibration.alone}
        answers = cls.of(replace(fold, unimodal=able), calibration)
        unable = {alone(m): np.full(fold.labels.shape, np.nan) for m in fold.unimodal if m not in able}
        return replace(answers, rows=answers.rows | unable)

    @classmethod
    def concatenate(cls, parts: Sequence[_Answers]) -> _Answers:
        return cls(
            {row: np.concatenate([part.rows[row] for part in parts]) for row in parts[0].rows},
            np.concatenate([part.thresholds for part in parts]),
            SetAnswers.concatenate([part.sets for part in parts]),
            {},
            {row: np.concatenate([part.passed[row] for part in parts]) for row in parts[0].passed},
        )

    def beside(
        self, predictions: Predictions, oracle: Oracle | None, baselines: Mapping[str, npt.NDArray] | None
    ) -> _Answers:
        """With the rows of the baselines and the bounds of the oracle."""
        rows = self.rows | _baseline_rows(predictions, baselines or {})
        if oracle is None:
            return replace(self, rows=rows)
        order = _order(predictions, oracle)
        passed = self.passed | oracle_passed(predictions.targets, oracle, order, predictions.as_present)
        return replace(self, rows=rows, bounds=_oracle_rows(predictions, oracle, order), passed=passed)

    @property
    def all_rows(self) -> Rows:
        """With the oracle's answers as rows of their own."""
        oracle = {Row(RowKind.ORACLE, row.name): v for row, v in self.bounds.items() if row.kind is RowKind.FUSED}
        return self.rows | oracle


def _evaluation(
    predictions: Predictions,
    answers: _Answers,
    findings: FindingSet,
    calibration: Calibration,
    further: FurtherTables,
    *,
    weights: npt.NDArray,
    folds: npt.NDArray[np.int64] | None = None,
) -> Evaluation:
    """`folds` [N]: of a cross-validation, which fold each study was answered in."""
    known: dict[str, Any] = {
        "findings": findings,
        "study_ids": predictions.study_ids,
        "patient_ids": predictions.patient_ids,
        "labels": predictions.labels,
        "probabilities": answers.all_rows,
        "thresholds": answers.thresholds,
        "sets": answers.sets,
    }
    sample = Sample(predictions.labels, weights, folds)
    tables = _tables(findings, sample, answers, calibration, out_of_fold=folds is not None)
    if predictions.targets is not None:
        tables |= target_tables(findings.targets, predictions.targets.outcomes, answers.passed, weights)
    tables |= further(ScoredStudies(**known), calibration)
    bounded = {row: answers.rows[row] for row in answers.bounds}
    return Evaluation(**known, tables=tables, leaks=tuple(find_leaks(findings, sample, bounded, answers.bounds)))


def _tables(
    findings: FindingSet, sample: Sample, answers: _Answers, calibration: Calibration, *, out_of_fold: bool
) -> dict[str, pd.DataFrame]:
    """Those that every evaluation has."""
    rows, bounds = answers.rows, answers.bounds
    metrics = _metrics_table(findings, sample, answers.all_rows, answers.thresholds)
    of_the_model = {row: values for row, values in rows.items() if row.kind is RowKind.FUSED}
    tables = {
        "metrics": metrics,
        "operating_points": _operating_points_table(calibration, metrics),
        "reliability": reliability_table(findings, sample, of_the_model),
        "coverage": coverage_table(findings, sample.labels, answers.sets, out_of_fold=out_of_fold),
    }
    pairs = _pairs(rows)
    if pairs:
        tables["comparisons"] = paired_differences(findings, sample, rows, pairs)
    if bounds:
        tables["oracle_shares"] = oracle_shares(findings, sample, {row: rows[row] for row in bounds}, bounds)
    return tables


def _model_rows(predictions: Predictions, calibration: Calibration) -> Rows:
    """Of the fused model and of every own head."""
    probabilities = predictions.probabilities(calibration)
    rows: Rows = {AS_PRESENT: predictions.as_present(probabilities)}
    rows |= {fused(subset): values for subset, values in probabilities.items()}
    for modality, logits in predictions.unimodal.items():
        rows[alone(modality)] = calibration.unimodal_probabilities(logits, modality)
    return rows


def _baseline_rows(predictions: Predictions, baselines: Mapping[str, npt.NDArray]) -> Rows:
    for name, values in baselines.items():
        if values.shape != predictions.labels.shape:
            expected = list(predictions.labels.shape)
            raise TrainingError(f"baseline {name}: must be {expected}, got {list(values.shape)}")
    return {Row(RowKind.BASELINE, name): np.asarray(values, np.float64) for name, values in baselines.items()}


def _oracle_rows(predictions: Predictions, oracle: Oracle, order: npt.NDArray[np.int64]) -> Rows:
    """The oracle's answer to each of the model's rows, its rows at `order`; NaN where the study lacks a modality."""
    subsets = {}
    for subset, logits in predictions.fused.items():
        if subset not in oracle.posteriors:
            raise TrainingError(f"the oracle has no posterior given {subset}")
        posterior = np.asarray(oracle.posteriors[subset], np.float64)[order]
        subsets[subset] = np.where(np.isnan(logits), np.nan, posterior)
    rows: Rows = {AS_PRESENT: predictions.as_present(subsets)}
    rows |= {fused(subset): values for subset, values in subsets.items()}
    return rows | {alone(modality): subsets[modality] for modality in predictions.unimodal}


def _order(predictions: Predictions, oracle: Oracle) -> npt.NDArray[np.int64]:
    """The oracle's row of each study."""
    place = {study: row for row, study in enumerate(np.asarray(oracle.study_ids).tolist())}
    lacking = [study for study in predictions.study_ids.tolist() if study not in place]
    if lacking:
        raise TrainingError(f"the oracle lacks {len(lacking)} of {len(predictions)} studies")
    return np.array([place[study] for study in predictions.study_ids.tolist()])


def _pairs(rows: Rows) -> list[tuple[Row, Row]]:
    """What is compared: all modalities with all but one, the model with each own head and baseline."""
    subsets = [row.name for row in rows if row.of_one_subset]
    without = [(fused(a), fused(b)) for a, b in leave_one_out_pairs(subsets)]
    return without + [(AS_PRESENT, row) for row in rows if row.kind in (RowKind.ALONE, RowKind.BASELINE)]


def _metrics_table(
    findings: FindingSet, sample: Sample, rows: Mapping[Row, npt.NDArray], thresholds: npt.NDArray
) -> pd.DataFrame:
    """One line per row and finding, and their mean. The operating points are the model's: baselines have none."""
    lines = []
    names = METRICS if sample.folds is None else (*METRICS, WITHIN_FOLDS)
    for row, probabilities in rows.items():
        called = None if row.kind is RowKind.BASELINE else probabilities >= thresholds
        measured = sample.measure(probabilities, called)
        for name, one in [*zip(findings.names, measured, strict=True), (MACRO, macro(measured))]:
            line: dict[str, object] = {"finding": name, "row": row, "n": one.n, "positives": one.positives}
            for metric in names:
                values = one.figures.get(metric, np.full(2, np.nan))
                line |= estimate_columns(metric, interval(metric, values))
            lines.append(line | {BY_CHANCE: float(one.figures[BY_CHANCE][0])})
    return pd.DataFrame(lines)


def _operating_points_table(calibration: Calibration, metrics: pd.DataFrame) -> pd.DataFrame:
    """Threshold, what was expected of it on the calibration split, and what it gave here.

    ``held_out``: the expectation rests on studies that the probabilities were not fitted on.
    """
    measured = metrics[metrics["row"] == AS_PRESENT].set_index("finding")
    lines = []
    points = zip(calibration.findings, calibration.operating_points, calibration.points_held_out, strict=True)
    for finding, point, held_out in points:
        line: dict[str, object] = {"finding": finding.name, "threshold": point.threshold}
        line |= {"target_sensitivity": point.target_sensitivity, "held_out": held_out}
        line |= estimate_columns("calibration_sensitivity", point.sensitivity)
        line |= estimate_columns("calibration_specificity", point.specificity)
        for metric in ("sensitivity", "specificity", "precision", "f1"):
            columns = [metric, f"{metric}_low", f"{metric}_high"]
            line |= dict(zip(columns, measured.loc[[finding.name], columns].to_numpy(float)[0].tolist(), strict=True))
        lines.append(line)
    return pd.DataFrame(lines)
