"""One training: from prepared studies to the weights of the best epoch, resumable at any moment.

Lightning runs the loop (`training.fitting.training_run`), in as many processes as the recipe says. Beside the
checkpoints the folder holds ``fit.json`` once the training has ended.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.modalities.tokens import DenseEncoder
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.system.threads import limit_threads
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataModule, StudyDataset
from training.data.feature_cache import FeatureCache, feature_caches
from training.fitting.lightning_module import TrainingModule, build_model
from training.fitting.objectives.losses import aligns_sources, needs_teachers
from training.fitting.training_run import Ended, ended_before, remember_end, run_training, take_kept_weights
from training.runtime.process_group import process_group, together
from training.runtime.tracking import MetricSink

_log = logging.getLogger(__name__)

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
    parameters : dict
        How many weights were ``trained`` of ``all``: see `DiagnosisModel.parameter_counts`.
    """

    model: DiagnosisModel
    preprocessing: Preprocessing
    epochs: int
    steps: int
    validation_loss: float | None
    parameters: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class WarmStart:
    """A trained model to begin from: its weights, and what its studies were prepared by.

    Attributes
    ----------
    digest : str
        Of the artifact that it is from.
    """

    preprocessing: Preprocessing
    weights: Mapping[str, torch.Tensor]
    digest: str


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
    start: WarmStart | None = None

    def module(self) -> TrainingModule:
        findings = self.cached.cohort.findings
        if not self.recipe.objectives.targets:
            findings = replace(findings, targets=())
        model = build_model(self.recipe, findings, self.preprocessing)
        if self.start is not None:
            model.load_state_dict(dict(self.start.weights))
        sources = len(self.cached.cohort.sources)
        return TrainingModule(model, self.recipe, findings, self.key(), self.preprocessing, sources)

    def data(self, module: TrainingModule) -> StudyDataModule:
        """The studies, of which `module` computes anew in every epoch what is no frozen encoder's."""
        caches = feature_caches(module.model, self.preprocessing)
        unchanged = _unchanged(caches, module.augmentations)
        train = self._dataset(self.train, "training", unchanged)
        validation = None if self.validation is None else self._dataset(self.validation, "validation", caches)
        _require_shares(self.recipe, train, validation)
        _require_sources(self.recipe, train)
        for name in unchanged:
            observe(module.model.encoders[name], name, train, self.preprocessing, self.recipe)
        return StudyDataModule(self.preprocessing, train, validation, self.recipe, self.teachers)

    def _dataset(self, rows: npt.NDArray[np.int64], name: str, caches: Mapping[str, FeatureCache]) -> StudyDataset:
        dataset = StudyDataset(self.cached, self.preprocessing, rows, caches)
        if not np.isfinite(dataset.labels).any():
            raise TrainingError(f"the {name} split has no readable study with a known label")
        return dataset

    def key(self) -> str:
        """Names everything that the weights depend on."""
        parts = [self.recipe.to_yaml(), self.cached.cohort.digest, self.preprocessing.digest, self.train.tolist()]
        parts += [self.epochs, None if self.validation is None else self.validation.tolist()]
        parts += [] if self.start is None else [self.start.digest]
        parts += [self._sources()] if aligns_sources(self.recipe.objectives) else []
        parts += [[m, hashlib.sha256(logits.tobytes()).hexdigest()] for m, logits in sorted(self.teachers.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _sources(self) -> list[str | None]:
        """Of the training studies; the digest of a cohort does not name them."""
        return [self.cached.cohort.records[row].source for row in self.train.tolist()]


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
    start: WarmStart | None = None,
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
    start : WarmStart or None
        What the weights begin as; None: random, or as the recipe's sections say.

    Raises
    ------
    TrainingError
        The fusion is not trained by gradient, `folder` holds another training, the loss is not finite, a split has
        nothing to learn from or cannot be shared by the recipe's processes, a teacher is missing, or sources are to be
        made alike and the training studies have less than two.
    KeyboardInterrupt
        After a clean shutdown.
    """
    if recipe.fusion.name in ("stacked", "auto"):
        raise TrainingError(f"the fusion {recipe.fusion.name} is not trained by gradient descent; take another here")
    preprocessing = _prepared(cached, recipe, train, start)
    taught = _taught(cached, recipe, teachers)
    task = _Task(
        cached, recipe, preprocessing, train, validation, folder, epochs or recipe.training.epochs, taught, start
    )
    module = task.module()
    parameters = module.model.parameter_counts()
    ended = ended_before(folder, module.key)
    if ended is None:
        data = task.data(module)
        with process_group(recipe.training.devices) as leads:
            if leads:
                with together(_train_along, task):
                    ended = _train(task, module, data, sink, progress=progress)
                remember_end(folder, ended)
        ended = ended_before(folder, module.key)
        assert ended is not None
    take_kept_weights(module, folder, ended)
    if not all(torch.isfinite(parameter).all() for parameter in module.model.parameters()):
        raise TrainingError("the trained weights are not finite; take a lower learning rate")
    model = module.model.cpu().eval()
    model.end_training()
    return Fit(model, preprocessing, ended.epochs, ended.steps, ended.validation_loss, parameters)


def _prepared(
    cached: CachedCohort, recipe: Recipe, train: npt.NDArray[np.int64], start: WarmStart | None
) -> Preprocessing:
    """Fitted on the training studies, or that of the model that is begun from: its weights know no other."""
    if start is None:
        return cached.preprocessing(recipe, train.tolist())
    known = start.preprocessing
    return Preprocessing(recipe, known.preparations, known.variables, known.encoders)


def _train_along(task: _Task) -> None:
    """What the other processes do: the same, but nothing is recorded."""
    limit_threads(task.recipe.training.threads)
    module = task.module()
    _train(task, module, task.data(module), None, progress=False)


def _unchanged(caches: Mapping[str, FeatureCache], augmentations: Collection[str]) -> dict[str, FeatureCache]:
    """Those of `caches` whose modality is the same in every epoch."""
    for name in sorted(set(caches) & set(augmentations)):
        _log.warning(
            "%s: the encoder is frozen, and its training inputs are augmented, so its features are computed in every "
            "epoch; without the augmentation they are computed once",
            name,
        )
    return {name: cache for name, cache in caches.items() if name not in augmentations}


def observe(encoder: nn.Module, name: str, train: StudyDataset, preprocessing: Preprocessing, recipe: Recipe) -> None:
    """Show `encoder` the training studies that it will see the features of, once."""
    assert isinstance(encoder, DenseEncoder)
    if type(encoder).observe is DenseEncoder.observe:
        return
    collate = preprocessing.preparations[name].collate
    size = recipe.training.batch_size
    for start in range(0, len(train), size):
        studies = [train.whole(position) for position in range(start, min(start + size, len(train)))]
        encoder.observe(collate([study.parts[name] for study in studies]))


def _train(
    task: _Task, module: TrainingModule, data: StudyDataModule, sink: MetricSink | None, *, progress: bool
) -> Ended:
    if task.recipe.training.compile:
        module.compile_networks()
    return run_training(
        module, data, task.folder, sink, epochs=task.epochs, validated=data.validated, progress=progress
    )


def _require_sources(recipe: Recipe, train: StudyDataset) -> None:
    """Where an objective makes sources alike, there must be two."""
    found = len(np.unique(train.sources[train.sources >= 0]))
    if aligns_sources(recipe.objectives) and found < 2:
        raise TrainingError(
            f"objectives.coral and objectives.adversarial compare sources, and the training studies name {found}; "
            "give the column source, or set both to 0"
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
