"""The training step and what is watched of it. No medical knowledge: that is in the model and the objectives.

Every random draw of a step comes from a generator seeded by the recipe's seed and the step, so that a run resumed from
a checkpoint walks exactly as one that was never interrupted. Several processes that share a batch make the step that
one would make, but for what dropout layers draw and batch normalisation sees, which is each process's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from consilium.domain.targets import step_slices
from consilium.modalities.draws import Draws
from consilium.modalities.registry import subset_key
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.network.subsets import few_subsets
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from training.data.augmentation import augmentations, augmented
from training.data.datamodule import TaughtBatch
from training.fitting.gradients import GRADIENTS
from training.fitting.modality_dropout import modality_dropout
from training.fitting.objectives.adversarial import Discriminator
from training.fitting.objectives.likelihood import Summed, log_likelihood_sum
from training.fitting.objectives.losses import Losses, aligns_sources, training_losses
from training.fitting.objectives.objective import StepOutputs
from training.fitting.objectives.target_steps import steps_likelihood_sum
from training.fitting.scheduled_module import STEP, VALIDATION_LOSS, ScheduledModule, seeded, stream_seed
from training.runtime.distributed import Share, average_statistics, mean_over_processes, rank


def build_model(recipe: Recipe, findings: FindingSet, preprocessing: Preprocessing) -> DiagnosisModel:
    """A model with random weights that depend on the recipe's seed alone."""
    return seeded(lambda: DiagnosisModel(recipe, findings, preprocessing), recipe.seed)


