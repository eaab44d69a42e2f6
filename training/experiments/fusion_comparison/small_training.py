"""Trainings that are small enough to be described by two functions: of a fusion on kept tokens, of the peer.

The loop, the schedule and the choice of the best epoch are those of every training (`training.fitting.training_run`).
Weights are not averaged: with so few steps an average would lag behind.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from training.fitting.objectives.likelihood import Summed
from training.fitting.scheduled_module import STEP, VALIDATION_LOSS, ScheduledModule, stream_seed
from training.fitting.training_run import run_training, take_kept_weights

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")


@dataclass(frozen=True, slots=True, eq=False)
class Fitted(Generic[M]):
    """A network with the weights of its best epoch.

    Attributes
    ----------
    epochs : int
        How many gave those weights.
    validation_loss : float
        Of that epoch.
    seconds : float
        Processor time of the training, all threads together; NaN where it was interrupted.
    """

    model: M
    epochs: int
    validation_loss: float
    seconds: float

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())


@dataclass(frozen=True, slots=True, eq=False)
class SmallTraining(Generic[B]):
    """What a training minimises and what is watched.

    Attributes
    ----------
    name : str
        In the log.
    loss : callable
        Of a batch; every random draw must come from the seed that it is given.
    watched : callable
        Of a validation batch: names and what is summed under each. The validation loss is the mean over the names of
        the mean under each.
    """

    name: str
    loss: Callable[[B, int], Tensor]
    watched: Callable[[B], Iterable[tuple[str, Summed]]]


def fit_small(
    training: SmallTraining[Any], model: M, recipe: Recipe, train: DataLoader, validation: DataLoader, folder: Path
) -> Fitted[M]:
    """Train `model` until its validation loss gets no lower for the recipe's patience.

    Parameters
    ----------
    folder : Path
        Keeps the checkpoints until the training has ended; an interrupted call with the same recipe is continued.

    Raises
    ------
    TrainingError
        The validation loss is not finite, or no validation study has a known label.
    """
    _log.info("training: %s", training.name)
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"ema": 0.0})})
    key = hashlib.sha256(f"{training.name}\n{recipe.to_yaml()}".encode()).hexdigest()
    checkpoints = folder / key[:16]
    fresh, started = not checkpoints.exists(), time.process_time()
    module = _SmallModule(training, model, recipe, key)
    loaders = _Loaders(train, validation)
    ended = run_training(module, loaders, checkpoints, None, epochs=recipe.training.epochs, validated=True)
    seconds = time.process_time() - started if fresh else float("nan")
    take_kept_weights(module, checkpoints, ended)
    shutil.rmtree(checkpoints)
    assert ended.validation_loss is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Fitted(model.to(device).eval(), ended.epochs, ended.validation_loss, seconds)


class _Loaders(lightning.LightningDataModule):
    def __init__(self, train: DataLoader, validation: DataLoader) -> None:
        super().__init__()
        self._train, self._validation = train, validation

    def train_dataloader(self) -> DataLoader:
        return self._train

    def val_dataloader(self) -> DataLoader:
        return self._validation


class _SmallModule(ScheduledModule):
    def __init__(self, training: SmallTraining[Any], model: nn.Module, recipe: Recipe, key: str) -> None:
        super().__init__(model, recipe, key)
        self._training = training
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def training_step(self, batch: Any, _: int) -> Tensor:
        seed = stream_seed(self.recipe.seed, STEP, self.global_step)
        torch.manual_seed(seed)
        loss = self._training.loss(batch, seed)
        self.log("train_total", loss.detach(), batch_size=1)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        for name, (total, count) in self._training.watched(batch):
            self._sums[name][0] += float(total)
            self._sums[name][1] += float(count)

    def on_validation_epoch_end(self) -> None:
        means = [total / count for total, count in self._sums.values() if count > 0]
        self._sums.clear()
        if not means:
            raise TrainingError("the validation split has no study with a known label")
        self.log(VALIDATION_LOSS, torch.tensor(float(np.mean(means)), dtype=torch.float64))
