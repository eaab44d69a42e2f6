"""The training step and what is watched of it. No medical knowledge: that is in the model and the objectives.

Every random draw of a step comes from a generator seeded by the recipe's seed and the step, so that a run resumed from
a checkpoint walks exactly as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import lightning
import torch
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import PreTrainedTokenizerBase

from consilium.collate import Batch
from consilium.errors import TrainingError
from consilium.findings import FindingSet
from consilium.model import DiagnosisModel
from consilium.recipe import Recipe
from consilium.study import Modality, nonempty_subsets, subset_key
from training.augmentation import Augmentation, WordDropout
from training.objectives import log_likelihood_sum, modality_dropout, training_losses
from training.schedule import optimizer, scheduler

VALIDATION_LOSS = "validation_loss"
"""What early stopping and the choice of the best checkpoint look at: lower is better."""


def stream_seed(seed: int, stream: int, position: int) -> int:
    """A seed of its own for draw number `position` of the random `stream` of a run with `seed`."""
    return (seed * 1_000_003 + stream) * 1_000_000_007 + position & 0x7FFF_FFFF_FFFF_FFFF


_WEIGHTS, _STEP = range(2)


def build_model(recipe: Recipe, findings: FindingSet, preprocessing: Any) -> DiagnosisModel:
    """A model with random weights that depend on the recipe's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(recipe.seed, _WEIGHTS, 0))
        return DiagnosisModel(recipe, findings, preprocessing)


class TrainingModule(lightning.LightningModule):
    """A DiagnosisModel on its way through training.

    Parameters
    ----------
    model : DiagnosisModel
    recipe : Recipe
    findings : FindingSet
    key : str
        Names recipe, cohort, studies and fitted preprocessing. A checkpoint with another key is refused.
    tokenizer : PreTrainedTokenizerBase or None
        Of the notes; needed where the recipe blanks words.
    """

    def __init__(
        self,
        model: DiagnosisModel,
        recipe: Recipe,
        findings: FindingSet,
        key: str,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.findings = findings
        self.key = key
        self.augmentation = Augmentation(recipe.training.augmentation)
        self.word_dropout = _word_dropout(recipe, tokenizer)
        self.subset_losses = torch.nn.ModuleDict(
            {subset_key(subset): MeanMetric() for subset in nonempty_subsets(recipe.modalities)}
        )

    # --- training ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, _: int) -> Tensor:
        assert batch.labels is not None
        seed = stream_seed(self.recipe.seed, _STEP, self.global_step)
        # For the dropout layers. Once an epoch would not do: the loader draws from the same generator when an epoch
        # begins, before the module's hooks where a run is resumed and after them where it goes on.
        torch.manual_seed(seed)
        on_device = torch.Generator(self.device).manual_seed(seed)
        on_cpu = torch.Generator().manual_seed(seed)
        images = self.augmentation(batch.images, batch.image_mask, on_device)
        input_ids = batch.input_ids
        if self.word_dropout is not None:
            input_ids = self.word_dropout(input_ids, batch.text_mask, on_cpu)
        tokens = self.model.encode(replace(batch, images=images, input_ids=input_ids))
        present = {modality: said.present for modality, said in tokens.items()}
        kept = modality_dropout(present, self.recipe.training.modality_dropout, on_cpu)
        losses = training_losses(
            self.recipe.objectives,
            batch.labels,
            exclusive=self.findings.exclusive,
            fused=self.model.fuse(tokens),
            subset=self.model.fuse(self.model.without(tokens, kept)),
            opinions=self.model.opinions(tokens),
            present=present,
        )
        self.log_dict({f"train_{name}": loss.detach() for name, loss in losses.items()}, batch_size=len(batch))
        return losses["total"]

    def configure_optimizers(self) -> Any:
        adamw = optimizer(self.model, self.recipe.training)
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = scheduler(adamw, steps, self.recipe.training.warmup)
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    # --- validation --------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, _: int) -> None:
        assert batch.labels is not None
        tokens = self.model.encode(batch)
        for key, logits in self.model.subsets(tokens).items():
            rows = torch.stack([said.present for m, said in tokens.items() if m in _members(key)]).all(dim=0)
            total, count = log_likelihood_sum(logits, batch.labels, exclusive=self.findings.exclusive, rows=rows)
            if count > 0:
                self._metric(key).update(total / count, weight=count)

    def on_validation_epoch_end(self) -> None:
        losses: dict[str, Tensor] = {}
        for key in self.subset_losses:
            metric = self._metric(key)
            if metric.update_called:
                # MLflow takes no plus sign in a name.
                losses[f"{VALIDATION_LOSS}_{key.replace('+', '_')}"] = metric.compute()
            metric.reset()
        if not losses:
            raise TrainingError("the validation split has no study with a known label")
        losses[VALIDATION_LOSS] = torch.stack(list(losses.values())).mean()
        self.log_dict(losses)

    def _metric(self, key: str) -> MeanMetric:
        return cast(MeanMetric, self.subset_losses[key])

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["consilium_key"] = self.key

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("consilium_key") != self.key:
            raise TrainingError("the checkpoint belongs to another recipe, cohort or split; start without --resume")


def _members(key: str) -> Sequence[Modality]:
    return [Modality(name) for name in key.split("+")]


def _word_dropout(recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None) -> WordDropout | None:
    rate = recipe.training.augmentation.words
    if rate == 0 or Modality.TEXT not in recipe.modalities:
        return None
    if tokenizer is None:
        raise TrainingError("words can be blanked only where the notes' tokenizer is given")
    return WordDropout(rate, tokenizer, recipe.text.max_tokens)
