"""The whole fit: heads, how strongly each is held to 0, and their stack, by patient-grouped folds of the given studies.

The candidates for the strength are fixed by the recipe; of every modality the strongest is taken whose out-of-fold NLL
is not worse than the lowest by more than a standard error (Breiman et al., Classification and Regression Trees, 1984).
The stack is fitted on the out-of-fold evidence of these; the heads of the model are then fitted on all studies.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logsumexp

from consilium.configuration.recipe import ClosedFormRecipe
from consilium.domain.errors import TrainingError
from training.cohorts.splits import Fold, patient_folds
from training.fitting.closed_form.linear_head import LinearHead, Projection, prior_log_odds
from training.fitting.closed_form.stacking import Stack

Floats = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ClosedForm:
    """A linear model of M modalities.

    Attributes
    ----------
    heads : dict of str to LinearHead
    stack : Stack
    strengths : dict of str to float
        That were chosen.
    nll : dict of str to dict of float to float
        Out-of-fold NLL in nats, mean over patients, of each candidate, by modality.
    out_of_fold : float64 [n, F]
        Fused logits of the studies that it was fitted on, each from heads that have not seen its patient; the stack's
        weights have.
    """

    heads: dict[str, LinearHead]
    stack: Stack
    strengths: dict[str, float]
    nll: dict[str, dict[float, float]] = field(default_factory=dict)
    out_of_fold: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __call__(self, features: Mapping[str, npt.NDArray]) -> Floats:
        """Fused logits [N, F] from `features` [N, K] of each modality; a row of NaN where it is absent."""
        return self.stack({name: self.evidence(name, values) for name, values in features.items()})

    def evidence(self, modality: str, features: npt.NDArray) -> Floats:
        """Logits of the modality's head less its prior, [N, F]."""
        return self.heads[modality](features) - self.heads[modality].prior


@dataclass(frozen=True, slots=True, eq=False)
class _Studies:
    """What is fitted on: features [n, K] of each modality (NaN absent), labels [n, F] and the folds.

    `one_scale` names the modalities whose features are not standardised one by one.
    """

    features: Mapping[str, npt.NDArray]
    labels: Floats
    folds: Sequence[Fold]
    exclusive: bool
    width: int
    one_scale: Collection[str]

    def heads(self, modality: str, rows: npt.NDArray, strengths: Sequence[float]) -> list[LinearHead]:
        """One for each of `strengths`, of those of `rows` that have the modality; none where these are all alike."""
        rows = rows[_there(self.features[modality])[rows]]
        labels = self.labels[rows]
        if not _both_classes(labels):
            return []
        values = self.features[modality][rows]
        projection = Projection.fit(values, self.width, one_scale=modality in self.one_scale)
        projected = projection(values)
        return [LinearHead.fit(projection, projected, labels, one, exclusive=self.exclusive) for one in strengths]

    def out_of_fold(self, modality: str, strengths: Sequence[float]) -> list[Floats]:
        """Evidence [n, F] by heads of the other folds; 0 where these cannot have one, NaN where it is absent."""
        values = self.features[modality]
        absent = np.where(_there(values)[:, None], np.zeros_like(self.labels), np.nan)
        found = [absent.copy() for _ in strengths]
        for train, test in self.folds:
            for evidence, head in zip(found, self.heads(modality, train, strengths), strict=False):
                evidence[test] = head(values[test]) - head.prior
        return found


