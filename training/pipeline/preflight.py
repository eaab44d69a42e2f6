"""What can be known before anything is trained: whether a cohort has enough of all that a recipe asks for.

A training of hours must not end in what its first minute could tell. So what comes after the fit is tried before it, on
the studies that it will have and with logits that are made up: the same code raises the same error, and what to change
is added.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.configuration.recipe import CalibrationRecipe, Recipe
from consilium.domain.errors import TrainingError
from consilium.explain.methods import find_method
from consilium.modalities.registry import find_modality, nonempty_subsets, subset_key
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import OutOfDistributionDetector
from training.cohorts.cohort_kind import Oracle
from training.cohorts.splits import Fold, Indices, require_validation
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset
from training.evaluation.evaluate import calibrate, calibrate_others
from training.evaluation.predictions import Predictions
from training.fitting.closed_form.fit_stacked import require_findings_alone

_calibration_log = logging.getLogger("consilium.calibration.fitting")

_REPLICATES = 20
_MADE_UP_SEPARATION = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """A cohort as the model of some training studies will read it."""

    cached: CachedCohort
    recipe: Recipe
    preprocessing: Preprocessing

    @classmethod
    def on(cls, cached: CachedCohort, recipe: Recipe, train: Indices) -> _Fitted:
        """Prepare as for a fit on `train`, which must have all that is learned from it."""
        if recipe.fusion.linear or (recipe.fusion.name == "auto" and "stacked" in recipe.fusion.candidates):
            require_findings_alone(cached.cohort.findings)
        fitted = cls(cached, recipe, cached.preprocessing(recipe, train.tolist()))
        dataset = fitted.dataset(train)
        if not np.isfinite(dataset.labels).any():
            raise TrainingError(
                f"the training split ({len(train)} studies) has no readable study with a known label: give labels, or "
                "other fractions"
            )
        present = dataset.present
        for modality in recipe.modalities:
            if not present[modality].any():
                raise TrainingError(
                    f"none of {len(train)} training studies has {_one_record(modality)} that can be read: take "
                    f"{modality} out of the recipe's modalities, or give studies that have it"
                )
        for modality, name in recipe.explain.items():
            find_method(fitted.preprocessing, modality, name)
        if recipe.refer.out_of_distribution is not None:
            OutOfDistributionDetector.require_enough(present, len(dataset), recipe.seed)
        return fitted

    def dataset(self, rows: Indices) -> StudyDataset:
        return StudyDataset(self.cached, self.preprocessing, rows)

    def made_up(self, rows: Indices, where: str) -> Predictions:
        """Of the studies at `rows`, made-up predictions; `where` names them in an error."""
        dataset = self.dataset(rows)
        if not len(dataset):
            raise TrainingError(
                f"{where} ({len(rows)} studies) has no study that this recipe can read: give studies with "
                f"{' or '.join(_one_record(modality) for modality in self.recipe.modalities)}, or other fractions"
            )
        present = dataset.present
        records = [self.cached.cohort.records[row] for row in dataset.rows]
        labels = dataset.labels.astype(np.float64)
        sign = _MADE_UP_SEPARATION * (2 * np.where(np.isnan(labels), 0.5, labels) - 1)
        rng = np.random.default_rng(self.recipe.seed)

        def logits(of: Sequence[str]) -> npt.NDArray[np.float64]:
            has = np.all([present[modality] for modality in of], axis=0)
            return np.where(has[:, None], sign + rng.normal(size=sign.shape), np.nan)

        return Predictions(
            study_ids=np.array([record.study_id for record in records]),
            patient_ids=np.array([record.patient_id for record in records]),
            labels=labels,
            present=present,
            fused={subset_key(s): logits(tuple(s)) for s in nonempty_subsets(self.recipe.modalities)},
            unimodal={modality: logits((modality,)) for modality in self.recipe.modalities},
        )


def require_split(
    cached: CachedCohort, recipe: Recipe, parts: Mapping[str, Indices], oracle: Oracle | None = None
) -> None:
    """`TrainingError` where a model of ``parts["train"]`` could not be calibrated and evaluated on the other parts.

    Raises
    ------
    InputError
        The recipe itself cannot be, or a part has nothing of what it learns from.
    """
    fitted = _Fitted.on(cached, recipe, parts["train"])
    if len(parts["validation"]) and not np.isfinite(fitted.dataset(parts["validation"]).labels).any():
        raise TrainingError(
            "the validation split has no readable study with a known label: give studies, or other fractions; "
            "splits.validation=0 trains all epochs without one"
        )
    held_out = fitted.made_up(parts["calibration"], "the calibration split")
    share = f"splits.calibration ({len(held_out)} studies)"
    with _advice(f"give more studies or a larger {share}, or take a modality that few have out of the recipe"):
        calibrate(held_out, cached.cohort.findings, _quick(recipe), bootstrap=_REPLICATES, seed=recipe.seed)
    _require_oracle(fitted.made_up(parts["test"], "the test split"), oracle)


def require_folds(
    cached: CachedCohort,
    recipe: Recipe,
    pairs: Sequence[Fold],
    inner: Sequence[tuple[Indices, Indices | None]],
    oracle: Oracle | None = None,
) -> None:
    """As `require_split`, of a cross-validation: a model of each training part in `inner`, evaluated on its fold."""
    predictions = []
    for number, ((_, test), (train, validation)) in enumerate(zip(pairs, inner, strict=True), start=1):
        fitted = _Fitted.on(cached, recipe, train)
        if validation is not None:
            require_validation(cached.cohort, validation)
        predictions.append(fitted.made_up(test, f"the test side of fold {number} of {len(pairs)}"))
    findings, quick = cached.cohort.findings, _quick(recipe)
    with _advice("give more studies or fewer folds, or take a modality that few have out of the recipe"):
        for number in range(len(predictions)):
            calibrate_others(predictions, number, findings, quick, bootstrap=_REPLICATES, seed=recipe.seed)
        pooled = Predictions.concatenate(predictions)
        calibrate(pooled, findings, quick, bootstrap=_REPLICATES, seed=recipe.seed)
    _require_oracle(pooled, oracle)


@contextmanager
def _advice(what: str) -> Iterator[None]:
    """Add what to change to an error of what comes after a training, and keep what that logs for then."""
    _calibration_log.disabled = True
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{error}; nothing was trained: {what}") from None
    finally:
        _calibration_log.disabled = False


def _quick(recipe: Recipe) -> CalibrationRecipe:
    """The recipe's calibration without its choice of a method, which takes long and falls back to scaling."""
    chosen = recipe.calibration
    return chosen.model_copy(update={"method": "scaling"}) if chosen.method == "auto" else chosen


def _require_oracle(predictions: Predictions, oracle: Oracle | None) -> None:
    if oracle is None:
        return
    known = set(np.asarray(oracle.study_ids).tolist())
    lacking = [study for study in predictions.study_ids.tolist() if study not in known]
    if lacking:
        raise TrainingError(
            f"the oracle lacks {len(lacking)} of {len(predictions)} studies: the phantom's truth/ belongs to another "
            "cohort; write it anew, or read it as cohort.kind=manifest"
        )


def _one_record(modality: str) -> str:
    record = find_modality(modality).record
    return f"{'an' if record[0] in 'aeiou' else 'a'} {record}"
