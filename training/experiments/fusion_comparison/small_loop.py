"""The training loop of whatever is small enough for a plain one: schedule, clipping, the best epoch, early stopping.

What it does follows `training.fitting.lightning_module` and `training.fitting.fit`: AdamW on a cosine per step, every
draw of a step from a seed of its own, the weights of the epoch with the lowest validation loss.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from training.fitting.lightning_module import stream_seed
from training.fitting.schedule import optimizer, scheduler

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")

_WEIGHTS, _STEP = range(2)


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
        Processor time of the training, all threads together.
    """

    model: M
    epochs: int
    validation_loss: float
    seconds: float

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())


def seeded(make: Callable[[], M], seed: int) -> M:
    """What `make` makes, with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, _WEIGHTS, 0))
        return make()


def fit_loop(
    name: str,
    model: M,
    recipe: Recipe,
    batches: Callable[[int], Iterable[B]],
    steps: int,
    loss: Callable[[B, int], Tensor],
    validation_loss: Callable[[], float],
) -> Fitted[M]:
    """Train `model` until its validation loss gets no lower for the recipe's patience.

    Parameters
    ----------
    name : str
        In the log.
    batches : callable
        Batches of an epoch, counted from 0.
    steps : int
        Batches an epoch.
    loss : callable
        Of a batch; every random draw must come from the seed that it is given.
    validation_loss : callable
        Of `model` as it stands, in evaluation mode.

    Raises
    ------
    TrainingError
        The validation loss is not finite.
    """
    started = time.process_time()
    training = recipe.training
    adamw = optimizer(model, training)
    schedule = scheduler(adamw, steps * training.epochs, training.warmup)
    best = Fitted(model, 0, np.inf, 0.0)
    for epoch in range(training.epochs):
        model.train()
        for number, batch in enumerate(batches(epoch)):
            seed = stream_seed(recipe.seed, _STEP, epoch * steps + number)
            torch.manual_seed(seed)
            adamw.zero_grad()
            torch.autograd.backward(loss(batch, seed))
            nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
            adamw.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            reached = validation_loss()
        if not np.isfinite(reached):
            raise TrainingError(f"the validation loss of {name} is {reached} in epoch {epoch + 1}")
        _log.info("%s: epoch %d of at most %d, validation %.4f", name, epoch + 1, training.epochs, reached)
        if reached < best.validation_loss:
            best = Fitted(copy.deepcopy(model), epoch + 1, reached, 0.0)
        elif epoch + 1 - best.epochs >= training.patience:
            break
    return replace(best, seconds=time.process_time() - started)