def fit_closed_form(
    features: Mapping[str, npt.NDArray],
    labels: npt.NDArray,
    patient_ids: npt.NDArray,
    recipe: ClosedFormRecipe,
    *,
    width: int,
    exclusive: bool,
    seed: int,
    one_scale: Collection[str] = (),
) -> ClosedForm:
    """Fit a linear model of n studies.

    Parameters
    ----------
    features : mapping of str to float [n, K of each]
        Of every modality; rows of NaN where a study lacks it.
    labels : float [n, F]
        1 present, 0 absent, NaN unknown.
    patient_ids : str [n]
    width : int
        Most components of each modality.
    one_scale : collection of str
        Modalities whose features are of one scale, see `Projection.fit`.

    Raises
    ------
    TrainingError
        No finding has studies of both classes among those with some modality, or there are fewer patients than folds.
    """
    truth = np.asarray(labels, np.float64)
    folds = patient_folds(truth.astype(np.float32), patient_ids, recipe.folds, seed)
    studies = _Studies(features, truth, folds, exclusive, width, one_scale)
    tried = {modality: _Tried.of(studies, modality, patient_ids, recipe.strengths) for modality in features}
    evidence = {modality: one.evidence for modality, one in tried.items()}
    stack = Stack.fit(evidence, truth, exclusive=exclusive)
    everyone = np.arange(len(truth))
    heads = {modality: studies.heads(modality, everyone, [one.strength])[0] for modality, one in tried.items()}
    strengths = {modality: one.strength for modality, one in tried.items()}
    _log_choice(stack, strengths)
    return ClosedForm(heads, stack, strengths, {modality: one.nll for modality, one in tried.items()}, stack(evidence))


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """What the folds say of one modality: the strength to take, its evidence [n, F], and the NLL of each candidate."""

    strength: float
    evidence: Floats
    nll: dict[float, float]

    @classmethod
    def of(cls, studies: _Studies, modality: str, patient_ids: npt.NDArray, strengths: Sequence[float]) -> _Tried:
        """Take the largest strength that is not worse than the best by more than a standard error of the patients.

        Raises
        ------
        TrainingError
            The studies with the modality are all alike.
        """
        if not _both_classes(studies.labels[_there(studies.features[modality])]):
            raise TrainingError(
                f"no finding has both positive and negative training studies with {modality}: give more studies, or "
                f"take {modality} out of the recipe's modalities"
            )
        ascending = sorted(strengths)
        evidence = studies.out_of_fold(modality, ascending)
        surprise = [_surprise(studies, one, patient_ids) for one in evidence]
        best = min(surprise, key=np.mean)
        able = [k for k, one in enumerate(surprise) if (one - best).mean() <= _standard_error(one - best)]
        nll = {strength: float(one.mean()) for strength, one in zip(ascending, surprise, strict=True)}
        return cls(ascending[able[-1]], evidence[able[-1]], nll)


def _standard_error(differences: Floats) -> float:
    return float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0


def _surprise(studies: _Studies, evidence: Floats, patient_ids: npt.NDArray) -> Floats:
    """NLL of one modality's out-of-fold answers in nats, [P]: the mean of each patient's known ones."""
    there = ~np.isnan(evidence).any(axis=1)
    labels = studies.labels[there]
    logits = evidence[there] + prior_log_odds(labels, exclusive=studies.exclusive)
    if studies.exclusive:
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        known = np.isin(labels, 1).sum(axis=1) == 1
        by_study = np.where(known, -np.where(labels == 1, log_p, 0.0).sum(axis=1), np.nan)[:, None]
    else:
        by_study = -np.where(labels == 1, log_expit(logits), log_expit(-logits))
        by_study[np.isnan(labels)] = np.nan
    patient = np.unique(patient_ids[there], return_inverse=True)[1]
    known = ~np.isnan(by_study)
    total = np.bincount(patient, np.where(known, by_study, 0.0).sum(axis=1))
    count = np.bincount(patient, known.sum(axis=1))
    return total[count > 0] / count[count > 0]


def _there(features: npt.NDArray) -> npt.NDArray[np.bool_]:
    return ~np.isnan(features).any(axis=1)


def _both_classes(labels: Floats) -> bool:
    return bool(((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any())


def _log_choice(stack: Stack, strengths: Mapping[str, float]) -> None:
    chosen = ", ".join(
        f"{name} {float(stack.weights[name].mean()):.2f} (strength {strength:g})"
        for name, strength in strengths.items()
    )
    _log.info("weights of the modalities: %s", chosen)
