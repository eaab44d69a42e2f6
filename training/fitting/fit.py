"""One training: from prepared studies to the weights of the best epoch, resumable at any moment.

Lightning runs the loop (`training.fitting.training_run`), in as many processes as the recipe says. Beside the
checkpoints the folder holds ``fit.json`` once the training has ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.system.durable import replace_json
from consilium.system.threads import limit_threads
from training.data.datamodule import CachedCohort, StudyDataModule, StudyDataset
from training.fitting.lightning_module import TrainingModule, build_model
from training.fitting.objectives.losses import needs_teachers
from training.fitting.training_run import Ended, run_training, take_kept_weights
from training.runtime.process_group import process_group, together
from training.runtime.tracking import MetricSink

_ENDED = "fit.json"

Teachers = Mapping[str, npt.NDArray[np.float32]]
"""Logits [N, F] of a model of each modality alone for every study of a cohort; NaN where it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A trained model.

    Attributes
    ----------
    model : DiagnosisModel
        With the weights of the best epoch, on the CPU, in evaluation mode.
    epochs : int
        How many epochs gave those weights.
    steps : int
        Optimiser steps of the whole training, those after the best epoch included.
    validation_loss : float or None
        Of the best epoch; None where there was no validation.
    """

    model: DiagnosisModel
    preprocessing: Preprocessing
    epochs: int
    steps: int
    validation_loss: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What every process of a training must know."""

    cached: CachedCohort
    recipe: Recipe
    preprocessing: Preprocessing
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64] | None
    folder: Path
    epochs: int
    teachers: Teachers

    def module(self) -> TrainingModule:
        findings = self.cached.cohort.findings
        model = build_model(self.recipe, findings, self.preprocessing)
        return TrainingModule(model, self.recipe, findings, self.key(), self.preprocessing)

    def data(self) -> StudyDataModule:
        train = self._dataset(self.train, "training")
        validation = None if self.validation is None else self._dataset(self.validation, "validation")
        _require_shares(self.recipe, train, validation)
        return StudyDataModule(self.preprocessing, train, validation, self.recipe, self.teachers)

    def _dataset(self, rows: npt.NDArray[np.int64], name: str) -> StudyDataset:
        dataset = StudyDataset(self.cached, self.preprocessing, rows)
        if not np.isfinite(dataset.labels).any():
            raise TrainingError(f"the {name} split has no readable study with a known label")
        return dataset

    def key(self) -> str:
        """Names everything that the weights depend on."""
        parts = [self.recipe.to_yaml(), self.cached.cohort.digest, self.preprocessing.digest, self.train.tolist()]
        parts += [self.epochs, None if self.validation is None else self.validation.tolist()]
        parts += [[m, hashlib.sha256(logits.tobytes()).hexdigest()] for m, logits in sorted(self.teachers.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def fit(
    cached: CachedCohort,
    recipe: Recipe,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64] | None,
    folder: Path,
    sink: MetricSink,
    *,
    epochs: int | None = None,
    progress: bool = False,
    teachers: Teachers | None = None,
) -> Fit:
    """Train on the studies at `train`, watching those at `validation`.

    What `folder` holds of an earlier, interrupted call with the same arguments is continued.

    Parameters
    ----------
    validation : int [n] or None
        None: all of `epochs` are trained and the last weights taken.
    folder : Path
        Of this training alone.
    sink : MetricSink
        Where metrics go.
    epochs : int or None
        Stop after so many, on the schedule of the recipe's own number; None: the recipe's.
    progress : bool
        Draw a progress bar; otherwise log a line per epoch.
    teachers : Teachers or None
        Needed where an objective of the recipe reads them; `training.fitting.teachers` trains them first.

    Raises
    ------
    TrainingError
        `folder` holds another training, the loss is not finite, a split has nothing to learn from or cannot be shared
        by the recipe's processes, or a teacher is missing.
    KeyboardInterrupt
        After a clean shutdown.
    """
    studies = (cached.studies[row] for row in train.tolist())
    preprocessing = Preprocessing.fit(recipe, studies, cached.cohort.variables)
    taught = _taught(cached, recipe, teachers)
    task = _Task(cached, recipe, preprocessing, train, validation, folder, epochs or recipe.training.epochs, taught)
    module = task.module()
    ended = _ended(folder, module.key)
    if ended is None:
        data = task.data()
        with process_group(recipe.training.devices) as leads:
            if leads:
                with together(_train_along, task):
                    ended = _train(task, module, data, sink, progress=progress)
                replace_json(folder / _ENDED, asdict(ended))
        ended = _ended(folder, module.key)
        assert ended is not None
    take_kept_weights(module, folder, ended)
    if not all(torch.isfinite(parameter).all() for parameter in module.model.parameters()):
        raise TrainingError("the trained weights are not finite; take a lower learning rate")
    return Fit(module.model.cpu().eval(), preprocessing, ended.epochs, ended.steps, ended.validation_loss)


def _train_along(task: _Task) -> None:
    """What the other processes do: the same, but nothing is recorded."""
    limit_threads(task.recipe.training.threads)
    _train(task, task.module(), task.data(), None, progress=False)


def _train(
    task: _Task, module: TrainingModule, data: StudyDataModule, sink: MetricSink | None, *, progress: bool
) -> Ended:
    if task.recipe.training.compile:
        module.compile_networks()
    return run_training(
        module, data, task.folder, sink, epochs=task.epochs, validated=data.validated, progress=progress
    )


def _require_shares(recipe: Recipe, train: StudyDataset, validation: StudyDataset | None) -> None:
    """Every process must have as many studies of each batch, and some to validate on."""
    devices, batch = recipe.training.devices, recipe.training.batch_size
    if devices == 1:
        return
    if batch % devices:
        raise TrainingError(f"training.batch_size ({batch}) must be a multiple of training.devices ({devices})")
    if len(train) < batch:
        raise TrainingError(f"{devices} processes need a whole batch of {batch} studies, and there are {len(train)}")
    if validation is not None and len(validation) < devices:
        raise TrainingError(f"{devices} processes cannot share {len(validation)} studies to validate on")


def _taught(cached: CachedCohort, recipe: Recipe, teachers: Teachers | None) -> Teachers:
    """The teachers of the recipe's modalities; none where no objective reads them."""
    if not needs_teachers(recipe.objectives):
        return {}
    shape = cached.cohort.labels.shape
    for modality in recipe.modalities:
        logits = (teachers or {}).get(modality)
        if logits is None or logits.shape != shape:
            given = "none" if logits is None else str(list(logits.shape))
            raise TrainingError(f"distillation needs the {modality} teacher's logits, {list(shape)}; got {given}")
    assert teachers is not None
    return {modality: np.asarray(teachers[modality], np.float32) for modality in recipe.modalities}


def _ended(folder: Path, key: str) -> Ended | None:
    file = folder / _ENDED
    if not file.exists():
        return None
    ended = Ended(**json.loads(file.read_text(encoding="utf-8")))
    if ended.key != key:
        raise TrainingError("the finished training found belongs to another recipe, cohort or split")
    return ended