class TrainingModule(ScheduledModule):
    """A DiagnosisModel on its way through training.

    Parameters
    ----------
    model : DiagnosisModel
    recipe : Recipe
    findings : FindingSet
    key : str
        Names recipe, cohort, studies and fitted preprocessing. A checkpoint with another key is refused.
    preprocessing : Preprocessing
        That the batches are made by.
    sources : int
        Of the cohort; read where an objective makes them alike.
    """

    def __init__(
        self,
        model: DiagnosisModel,
        recipe: Recipe,
        findings: FindingSet,
        key: str,
        preprocessing: Preprocessing,
        sources: int = 0,
    ) -> None:
        super().__init__(model, recipe, key)
        self.model: DiagnosisModel = model
        self.discriminator: Discriminator | None = None
        if recipe.objectives.adversarial > 0:
            self.discriminator = seeded(lambda: Discriminator(model.fusion.state_width, sources), recipe.seed)
        self.findings = findings
        self.augmentations = augmentations(preprocessing)
        self._losses: Losses | None = None
        self._validated: dict[str, Tensor] = {}

    # --- training ----------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        self.model.begin_epoch(self.current_epoch)

    def training_step(self, batch: Batch | TaughtBatch, _: int) -> Tensor:
        batch, teachers = (batch.batch, batch.teachers) if isinstance(batch, TaughtBatch) else (batch, {})
        assert batch.labels is not None
        share = Share.of_batch(len(batch))
        # For the dropout layers. Once an epoch would not do: the loader draws from the same generator when an epoch
        # begins, before the module's hooks where a run is resumed and after them where it goes on.
        torch.manual_seed(stream_seed(self.recipe.seed, STEP + rank(), self.global_step))
        seed = stream_seed(self.recipe.seed, STEP, self.global_step)
        on_cpu = torch.Generator().manual_seed(seed)
        tokens = self.model.encode(self._augmented(batch, share, seed, on_cpu))
        present = {modality: one.present for modality, one in tokens.items()}
        kept = modality_dropout(present, self.recipe.modality_dropout, on_cpu, share)
        states = self.model.fusion(tokens)
        fused = self.model.answers(states)
        subset = self.model.answers(self.model.fusion(self.model.without(tokens, kept)))
        outputs = StepOutputs(
            labels=batch.labels,
            exclusive=self.findings.exclusive,
            fused=fused[:, : len(self.findings)],
            subset=subset[:, : len(self.findings)],
            unimodal=self.model.unimodal_logits(tokens),
            present=present,
            teachers=teachers,
            targets=self.findings.targets,
            steps=_steps(batch),
            fused_steps=fused[:, len(self.findings) :],
            subset_steps=subset[:, len(self.findings) :],
            **self._of_sources(batch, states if states.ndim == 2 else states.mean(dim=1)),
        )
        losses = training_losses(self.recipe.objectives, outputs)
        self._losses = losses
        values = mean_over_processes(torch.stack([*losses.terms.values(), losses.total]).detach())
        names = [f"train_{name}" for name in (*losses.terms, "total")]
        figures = dict(zip(names, values.unbind(), strict=True))
        self.log_dict({"train_total": figures.pop("train_total")}, batch_size=len(batch), prog_bar=True)
        self.log_dict(figures, batch_size=len(batch))
        return losses.total

    def _of_sources(self, batch: Batch, states: Tensor) -> dict[str, Tensor]:
        """The fields of `StepOutputs` by which sources are made alike; none where they are left as they are."""
        if not aligns_sources(self.recipe.objectives):
            return {}
        assert batch.sources is not None
        found = {"sources": batch.sources}
        if self.recipe.objectives.coral > 0:
            found["states"] = states
        if self.discriminator is not None:
            found["source_logits"] = self.discriminator(states)
        return found

    def _augmented(self, batch: Batch, share: Share, seed: int, on_cpu: torch.Generator) -> Batch:
        on_device = torch.Generator(self.device).manual_seed(seed)
        return augmented(batch, self.augmentations, Draws(share.studies, on_device, on_cpu, share.take))

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        del loss, args, kwargs
        losses, self._losses = self._losses, None
        assert losses is not None
        GRADIENTS[self.recipe.objectives.gradient](losses, list(self.model.encoders.values()), self)

    def on_after_backward(self) -> None:
        average_statistics(self.model)

    def compile_networks(self) -> None:
        """Compile the encoders and the fusion, for batches of any size."""
        for network in (*self.model.encoders.values(), self.model.fusion):
            network.compile(dynamic=True)

    # --- validation --------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, _: int) -> None:
        assert batch.labels is not None
        tokens = self.model.encode(batch)
        answers = self.model.subsets(tokens, few_subsets(self.model.modalities))
        for key, logits in answers.items():
            rows = torch.stack([one.present for m, one in tokens.items() if m in _members(key)]).all(dim=0)
            own = logits[:, : len(self.findings)]
            sums = log_likelihood_sum(own, batch.labels, exclusive=self.findings.exclusive, rows=rows)
            self._add_validated(key, sums)
        everything = answers[subset_key(self.model.modalities)][:, len(self.findings) :]
        for target, steps in zip(self.findings.targets, step_slices(self.findings.targets), strict=True):
            self._add_validated(
                f"target_{target.name}", steps_likelihood_sum(everything[:, steps], _steps(batch)[:, steps])
            )

    def _add_validated(self, name: str, sums: Summed) -> None:
        now = torch.stack(sums).double()
        self._validated[name] = self._validated[name] + now if name in self._validated else now

    def on_validation_epoch_end(self) -> None:
        # Every batch has a sum for every subset, so all processes have the same keys.
        sums = mean_over_processes(torch.stack(list(self._validated.values())))
        losses = {
            # MLflow takes no plus sign in a name.
            f"{VALIDATION_LOSS}_{key.replace('+', '_')}": (total / count).float()
            for key, (total, count) in zip(self._validated, sums, strict=True)
            if count > 0
        }
        self._validated = {}
        if not losses:
            raise TrainingError("the validation split has no study with a known label")
        # The same in every process already; Lightning would warn of one that is not declared so.
        mean = torch.stack(list(losses.values())).mean()
        self.log_dict(losses, sync_dist=True)
        self.log_dict({VALIDATION_LOSS: mean}, sync_dist=True, prog_bar=True)


def _steps(batch: Batch) -> Tensor:
    return torch.empty(len(batch), 0) if batch.steps is None else batch.steps


def _members(key: str) -> Sequence[str]:
    return key.split("+")
