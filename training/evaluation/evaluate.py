"""Evaluation: calibrated probabilities beside the truth, every witness beside every other.

A row of an evaluation is one way of answering:

- ``fused/as_present``: the model, from what each study has; what the service would have said;
- ``fused/image+text``: the model, from that subset alone;
- ``alone/image``: the modality's own head;
- ``baseline/...``: a simpler method on the same studies;
- ``oracle/...``: the best possible answer, where the cohort knows it.

`evaluate` judges a held-out split, `evaluate_folds` the out-of-fold predictions of a cross-validation; both end in one
`Evaluation`, whose `probabilities` hold every row for further tests. Intervals are 95 %, by bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import Calibration, fit_calibration, patient_bootstrap
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from training.cohorts.cohort_kind import Oracle
from training.evaluation.comparisons import (
    MACRO,
    estimate_columns,
    find_leaks,
    leave_one_out_pairs,
    oracle_shares,
    paired_differences,
)
from training.evaluation.coverage import SetAnswers, coverage_table
from training.evaluation.reliability import reliability_table
from training.evaluation.metrics import BY_CHANCE, METRICS, Sample, interval, macro
from training.evaluation.predictions import Predictions
from training.evaluation.results import AS_PRESENT, Evaluation

Rows = dict[str, npt.NDArray]


def calibrate(
    predictions: Predictions, findings: FindingSet, recipe: CalibrationRecipe, *, bootstrap: int, seed: int
) -> Calibration:
    """`consilium.calibration.fit_calibration` on `predictions`."""
    return fit_calibration(
        findings,
        predictions.labels,
        predictions.patient_ids,
        predictions.fused,
        predictions.opinions,
        present=predictions.present,
        recipe=recipe,
        seed=seed,
        bootstrap=bootstrap,
    )


def evaluate(
    predictions: Predictions,
    calibration: Calibration,
    findings: FindingSet,
    *,
    oracle: Oracle | None = None,
    baselines: Mapping[str, npt.NDArray] | None = None,
    bootstrap: int,
    seed: int,
) -> Evaluation:
    """Judge `predictions`, of studies that neither the model nor `calibration` has learned from.

    Parameters
    ----------
    oracle : Oracle, optional
        Of a cohort that knows its best possible answer; must hold every study of `predictions`.
    baselines : mapping of str to float [N, F], optional
        Probabilities of simpler methods for the same studies, NaN where they have none.
    bootstrap : int
        Replicates.

    Raises
    ------
    TrainingError
        Where there is no study, the oracle lacks one, or a baseline is not [N, F].
    """
    if not len(predictions):
        raise TrainingError("there is no study to evaluate on")
    thresholds = np.broadcast_to(calibration.thresholds, predictions.labels.shape)
    rows = _model_rows(predictions, calibration)
    bounds = {} if oracle is None else _oracle_rows(predictions, oracle)
    rows |= _baseline_rows(predictions, baselines or {})
    weights = patient_bootstrap(predictions.patient_ids, bootstrap, seed)
    return _judge(
        predictions,
        findings,
        rows,
        bounds=bounds,
        weights=weights,
        thresholds=thresholds,
        calibration=calibration,
        sets=SetAnswers.of(predictions, calibration),
    )


def evaluate_folds(
    folds: Sequence[Predictions],
    findings: FindingSet,
    recipe: CalibrationRecipe,
    *,
    oracle: Oracle | None = None,
    baselines: Mapping[str, npt.NDArray] | None = None,
    bootstrap: int,
    seed: int,
) -> tuple[Evaluation, Calibration]:
    """Judge the out-of-fold predictions of a cross-validation together.

    Each fold is calibrated, and called at operating points, by the other folds' out-of-fold predictions, so no study
    has a say in its own probability. Where no study of the other folds has a modality, as it happens where folds are
    sources, nothing can calibrate its own head, which then says nothing of the fold. The calibration that is returned
    is fitted on all of them: it is the one to ship.

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
    rows, thresholds, sets = [], [], []
    for number, fold in enumerate(folds):
        calibration = calibrate_others(folds, number, findings, recipe, bootstrap=bootstrap, seed=seed)
        heard = {modality: said for modality, said in fold.opinions.items() if modality in calibration.alone}
        silent = {f"alone/{m}": np.full(fold.labels.shape, np.nan) for m in fold.opinions if m not in heard}
        rows.append(_model_rows(replace(fold, opinions=heard), calibration) | silent)
        thresholds.append(np.broadcast_to(calibration.thresholds, fold.labels.shape))
        sets.append(SetAnswers.of(fold, calibration))
    pooled = Predictions.concatenate(folds)
    joined = {name: np.concatenate([fold_rows[name] for fold_rows in rows]) for name in rows[0]}
    final = calibrate(pooled, findings, recipe, bootstrap=bootstrap, seed=seed)
    joined |= _baseline_rows(pooled, baselines or {})
    bounds = {} if oracle is None else _oracle_rows(pooled, oracle)
    weights = patient_bootstrap(pooled.patient_ids, bootstrap, seed)
    evaluation = _judge(
        pooled,
        findings,
        joined,
        bounds=bounds,
        weights=weights,
        thresholds=np.concatenate(thresholds),
        calibration=final,
        sets=SetAnswers.concatenate(sets),
        out_of_fold=True,
    )
    return evaluation, final


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
    others = _of_heard_modalities(Predictions.concatenate([other for k, other in enumerate(folds) if k != number]))
    return calibrate(others, findings, recipe, bootstrap=bootstrap, seed=seed)


