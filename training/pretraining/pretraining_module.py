"""The pretraining step: a batch through the encoders and the objectives of one stage.

As in `training.fitting.lightning_module`, every draw of a step comes from the recipe's seed and the step alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.modalities.draws import Draws
from consilium.modalities.tokens import Encoder, Tokens
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from training.data.augmentation import Augmentation, augmentations
from training.fitting.scheduled_module import STEP, VALIDATION_LOSS, ScheduledModule, stream_seed
from training.pretraining.objectives.objective_table import WeightedObjectives
from training.pretraining.objectives.pretraining_objective import PretrainingStep

_VALIDATION = STEP + 1
"""Random stream of what is masked in validation: the same in every epoch."""


class Learner(nn.Module):
    """Encoders and objectives, whose weights are learned together."""

    def __init__(self, encoders: AlignedEncoders, objectives: WeightedObjectives) -> None:
        super().__init__()
        self.encoders = encoders
        self.objectives = objectives


class PretrainingModule(ScheduledModule):
    """A `Learner` on its way through one stage.

    Parameters
    ----------
    learner : Learner
    recipe : Recipe
        Of the stage.
    key : str
        Names all that the weights depend on. A checkpoint with another key is refused.
    preprocessing : Preprocessing
        That the batches are made by.
    frozen : sequence of str
        Modalities of which nothing is learned.
    """

    def __init__(
        self, learner: Learner, recipe: Recipe, key: str, preprocessing: Preprocessing, frozen: Sequence[str] = ()
    ) -> None:
        super().__init__(learner, recipe, key)
        self.model: Learner = learner
        self.augmentations = augmentations(preprocessing)
        self._frozen = tuple(frozen)
        self._validated: list[tuple[Tensor, int]] = []

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode; what is frozen stays in the latter, with its batch statistics."""
        super().train(mode)
        for name in self._frozen:
            for part in self.model.encoders.parts(name):
                part.eval()
        return self

    def on_train_epoch_start(self) -> None:
        for name, encoder in self.model.encoders.encoders.items():
            assert isinstance(encoder, Encoder)
            if name not in self._frozen:
                encoder.begin_epoch(self.current_epoch)
        self.train(self.training)  # what is frozen may still be in the mode in which the stage before left it

    def training_step(self, batch: Batch, _: int) -> Tensor:
        torch.manual_seed(stream_seed(self.recipe.seed, STEP, self.global_step))  # for the dropout layers
        seed = stream_seed(self.recipe.seed, STEP, self.global_step)
        total, terms = self.model.objectives(self._step(batch, seed, self.augmentations))
        self.log_dict({f"train_{name}": term.detach() for name, term in terms.items()}, batch_size=len(batch))
        self.log("train_total", total.detach(), batch_size=len(batch), prog_bar=True)
        return total

    def validation_step(self, batch: Batch, number: int) -> None:
        total, _ = self.model.objectives(self._step(batch, stream_seed(self.recipe.seed, _VALIDATION, number), {}))
        self._validated.append((total.double(), len(batch)))

    def on_validation_epoch_end(self) -> None:
        losses, self._validated = self._validated, []
        mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
        self.log(VALIDATION_LOSS, torch.as_tensor(mean).float(), prog_bar=True)

    def _step(self, batch: Batch, seed: int, changes: Mapping[str, Augmentation]) -> PretrainingStep:
        draws = Draws(len(batch), torch.Generator(self.device).manual_seed(seed), torch.Generator().manual_seed(seed))
        model = self.model.encoders
        view = partial(_view, model, batch, draws=draws)
        tokens = {name: view(name, changes) for name in model.modalities} if self.model.objectives.compares else {}
        return PretrainingStep(
            model=model,
            inputs=batch.inputs,
            tokens=tokens,
            embeddings={name: model.embed(name, found) for name, found in tokens.items()},
            present={name: batch.present(name) for name in model.modalities},
            # Two views must differ, in validation as well.
            views=lambda name: view(name, self.augmentations),
            draws=draws,
        )


@contextmanager
def without_gradient(model: AlignedEncoders, frozen: Sequence[str]) -> Iterator[None]:
    """While the context lasts, no weight asks for a gradient that places records of the modalities in `frozen`."""
    parts = [part for name in frozen for part in model.parts(name)]
    asked = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
    for weight in asked:
        weight.requires_grad = False
    try:
        yield
    finally:
        for weight in asked:
            weight.requires_grad = True


def _view(
    model: AlignedEncoders, batch: Batch, name: str, changes: Mapping[str, Augmentation], *, draws: Draws
) -> Tokens:
    inputs = batch.inputs[name]
    encoder = model.encoders[name]
    assert isinstance(encoder, Encoder)
    return encoder(changes[name](inputs, draws) if name in changes else inputs)
