"""What is added to Lightning's loop: whole checkpoints, our metrics, lasting early stopping, a quiet terminal."""

from __future__ import annotations

import io
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger

from consilium.domain.errors import TrainingError
from consilium.system.durable import replace_file
from training.fitting.scheduled_module import VALIDATION_LOSS
from training.runtime.tracking import MetricSink

_log = logging.getLogger(__name__)


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
        if status == "success":  # after an error nobody must wait for a store that is away
            self._sink.flush()


class LastingEarlyStopping(EarlyStopping):
    """Early stopping that is still in force where a run was cut off between its last epoch and its end."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class EpochLog(Callback):
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
def interruptible(trainer: lightning.Trainer) -> Iterator[None]:
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
def quiet() -> Iterator[None]:
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
            # A frozen text model stays in it.
            warnings.filterwarnings("ignore", message=".*module.* in eval mode at the start of training.*")
            # Which parameters a batch leaves unused is not known beforehand.
            warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified.*")
            # Lightning's own use of what torch is about to change.
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")
            yield
    finally:
        logger.setLevel(level)