def _of_heard_modalities(predictions: Predictions) -> Predictions:
    """Without the own heads of modalities that no study with a known label of some finding has."""
    known = ~np.isnan(predictions.labels)
    heard = {m: said for m, said in predictions.opinions.items() if (known & ~np.isnan(said)).any(axis=0).all()}
    return replace(predictions, opinions=heard)


def require_no_leak(evaluation: Evaluation) -> None:
    """`TrainingError` where a model is significantly better than the best possible answer."""
    if evaluation.leaks:
        raise TrainingError(
            "the model is better than the best possible answer, so something tells it the labels:\n"
            + "\n".join(f"  {leak}" for leak in evaluation.leaks)
        )


def _model_rows(predictions: Predictions, calibration: Calibration) -> Rows:
    fused = predictions.probabilities(calibration)
    rows: Rows = {AS_PRESENT: predictions.as_present(fused)}
    rows |= {f"fused/{subset}": values for subset, values in fused.items()}
    for modality, logits in predictions.opinions.items():
        rows[f"alone/{modality}"] = calibration.opinion(logits, modality)
    return rows


def _judge(
    predictions: Predictions,
    findings: FindingSet,
    rows: Rows,
    *,
    bounds: Rows,
    weights: npt.NDArray,
    thresholds: npt.NDArray,
    calibration: Calibration,
    sets: SetAnswers,
    out_of_fold: bool = False,
) -> Evaluation:
    """Tables of `rows`; `bounds` are the oracle's answers to those of them that it bounds."""
    sample = Sample(predictions.labels, weights)
    pairs = _pairs(rows)
    oracle = {row.replace("fused/", "oracle/"): values for row, values in bounds.items() if row.startswith("fused/")}
    bounded = {row: rows[row] for row in bounds}
    metrics = _metrics_table(findings, sample, rows | oracle, thresholds)
    tables = {
        "metrics": metrics,
        "operating_points": _operating_points_table(calibration, metrics),
        "reliability": reliability_table(findings, sample, _fused(rows)),
        "coverage": coverage_table(findings, predictions.labels, sets, out_of_fold=out_of_fold),
    }
    if pairs:
        tables["comparisons"] = paired_differences(findings, sample, rows, pairs)
    if bounds:
        tables["oracle_shares"] = oracle_shares(findings, sample, bounded, bounds)
    return Evaluation(
        findings=findings,
        study_ids=predictions.study_ids,
        patient_ids=predictions.patient_ids,
        labels=predictions.labels,
        probabilities=rows | oracle,
        thresholds=thresholds,
        tables=tables,
        leaks=find_leaks(findings, sample, bounded, bounds),
        sets=sets,
    )


def _fused(rows: Rows) -> Rows:
    """The model's own rows: from what each study has, then from every subset."""
    return {row: values for row, values in rows.items() if row.startswith("fused/")}


