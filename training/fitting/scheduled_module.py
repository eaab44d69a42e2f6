"""What every training has in common: seeded draws, the schedule, and checkpoints that belong to one training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import lightning
import torch
from torch import nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from training.fitting.schedule import optimizer, scheduler

VALIDATION_LOSS = "validation_loss"
"""What early stopping and the choice of the best checkpoint look at: lower is better."""

_WEIGHTS, STEP = range(2)
"""Random streams: of the first weights, of the draws in a step."""

M = TypeVar("M", bound=nn.Module)


def stream_seed(seed: int, stream: int, position: int) -> int:
    """A seed of its own for draw number `position` of the random `stream` of a run with `seed`."""
    return (seed * 1_000_003 + stream) * 1_000_000_007 + position & 0x7FFF_FFFF_FFFF_FFFF


def seeded(make: Callable[[], M], seed: int) -> M:
    """What `make` makes, with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, _WEIGHTS, 0))
        return make()


class ScheduledModule(lightning.LightningModule):
    """A network on its way through training by the recipe's schedule.

    Parameters
    ----------
    model : Module
    recipe : Recipe
    key : str
        Names all that the weights depend on. A checkpoint with another key is refused.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, key: str) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.key = key

    def configure_optimizers(self) -> Any:
        adamw = optimizer(self, self.recipe.training)
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = scheduler(adamw, steps, self.recipe.training.warmup)
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["consilium_key"] = self.key

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("consilium_key") != self.key:
            raise TrainingError("the checkpoint belongs to another recipe, cohort or split; start without --resume")
