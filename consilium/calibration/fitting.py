"""The fit: a calibration from a model's logits of studies that it was not trained on.

The calibration split's patients are dealt out in two. One part chooses the method and fits the probabilities; the other
is held out: sets, intervals and operating points rest on studies whose probabilities are as new to the calibration as
any later study's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from consilium.calibration.calibrator import fit_calibrator, log_odds
from consilium.calibration.conformal import fit_conformal
from consilium.calibration.operating_points import operating_point, patient_bootstrap
from consilium.calibration.patients import held_out_patients
from consilium.calibration.probabilities import Calibration
from consilium.calibration.selection import Choice, choose
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.diagnosis import OperatingPoint
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import subset_key

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_log = logging.getLogger(__name__)


def fit_calibration(
    findings: FindingSet,
    labels: npt.NDArray,
    patient_ids: npt.NDArray,
    fused: Mapping[str, npt.NDArray],
    unimodal: Mapping[str, npt.NDArray],
    *,
    present: Mapping[str, Bools],
    recipe: CalibrationRecipe,
    seed: int,
    bootstrap: int,
) -> Calibration:
    """Fit on the calibration split, in which each study counts with every subset of the modalities it has.

    Parameters
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    patient_ids : [N]
    fused : mapping of subset_key to float [N, F]
        Logits; rows of NaN where the study lacks a modality of the subset.
    unimodal : mapping of str to float [N, F]
        Logits of each modality's own head; rows of NaN where the study lacks it.
    present : mapping of str to bool [N]
        Which studies have each of the model's modalities.
    recipe : CalibrationRecipe
        Method, coverage, target sensitivity, and the share of the patients held out.
    bootstrap : int
        Replicates over patients, for the operating points' intervals.

    Raises
    ------
    TrainingError
        Where a finding has no positive or no negative study, a modality no study with a known label, or a logit is
        infinite.
    """
    labels, patient_ids = np.asarray(labels, np.float64), np.asarray(patient_ids)
    _require_both_classes(findings, labels)
    rows = {subset: np.asarray(values, np.float64) for subset, values in fused.items()}
    own = {modality: {modality: np.asarray(values, np.float64)} for modality, values in unimodal.items()}
    came_with = np.array(present_subsets(present))
    columns, needed = np.column_stack(list(present.values())), _needed(labels, came_with, own)
    held_out = held_out_patients(labels, columns, patient_ids, recipe.conformal_share, needed, seed)
    fitting = ~held_out
    prior = _prior_log_odds(findings, labels)
    learned = _select(rows, fitting)
    choice = choose(recipe.method, findings, labels[fitting], patient_ids[fitting], learned, prior, seed)
    _log_choice(choice)
    calibrator = fit_calibrator(choice.method, findings, labels[fitting], learned, prior, choice.shrinkage)
    alone = {
        modality: fit_calibrator(choice.method, findings, labels[fitting], _select(logits, fitting), prior)
        for modality, logits in own.items()
    }
    scores = {subset: calibrator(values, subset, exclusive=findings.exclusive) for subset, values in rows.items()}
    answers = {subset: log_odds(values, exclusive=findings.exclusive) for subset, values in scores.items()}
    points, enough = _operating_points(
        labels, _as_it_came(answers, came_with), held_out, patient_ids, recipe.target_sensitivity, seed, bootstrap
    )
    return Calibration(
        findings=findings,
        method=choice.method,
        fused=calibrator,
        alone=alone,
        prior_log_odds=tuple(prior.tolist()),
        operating_points=points,
        conformal=fit_conformal(labels, answers, came_with, held_out, recipe.coverage),
        fitted_on=int(fitting.sum()),
        held_out=int(held_out.sum()),
        points_held_out=enough,
        cross_validated_nll=choice.nll,
    )


def present_subsets(present: Mapping[str, Bools]) -> list[str]:
    """Key of what each study has, [N]; ``none`` where it has nothing.

    Parameters
    ----------
    present : mapping of str to bool [N]
        Which studies have each of the model's modalities.
    """
    rows = zip(*present.values(), strict=True)
    return [subset_key(m for m, there in zip(present, row, strict=True) if there) for row in rows]


def _operating_points(
    labels: Floats,
    answers: Floats,
    held_out: Bools,
    patient_ids: npt.NDArray,
    target_sensitivity: float,
    seed: int,
    bootstrap: int,
) -> tuple[tuple[OperatingPoint, ...], tuple[bool, ...]]:
    """A point per finding, and whether the held-out studies alone sufficed for it."""
    probabilities = expit(answers)
    known = ~np.isnan(labels) & ~np.isnan(probabilities)
    enough = [
        bool(
            ((labels[:, f] == 1) & known[:, f] & held_out).any()
            and ((labels[:, f] == 0) & known[:, f] & held_out).any()
        )
        for f in range(labels.shape[1])
    ]
    everyone = np.ones(len(labels), bool)
    points = []
    for f, alone in enumerate(enough):
        among = held_out if alone else everyone
        weights = patient_bootstrap(patient_ids[among], bootstrap, seed)
        points.append(operating_point(labels[among, f], probabilities[among, f], target_sensitivity, weights))
    return tuple(points), tuple(enough)


def _as_it_came(answers: Mapping[str, Floats], came_with: npt.NDArray[np.str_]) -> Floats:
    """Log-odds [N, F] given what each study has; NaN where it has nothing."""
    chosen = np.full_like(next(iter(answers.values())), np.nan)
    for subset, values in answers.items():
        here = came_with == subset
        chosen[here] = values[here]
    return chosen


def _select(rows: Mapping[str, Floats], kept: Bools) -> dict[str, Floats]:
    return {subset: values[kept] for subset, values in rows.items()}


def _needed(labels: Floats, came_with: npt.NDArray[np.str_], own: Mapping[str, Mapping[str, Floats]]) -> Bools:
    """What the fit cannot do without, bool [N, C]: both classes of each finding, labels for each modality's head."""
    any_present = (came_with != subset_key([]))[:, None]
    known = ~np.isnan(labels)
    columns = [any_present & (labels == 1), any_present & (labels == 0)]
    columns += [known & ~np.isnan(logits[modality]) for modality, logits in own.items()]
    return np.column_stack(columns)


def _log_choice(choice: Choice) -> None:
    compared = ", ".join(f"{name} {value:.4f}" for name, value in choice.nll.items())
    _log.info("calibration by %s%s", choice.method, f" (cross-validated NLL: {compared})" if compared else "")


def _require_both_classes(findings: FindingSet, labels: Floats) -> None:
    if labels.ndim != 2 or labels.shape[1] != len(findings):
        raise TrainingError(f"calibration labels must be [N, {len(findings)}], got {list(labels.shape)}")
    if findings.exclusive and ((np.nansum(labels, axis=1) > 1) | (labels == 0).all(axis=1)).any():
        raise TrainingError("findings exclude each other, but a calibration study has none or several of them")
    for finding, column in zip(findings, labels.T, strict=True):
        positive, negative = int((column == 1).sum()), int((column == 0).sum())
        if not positive or not negative:
            raise TrainingError(
                f"the calibration split has {positive} positive and {negative} negative studies of {finding.name}; "
                "calibration needs both"
            )


def _prior_log_odds(findings: FindingSet, labels: Floats) -> Floats:
    """Log-odds of the prevalence among known labels; half a study is added to each class (Jeffreys)."""
    positive = (labels == 1).sum(axis=0) + 0.5
    if findings.exclusive:
        return logit(positive / positive.sum())
    return np.log(positive) - np.log((labels == 0).sum(axis=0) + 0.5)
