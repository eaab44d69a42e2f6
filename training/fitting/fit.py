"""One training: from prepared studies to the weights of the best epoch, resumable at any moment.

Lightning runs the loop, in as many processes as the recipe says. The folder holds ``last.ckpt`` after every epoch,
``best.ckpt`` of the epoch with the lowest validation loss, and ``fit.json`` once the training has ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.system.durable import replace_json
from consilium.system.threads import limit_threads
from training.data.datamodule import CachedCohort, StudyDataModule, StudyDataset
from training.fitting.averaging import MovingAverage
from training.fitting.callbacks import (
    DurableCheckpoints,
    EpochLog,
    LastingEarlyStopping,
    SinkLogger,
    interruptible,
    quiet,
)
from training.fitting.lightning_module import VALIDATION_LOSS, TrainingModule, build_model
from training.fitting.objectives.losses import needs_teachers
from training.runtime.distributed import world
from training.runtime.process_group import process_group, together
from training.runtime.tracking import MetricSink

_LAST, _BEST, _ENDED = "last.ckpt", "best.ckpt", "fit.json"

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


@dataclass(frozen=True, slots=True)
class _Ended:
    """What ``fit.json`` says."""

    key: str
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
        text = self.preprocessing.preparations.get("text")
        return TrainingModule(model, self.recipe, findings, self.key(), None if text is None else text.tokenizer)

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
    weights = folder / (_LAST if ended.validation_loss is None else _BEST)
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    if not all(torch.isfinite(parameter).all() for parameter in module.model.parameters()):
        raise TrainingError("the trained weights are not finite; take a lower learning rate")
    return Fit(module.model.cpu().eval(), preprocessing, ended.epochs, ended.steps, ended.validation_loss)


def precision(recipe: Recipe) -> str:
    """Lightning's name of the recipe's precision; ``auto`` is bf16 autocast on a GPU that has the units."""
    has_units = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = recipe.training.precision
    return "bf16-mixed" if wanted == "bf16" or (wanted == "auto" and has_units) else "32-true"


def _train_along(task: _Task) -> None:
    """What the other processes do: the same, but nothing is recorded."""
    limit_threads(task.recipe.training.threads)
    _train(task, task.module(), task.data(), None, progress=False)


def _train(
    task: _Task, module: TrainingModule, data: StudyDataModule, sink: MetricSink | None, *, progress: bool
) -> _Ended:
    last = ModelCheckpoint(task.folder, filename="last", save_top_k=1, enable_version_counter=False, every_n_epochs=1)
    callbacks: list[Callback] = [EpochLog(), _bar()] if progress else [EpochLog()]
    if task.recipe.training.ema > 0:
        callbacks.append(MovingAverage(task.recipe.training.ema))
    best: ModelCheckpoint | None = None
    if data.validated:
        best = ModelCheckpoint(task.folder, filename="best", monitor=VALIDATION_LOSS, enable_version_counter=False)
        callbacks += [LastingEarlyStopping(VALIDATION_LOSS, patience=task.recipe.training.patience), best]
    if task.recipe.training.compile:
        module.compile_networks()
    with quiet():
        trainer = _trainer(task, [*callbacks, last], sink, progress=progress, validated=data.validated)
    start = task.folder / _LAST
    with interruptible(trainer), quiet():
        trainer.fit(module, data, ckpt_path=start if start.exists() else None, weights_only=True)
    if sink is not None:
        sink.flush()
    loss = float(best.best_model_score) if best is not None and best.best_model_score is not None else None
    found = _epoch_of(task.folder / _BEST) if data.validated else int(trainer.current_epoch)
    return _Ended(module.key, found, int(trainer.global_step), loss)


def _bar() -> RichProgressBar:
    return RichProgressBar(console_kwargs={"stderr": True})  # standard output is for answers


def _trainer(
    task: _Task, callbacks: list[Callback], sink: MetricSink | None, *, progress: bool, validated: bool
) -> lightning.Trainer:
    recipe = task.recipe
    # Which encoders a share of a batch leaves unused differs from process to process, so DDP must look; parameters that
    # no process has used keep no gradient, as in one process. Statistics of batch normalisation are averaged by the
    # step: to broadcast them, as DDP does, would make validation wait for as many batches everywhere.
    several = DDPStrategy(find_unused_parameters=True, forward_sync_buffers=False)
    return lightning.Trainer(
        accelerator="auto",
        devices=recipe.training.devices,
        strategy=several if world() > 1 else "auto",
        precision=precision(recipe),
        max_epochs=task.epochs,
        gradient_clip_val=recipe.training.gradient_clip,
        # cuBLAS and cuDNN have deterministic ways for all but a few operations; those few warn.
        deterministic="warn" if torch.cuda.is_available() else None,
        callbacks=callbacks,
        plugins=[DurableCheckpoints()],
        logger=False if sink is None else SinkLogger(sink),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        limit_val_batches=None if validated else 0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _epoch_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1


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


def _ended(folder: Path, key: str) -> _Ended | None:
    file = folder / _ENDED
    if not file.exists():
        return None
    ended = _Ended(**json.loads(file.read_text(encoding="utf-8")))
    if ended.key != key:
        raise TrainingError("the finished training found belongs to another recipe, cohort or split")
    return ended
