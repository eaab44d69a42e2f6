"""Lightning's loop as every training here runs it: checkpoints, the best epoch, early stopping, clipping, resuming.

The folder of a training holds ``last.ckpt`` after every epoch and ``best.ckpt`` of the epoch with the lowest validation
loss.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.system.durable import replace_json
from training.fitting.averaging import MovingAverage
from training.fitting.callbacks import (
    DurableCheckpoints,
    EpochLog,
    LastingEarlyStopping,
    SinkLogger,
    interruptible,
    quiet,
)
from training.fitting.scheduled_module import VALIDATION_LOSS, ScheduledModule
from training.runtime.distributed import world
from training.runtime.process_group import machines
from training.runtime.tracking import MetricSink

_LAST, _BEST, _ENDED = "last.ckpt", "best.ckpt", "fit.json"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training ended.

    Attributes
    ----------
    key : str
        Of the module that was trained.
    epochs : int
        How many gave the weights that are kept.
    steps : int
        Optimiser steps of the whole training, those after the best epoch included.
    validation_loss : float or None
        Of the best epoch; None where there was no validation.
    """

    key: str
    epochs: int
    steps: int
    validation_loss: float | None


def run_training(
    module: ScheduledModule,
    data: lightning.LightningDataModule,
    folder: Path,
    sink: MetricSink | None,
    *,
    epochs: int,
    validated: bool,
    progress: bool = False,
) -> Ended:
    """Train `module` on `data` by its recipe, from where `folder` says that an interrupted call was.

    Parameters
    ----------
    sink : MetricSink or None
        Where metrics go; None: nowhere.
    epochs : int
        At most so many.
    validated : bool
        `data` has validation batches; otherwise all epochs are trained and the last weights are those to keep.

    Raises
    ------
    TrainingError
        The validation loss is not finite, or `folder` holds another training.
    KeyboardInterrupt
        After a clean shutdown.
    """
    recipe = module.recipe
    last = ModelCheckpoint(folder, filename="last", save_top_k=1, enable_version_counter=False, every_n_epochs=1)
    callbacks: list[Callback] = [EpochLog(), _bar()] if progress else [EpochLog()]
    if recipe.training.ema > 0:
        callbacks.append(MovingAverage(recipe.training.ema))
    best: ModelCheckpoint | None = None
    if validated:
        best = ModelCheckpoint(folder, filename="best", monitor=VALIDATION_LOSS, enable_version_counter=False)
        callbacks += [LastingEarlyStopping(VALIDATION_LOSS, patience=recipe.training.patience), best]
    with quiet():
        trainer = _trainer(recipe, [*callbacks, last], sink, epochs=epochs, progress=progress, validated=validated)
    start = folder / _LAST
    with interruptible(trainer), quiet():
        trainer.fit(module, data, ckpt_path=start if start.exists() else None, weights_only=True)
    if sink is not None:
        sink.flush()
    loss = float(best.best_model_score) if best is not None and best.best_model_score is not None else None
    found = _epoch_of(folder / _BEST) if validated else int(trainer.current_epoch)
    return Ended(module.key, found, int(trainer.global_step), loss)


def remember_end(folder: Path, ended: Ended) -> None:
    """Say in `folder` that its training is over."""
    replace_json(folder / _ENDED, asdict(ended))


def ended_before(folder: Path, key: str) -> Ended | None:
    """How the training in `folder` ended; None where it did not.

    Raises
    ------
    TrainingError
        It is of a module with another key.
    """
    file = folder / _ENDED
    if not file.exists():
        return None
    ended = Ended(**json.loads(file.read_text(encoding="utf-8")))
    if ended.key != key:
        raise TrainingError("the finished training found belongs to another recipe, cohort or split")
    return ended


def take_kept_weights(module: ScheduledModule, folder: Path, ended: Ended) -> None:
    """Give `module` the weights of the best epoch, or of the last one where there was no validation."""
    weights = folder / (_LAST if ended.validation_loss is None else _BEST)
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])


def precision(recipe: Recipe) -> str:
    """Lightning's name of the recipe's precision; ``auto`` is bf16 autocast on a GPU that has the units."""
    has_units = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = recipe.training.precision
    return "bf16-mixed" if wanted == "bf16" or (wanted == "auto" and has_units) else "32-true"


def _bar() -> RichProgressBar:
    return RichProgressBar(console_kwargs={"stderr": True})  # standard output is for answers


def _trainer(
    recipe: Recipe,
    callbacks: list[Callback],
    sink: MetricSink | None,
    *,
    epochs: int,
    progress: bool,
    validated: bool,
) -> lightning.Trainer:
    # Which encoders a share of a batch leaves unused differs from process to process, so DDP must look; parameters that
    # no process has used keep no gradient, as in one process. Statistics of batch normalisation are averaged by the
    # step: to broadcast them, as DDP does, would make validation wait for as many batches everywhere.
    several = DDPStrategy(find_unused_parameters=True, forward_sync_buffers=False)
    # One of torchrun's processes may train something by itself, which Lightning's own detection would not see.
    alone = [LightningEnvironment()] if world() == 1 else []
    nodes = machines() if world() > 1 else 1
    return lightning.Trainer(
        accelerator="auto",
        devices=world() // nodes,
        num_nodes=nodes,
        strategy=several if world() > 1 else "auto",
        precision=precision(recipe),
        max_epochs=epochs,
        gradient_clip_val=recipe.training.gradient_clip,
        # cuBLAS and cuDNN have deterministic ways for all but a few operations; those few warn.
        deterministic="warn" if torch.cuda.is_available() else None,
        callbacks=callbacks,
        plugins=[DurableCheckpoints(), *alone],
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
