"""From prepared studies to pretrained encoders: one stage after the other, each resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from consilium.configuration.pretraining_stages import recipe_of_stages, stage_recipe
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.modalities.tokens import Encoder
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.splits import Indices
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataModule, StudyDataset
from training.fitting.scheduled_module import seeded
from training.fitting.training_run import Ended, ended_before, remember_end, run_training, take_kept_weights
from training.pretraining.objectives.objective_table import WeightedObjectives, build_objectives, compared_pairs
from training.pretraining.objectives.pretraining_objective import Pair
from training.pretraining.pretraining_module import Learner, PretrainingModule, without_gradient
from training.runtime.tracking import MetricSink

_log = logging.getLogger(__name__)

_FEWEST = 2


@dataclass(frozen=True, slots=True, eq=False)
class FittedStage:
    """One stage that is over.

    Attributes
    ----------
    name : str
    recipe : Recipe
        As the stage reads it.
    pairs : tuple of pairs
        Modalities that were compared; empty where no objective compares any.
    studies : int
        That were learned from.
    ended : Ended
    """

    name: str
    recipe: Recipe
    pairs: tuple[Pair, ...]
    studies: int
    ended: Ended


@dataclass(frozen=True, slots=True, eq=False)
class FittedEncoders:
    """What all stages together ended in.

    Attributes
    ----------
    model : AlignedEncoders
        On the CPU, in evaluation mode.
    preprocessing : Preprocessing
        Reads what any stage reads.
    stages : tuple of FittedStage
    """

    model: AlignedEncoders
    preprocessing: Preprocessing
    stages: tuple[FittedStage, ...]


def fit_encoders(
    cached: CachedCohort,
    recipe: Recipe,
    train: Indices,
    validation: Indices,
    folder: Path,
    sink: Callable[[str], MetricSink],
    *,
    progress: bool = False,
) -> FittedEncoders:
    """Pretrain the encoders of `recipe` on the studies at `train`.

    Parameters
    ----------
    validation : int [n]
        Say when a stage stops early; none: every stage trains all its epochs.
    folder : Path
        Of this pretraining alone; what it holds of an interrupted call is continued.
    sink : callable
        Where the metrics of the stage of that name go.

    Raises
    ------
    InputError
        The recipe has no objective, or one that its modalities cannot learn by.
    TrainingError
        There is nothing to learn from, the loss is not finite, or `folder` holds another pretraining.
    """
    if recipe.training.devices > 1:
        raise TrainingError(f"training.devices: got {recipe.training.devices}, pretraining runs in one process")
    reads_all = recipe_of_stages(recipe)
    preprocessing = cached.preprocessing(reads_all, train.tolist())
    model = seeded(lambda: AlignedEncoders(reads_all, preprocessing), recipe.seed)
    stages: list[FittedStage] = []
    for position, stage in enumerate(recipe.pretraining.all_stages):
        _log.info("stage %s", stage.name)
        reading = stage_preprocessing(preprocessing, stage_recipe(recipe, position), cached)
        task = _Stage(cached, recipe, position, reading, train, validation)
        before = stages[-1].ended.key if stages else ""
        stages.append(task.fit(model, folder / stage.name, before, sink(stage.name), progress=progress))
    for encoder in model.encoders.values():
        assert isinstance(encoder, Encoder)
        encoder.end_training()
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise TrainingError("the pretrained weights are not finite; take a lower learning rate")
    return FittedEncoders(model.cpu().eval(), preprocessing, tuple(stages))


def stage_preprocessing(preprocessing: Preprocessing, recipe: Recipe, cached: CachedCohort) -> Preprocessing:
    """`preprocessing` under the sections of `recipe`, which is of a stage."""
    variables = cached.cohort.variables
    adopted = {
        name: preparation.adopted(recipe.modalities[name], cached.studies, variables)
        for name, preparation in preprocessing.preparations.items()
    }
    return Preprocessing(recipe, adopted, preprocessing.variables, preprocessing.encoders)


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """One stage before it is trained."""

    cached: CachedCohort
    whole: Recipe
    position: int
    preprocessing: Preprocessing
    train: Indices
    validation: Indices

    @property
    def recipe(self) -> Recipe:
        return self.preprocessing.recipe

    def fit(
        self, model: AlignedEncoders, folder: Path, before: str, sink: MetricSink, *, progress: bool
    ) -> FittedStage:
        """Train `model` further."""
        stage = self.whole.pretraining.all_stages[self.position]
        pairs = compared_pairs(self.whole, stage)
        objectives = seeded(lambda: build_objectives(self.whole, stage, self.preprocessing, pairs), self.recipe.seed)
        train = self._dataset(self.train, objectives, pairs)
        _require_enough(train, stage.name, objectives, pairs)
        validation = self._dataset(self.validation, objectives, pairs)
        watched = validation if len(validation) >= _FEWEST else None
        key, learner = self._key(before), Learner(model, objectives)
        module = PretrainingModule(learner, self.recipe, key, self.preprocessing, stage.frozen)
        ended = ended_before(folder, module.key)
        if ended is None:
            data = StudyDataModule(self.preprocessing, train, watched, self.recipe)
            epochs, validated = self.recipe.training.epochs, data.validated
            with without_gradient(model, stage.frozen):
                ended = run_training(module, data, folder, sink, epochs=epochs, validated=validated, progress=progress)
            remember_end(folder, ended)
        take_kept_weights(module, folder, ended)
        return FittedStage(stage.name, self.recipe, pairs if objectives.compares else (), len(train), ended)

    def _dataset(self, rows: Indices, objectives: WeightedObjectives, pairs: tuple[Pair, ...]) -> StudyDataset:
        """The studies at `rows` that an objective can learn from."""
        dataset = StudyDataset(self.cached, self.preprocessing, rows)
        if not objectives.compares_only:
            return dataset
        paired = np.any([dataset.present[one] & dataset.present[other] for one, other in pairs], axis=0)
        return StudyDataset(self.cached, self.preprocessing, np.array(dataset.rows, np.int64)[paired])

    def _key(self, before: str) -> str:
        """Names everything that the weights depend on."""
        parts = [self.whole.to_yaml(), self.position, before, self.cached.cohort.digest, self.preprocessing.digest]
        parts += [self.train.tolist(), self.validation.tolist()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _require_enough(train: StudyDataset, stage: str, objectives: WeightedObjectives, pairs: tuple[Pair, ...]) -> None:
    if len(train) < _FEWEST:
        what = " and ".join(pairs[0]) if len(pairs) == 1 else "two modalities that the objectives compare"
        needed = f"both {what}" if len(pairs) == 1 else what
        have = needed if objectives.compares_only else "anything that this recipe reads"
        raise TrainingError(f"stage {stage}: {len(train)} training studies have {have}; at least {_FEWEST} are needed")
    if not objectives.compares:
        return
    for one, other in pairs:
        both = int((train.present[one] & train.present[other]).sum())
        if both < _FEWEST:
            raise TrainingError(
                f"stage {stage}: {both} training studies have both {one} and {other}; at least {_FEWEST} are needed: "
                "name other pretraining.pairs"
            )
