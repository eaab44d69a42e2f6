"""One training: from prepared studies to the weights of the best epoch, resumable at any moment.

Lightning runs the loop. Its folder holds ``last.ckpt`` after every epoch, ``best.ckpt`` of the epoch with the lowest
validation loss, and ``fit.json`` once the training has ended.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger

from consilium.collate import Preprocessing
from consilium.errors import TrainingError
from consilium.model import DiagnosisModel
from consilium.recipe import Recipe
from training.averaging import MovingAverage
from training.datamodule import CachedCohort, StudyDataModule, StudyDataset
from training.durable import replace_file, replace_json
from training.lightning_module import VALIDATION_LOSS, TrainingModule, build_model
from training.tracking import MetricSink

_log = logging.getLogger(__name__)

_LAST, _BEST, _ENDED = "last.ckpt", "best.ckpt", "fit.json"


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

    Raises
    ------
    TrainingError
        `folder` holds another training, the loss is not finite, or a split has nothing to learn from.
    KeyboardInterrupt
        After a clean shutdown.
    """
    preprocessing = Preprocessing.fit(recipe, (cached.studies[row] for row in train.tolist()))
    epochs = epochs or recipe.training.epochs
    key = _key(recipe, cached, preprocessing, train, validation, epochs)
    ended = _ended(folder, key)
    model = build_model(recipe, cached.cohort.findings, preprocessing)
    module = TrainingModule(model, recipe, cached.cohort.findings, key, preprocessing.tokenizer)
    if ended is None:
        data = StudyDataModule(
            preprocessing,
            _dataset(cached, preprocessing, train, "training"),
            None if validation is None else _dataset(cached, preprocessing, validation, "validation"),
            recipe,
        )
        ended = _train(module, data, recipe, folder, sink, epochs, progress)
    weights = folder / (_LAST if ended.validation_loss is None else _BEST)
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise TrainingError("the trained weights are not finite; take a lower learning rate")
    return Fit(model.cpu().eval(), preprocessing, ended.epochs, ended.steps, ended.validation_loss)


def precision(recipe: Recipe) -> str:
    """Lightning's name of the recipe's precision; ``auto`` is bf16 autocast on a GPU that has the units."""
    has_units = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = recipe.training.precision
    return "bf16-mixed" if wanted == "bf16" or (wanted == "auto" and has_units) else "32-true"


def _train(
    module: TrainingModule,
    data: StudyDataModule,
    recipe: Recipe,
    folder: Path,
    sink: MetricSink,
    epochs: int,
    progress: bool,
) -> _Ended:
    last = ModelCheckpoint(folder, filename="last", save_top_k=1, enable_version_counter=False, every_n_epochs=1)
    callbacks: list[Callback] = [_EpochLog(), RichProgressBar()] if progress else [_EpochLog()]
    if recipe.training.ema > 0:
        callbacks.append(MovingAverage(recipe.training.ema))
    best: ModelCheckpoint | None = None
    if data.validated:
        best = ModelCheckpoint(folder, filename="best", monitor=VALIDATION_LOSS, enable_version_counter=False)
        callbacks += [_LastingEarlyStopping(VALIDATION_LOSS, patience=recipe.training.patience), best]
    with _quiet():
        trainer = _trainer(recipe, epochs, [*callbacks, last], sink, progress=progress, validated=data.validated)
    start = folder / _LAST
    with _interruptible(trainer), _quiet():
        trainer.fit(module, data, ckpt_path=start if start.exists() else None, weights_only=True)
    sink.flush()
    loss = float(best.best_model_score) if best is not None and best.best_model_score is not None else None
    found = _epoch_of(folder / _BEST) if data.validated else int(trainer.current_epoch)
    ended = _Ended(module.key, found, int(trainer.global_step), loss)
    replace_json(folder / _ENDED, asdict(ended))
    return ended


def _trainer(
    recipe: Recipe, epochs: int, callbacks: list[Callback], sink: MetricSink, *, progress: bool, validated: bool
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision(recipe),
        max_epochs=epochs,
        gradient_clip_val=recipe.training.gradient_clip,
        # cuBLAS and cuDNN have deterministic ways for all but a few operations; those few warn.
        deterministic="warn" if torch.cuda.is_available() else None,
        callbacks=callbacks,
        plugins=[DurableCheckpoints()],
        logger=SinkLogger(sink),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        limit_val_batches=None if validated else 0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _epoch_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1


def _dataset(
    cached: CachedCohort, preprocessing: Preprocessing, rows: npt.NDArray[np.int64], name: str
) -> StudyDataset:
    dataset = StudyDataset(cached, preprocessing, rows)
    if not np.isfinite(dataset.labels).any():
        raise TrainingError(f"the {name} split has no readable study with a known label")
    return dataset


def _key(
    recipe: Recipe,
    cached: CachedCohort,
    preprocessing: Preprocessing,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64] | None,
    epochs: int,
) -> str:
    parts = [recipe.to_yaml(), cached.cohort.digest, preprocessing.digest, train.tolist(), epochs]
    parts.append(None if validation is None else validation.tolist())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _ended(folder: Path, key: str) -> _Ended | None:
    file = folder / _ENDED
    if not file.exists():
        return None
    ended = _Ended(**json.loads(file.read_text(encoding="utf-8")))
    if ended.key != key:
        raise TrainingError("the finished training found belongs to another recipe, cohort or split")
    return ended


class DurableCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning's own way writes into the system's temporary folder and moves the file, which is a copy where that folder
    is on another file system: a kill in the middle leaves half a checkpoint under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        del storage_options
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        replace_file(Path(path), buffer.getvalue())


class SinkLogger(Logger):
    """Hands Lightning's metrics to a `MetricSink`."""

    def __init__(self, sink: MetricSink) -> None:
        super().__init__()
        self._sink = sink

    @property
    def name(self) -> str:
        return "consilium"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._sink.log({name: value for name, value in metrics.items() if name != "epoch"}, step or 0)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The recipe is logged whole, once, when the run starts."""

    def finalize(self, status: str) -> None:
        del status
        self._sink.flush()


class _LastingEarlyStopping(EarlyStopping):
    """Early stopping that is still in force where a run was cut off between its last epoch and its end."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _EpochLog(Callback):
    """A line per epoch, and a stop where the loss is no number."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        loss = float(trainer.callback_metrics[VALIDATION_LOSS])
        if not np.isfinite(loss):
            raise TrainingError(f"the validation loss is {loss} in epoch {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        seen = trainer.callback_metrics
        losses = [f"{name} {float(seen[name]):.4f}" for name in ("train_total", VALIDATION_LOSS) if name in seen]
        epoch = f"epoch {trainer.current_epoch + 1} of at most {trainer.max_epochs}"
        _log.info("%s, step %d: %s", epoch, trainer.global_step, ", ".join(losses))


@contextmanager
def _interruptible(trainer: lightning.Trainer) -> Iterator[None]:
    """Lightning ends the process on Ctrl+C and leaves the signal ignored; here the caller decides."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that does not apply here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Batches come out of memory; `benchmarks/training_step.py` measures what loading costs.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # A small cohort has few batches an epoch; every step is logged all the same.
            warnings.filterwarnings("ignore", message=".*number of training batches.*")
            # Continuing in a folder with checkpoints is what resuming means.
            warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
            # Lightning's own use of what torch is about to change.
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")
            yield
    finally:
        logger.setLevel(level)