def _baseline_rows(predictions: Predictions, baselines: Mapping[str, npt.NDArray]) -> Rows:
    for name, values in baselines.items():
        if values.shape != predictions.labels.shape:
            expected = list(predictions.labels.shape)
            raise TrainingError(f"baseline {name}: must be {expected}, got {list(values.shape)}")
    return {f"baseline/{name}": np.asarray(values, np.float64) for name, values in baselines.items()}


def _oracle_rows(predictions: Predictions, oracle: Oracle) -> Rows:
    """The oracle's answer to each of the model's rows, aligned by study; NaN where the study lacks a modality."""
    place = {study: row for row, study in enumerate(np.asarray(oracle.study_ids).tolist())}
    lacking = [study for study in predictions.study_ids.tolist() if study not in place]
    if lacking:
        raise TrainingError(f"the oracle lacks {len(lacking)} of {len(predictions)} studies")
    order = np.array([place[study] for study in predictions.study_ids.tolist()])
    subsets = {}
    for subset, logits in predictions.fused.items():
        if subset not in oracle.posteriors:
            raise TrainingError(f"the oracle has no posterior given {subset}")
        posterior = np.asarray(oracle.posteriors[subset], np.float64)[order]
        subsets[subset] = np.where(np.isnan(logits), np.nan, posterior)
    rows: Rows = {AS_PRESENT: predictions.as_present(subsets)}
    rows |= {f"fused/{subset}": values for subset, values in subsets.items()}
    return rows | {f"alone/{modality}": subsets[modality] for modality in predictions.opinions}


def _pairs(rows: Rows) -> list[tuple[str, str]]:
    """What is set against what: all modalities against all but one, the model against each witness and baseline."""
    subsets = [row.removeprefix("fused/") for row in rows if row.startswith("fused/") and row != AS_PRESENT]
    without = [(f"fused/{a}", f"fused/{b}") for a, b in leave_one_out_pairs(subsets)]
    return without + [(AS_PRESENT, row) for row in rows if row.startswith(("alone/", "baseline/"))]


def _metrics_table(
    findings: FindingSet, sample: Sample, rows: Mapping[str, npt.NDArray], thresholds: npt.NDArray
) -> pd.DataFrame:
    """One line per row and finding, and their mean. The operating points are the model's: baselines have none."""
    lines = []
    for row, probabilities in rows.items():
        called = None if row.startswith("baseline/") else probabilities >= thresholds
        measured = sample.measure(probabilities, called)
        for name, one in [*zip(findings.names, measured, strict=True), (MACRO, macro(measured))]:
            line: dict[str, object] = {"finding": name, "row": row, "n": one.n, "positives": one.positives}
            for metric in METRICS:
                values = one.figures.get(metric, np.full(2, np.nan))
                line |= estimate_columns(metric, interval(metric, values))
            lines.append(line | {BY_CHANCE: float(one.figures[BY_CHANCE][0])})
    return pd.DataFrame(lines)


def _operating_points_table(calibration: Calibration, metrics: pd.DataFrame) -> pd.DataFrame:
    """Threshold, what it promised on the calibration split, and what it gave here.

    ``held_out``: the promise rests on studies that the probabilities were not fitted on.
    """
    judged = metrics[metrics["row"] == AS_PRESENT].set_index("finding")
    lines = []
    points = zip(calibration.findings, calibration.operating_points, calibration.points_held_out, strict=True)
    for finding, point, held_out in points:
        line: dict[str, object] = {"finding": finding.name, "threshold": point.threshold}
        line |= {"target_sensitivity": point.target_sensitivity, "held_out": held_out}
        line |= estimate_columns("calibration_sensitivity", point.sensitivity)
        line |= estimate_columns("calibration_specificity", point.specificity)
        for metric in ("sensitivity", "specificity", "precision", "f1"):
            columns = [metric, f"{metric}_low", f"{metric}_high"]
            line |= dict(zip(columns, judged.loc[[finding.name], columns].to_numpy(float)[0].tolist(), strict=True))
        lines.append(line)
    return pd.DataFrame(lines)
