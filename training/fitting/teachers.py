"""Teachers: a model of each modality alone, for `objectives.distillation`.

A modality that learns beside stronger ones learns less than it would alone; its own head is taught what it would have
learned (uni-modal teacher, Du et al., "On Uni-Modal Feature Learning in Supervised Multi-Modal Learning", ICML 2023).
Teachers are trained on the very training studies and predict them once, so that a step of the student costs no more.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.configuration.recipe import Recipe
from consilium.system.durable import replace_file
from training.data.cached_cohort import CachedCohort
from training.evaluation.predict import predict
from training.fitting.fit import Fit, WarmStart, fit
from training.fitting.objectives.losses import needs_teachers
from training.runtime.tracking import MetricSink

_log = logging.getLogger(__name__)

_LOGITS = "logits.npy"


def fit_with_teachers(
    cached: CachedCohort,
    recipe: Recipe,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64] | None,
    folder: Path,
    sink: Callable[[str], MetricSink],
    *,
    epochs: int | None = None,
    progress: bool = False,
    start: WarmStart | None = None,
) -> Fit:
    """`fit`, after a training of each modality's teacher where an objective of the recipe reads teachers.

    Parameters
    ----------
    folder : Path
        Of this training alone; the teachers' are kept in ``teachers`` below it.
    sink : callable
        Where metrics go: of the model for ``""``, of a modality's teacher for ``teacher_<modality>``.

    Raises
    ------
    TrainingError
        As `fit`.

    Notes
    -----
    The steps of the `Fit` are those of the model, without its teachers'.
    """

    def of_teacher(modality: str) -> MetricSink:
        return sink(f"teacher_{modality}")

    teachers = None
    if needs_teachers(recipe.objectives):
        below = folder / "teachers"
        teachers = train_teachers(
            cached, recipe, train, validation, below, of_teacher, epochs=epochs, progress=progress
        )
    student = sink("")
    options: dict[str, Any] = {"epochs": epochs, "progress": progress, "teachers": teachers, "start": start}
    return fit(cached, recipe, train, validation, folder, student, **options)


def teacher_recipe(recipe: Recipe, modality: str) -> Recipe:
    """`recipe` for `modality` alone, without a teacher of its own."""
    objectives = recipe.objectives.model_copy(
        update={"distillation": 0.0, "targets": 0.0, "coral": 0.0, "adversarial": 0.0, "gradient": "sum"}
    )
    return recipe.model_copy(update={"modalities": {modality: recipe.modalities[modality]}, "objectives": objectives})


def train_teachers(
    cached: CachedCohort,
    recipe: Recipe,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64] | None,
    folder: Path,
    sink: Callable[[str], MetricSink],
    *,
    epochs: int | None = None,
    progress: bool = False,
) -> dict[str, npt.NDArray[np.float32]]:
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
    teachers = {}
    for modality in recipe.modalities:
        _log.info("teacher: %s alone", modality)
        alone = teacher_recipe(recipe, modality)
        found = fit(
            cached, alone, train, validation, folder / modality, sink(modality), epochs=epochs, progress=progress
        )
        teachers[modality] = _kept(folder / modality / _LOGITS, partial(_predicted, found, cached, train, alone))
    return teachers


def _predicted(
    teacher: Fit, cached: CachedCohort, rows: npt.NDArray[np.int64], recipe: Recipe
) -> npt.NDArray[np.float32]:
    """Logits of `teacher` for the studies at `rows`, in the order of the cohort; NaN elsewhere."""
    predictions = predict(teacher.model, teacher.preprocessing, cached, rows, recipe)
    place = {cached.cohort.records[row].study_id: row for row in rows.tolist()}
    logits = np.full(cached.cohort.labels.shape, np.nan, np.float32)
    logits[[place[study] for study in predictions.study_ids.tolist()]] = predictions.fused[
        next(iter(recipe.modalities))
    ]
    return logits


def _kept(path: Path, make: Callable[[], npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """What `make` made the first time: a student that is resumed must get the same to the bit, on a GPU too."""
    if not path.exists():
        content = io.BytesIO()
        np.save(content, make(), allow_pickle=False)
        replace_file(path, content.getvalue())
    return np.load(path, allow_pickle=False)
