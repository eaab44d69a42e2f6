"""Teachers: a model of each modality alone, for `objectives.distillation`.

A modality that learns beside stronger ones learns less than it would alone; what it would have learned is told to its
own head (uni-modal teacher, Du et al., "On Uni-Modal Feature Learning in Supervised Multi-Modal Learning", ICML 2023).
Teachers are trained on the very training studies and heard on them once, so that a step of the student costs no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.recipe import Recipe
from consilium.study import Modality
from training.datamodule import CachedCohort
from training.fit import fit
from training.predict import predict
from training.tracking import MetricSink

_log = logging.getLogger(__name__)


def teacher_recipe(recipe: Recipe, modality: Modality) -> Recipe:
    """`recipe` for `modality` alone, without a teacher of its own."""
    objectives = recipe.objectives.model_copy(update={"distillation": 0.0, "gradient": "sum"})
    return recipe.model_copy(update={"modalities": (modality,), "objectives": objectives})


def train_teachers(
    cached: CachedCohort,
    recipe: Recipe,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64] | None,
    folder: Path,
    sink: Callable[[Modality], MetricSink],
    *,
    epochs: int | None = None,
    progress: bool = False,
) -> dict[Modality, npt.NDArray[np.float32]]:
    """What `fit` takes as `teachers`: logits [N, F] of every study at `train`, NaN for all others.

    Parameters
    ----------
    folder : Path
        Of these trainings alone; what it holds of an interrupted call is continued.
    sink : callable
        Where the metrics of a modality's teacher go.
    epochs : int or None
        As in `fit`.

    Raises
    ------
    TrainingError
        As `fit`.
    """
    place = {cached.cohort.records[row].study_id: row for row in train.tolist()}
    teachers = {}
    for modality in recipe.modalities:
        _log.info("teacher: %s alone", modality.value)
        alone = teacher_recipe(recipe, modality)
        found = fit(
            cached, alone, train, validation, folder / modality.value, sink(modality), epochs=epochs, progress=progress
        )
        said = predict(found.model, found.preprocessing, cached, train, alone)
        logits = np.full(cached.cohort.labels.shape, np.nan, np.float32)
        logits[[place[study] for study in said.study_ids.tolist()]] = said.fused[modality.value]
        teachers[modality] = logits
    return teachers
