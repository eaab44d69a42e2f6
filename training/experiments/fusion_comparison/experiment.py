"""The comparison, top-down: encoders → tokens → every fusion on the same tokens → rules, ensemble, peers → tables.

Everything that takes long ends in a file of its own under the run's folder, so that an interrupted comparison goes on
where it was: the encoders of a seed by the checkpoints of `training.fitting.fit`, each trained fusion by its
predictions.

    seed_7/models/<fusion>/       a training end to end; that with the late fusion gives the encoders
    seed_7/tokens/<split>/        their tokens of every study
    seed_7/fusion/<name>/         predictions of a fusion trained on the tokens
    seed_7/end_to_end/<name>/     predictions of a whole model
    seed_7/peer/transchex/        those of the peer
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, TrainingError
from consilium.network.fusion import TRAINED_FUSIONS
from consilium.system.threads import limit_threads
from training.cohorts import load_cohort
from training.cohorts.splits import Indices, split_cohort
from training.data.cached_cohort import CachedCohort
from training.evaluation.predict import predict
from training.evaluation.predictions import Predictions
from training.experiments.fusion_comparison.comparison import Comparison
from training.experiments.fusion_comparison.comparison_output import save_comparison
from training.experiments.fusion_comparison.contenders import compare
from training.experiments.fusion_comparison.fusing import fit_fusion, predict_fusion
from training.experiments.fusion_comparison.small_training import Fitted
from training.experiments.fusion_comparison.tokens import TokenSet, write_tokens
from training.experiments.fusion_comparison.trained import Trained, kept
from training.experiments.fusion_comparison.transchex import fit_peer, predict_peer
from training.fitting.fit import Fit
from training.fitting.teachers import fit_with_teachers
from training.pipeline.named_weights import resolve_weights
from training.pipeline.preflight import require_split
from training.pipeline.resume import RunState
from training.pipeline.train import cache_files, tracked
from training.runtime.tracking import MetricSink, TrackedRun

_log = logging.getLogger(__name__)

NEUTRAL = "late"
"""The fusion that the encoders are trained with: no modality depends on another in it, so it favours none."""

TOKEN_BATCH = 128
"""Studies a step where only a fusion learns."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, beside every fusion on cached tokens.

    Attributes
    ----------
    seeds : int
        Trainings of every contender; seed k is the recipe's seed plus k.
    epochs : int or None
        Of a fusion on cached tokens; None: the recipe's.
    end_to_end : int
        How many of the best fusions are also trained end to end.
    end_to_end_seeds : int
        How often.
    peer : bool
        Also train MONAI's Transchex.
    """

    seeds: int = 3
    epochs: int | None = None
    end_to_end: int = 0
    end_to_end_seeds: int = 1
    peer: bool = False

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("end_to_end", 0), ("end_to_end_seeds", 1)):
            if getattr(self, name) < least:
                raise InputError(name, getattr(self, name), f"must be at least {least}")
        if self.epochs is not None and self.epochs < 1:
            raise InputError("epochs", self.epochs, "must be at least 1")


def compare_fusions(
    recipe: Recipe, cohort_root: Path, plan: Plan, *, resume: bool = False, progress: bool | None = None
) -> Comparison:
    """Train every fusion on the same tokens and score them on the same test studies.

    The splits are those of ``recipe.seed``, whatever the seed of a training.

    Parameters
    ----------
    resume : bool
        Go on with an interrupted comparison of the same recipe and cohort, or add to a finished one; the plan may be
        another.
    progress : bool or None
        As `training.pipeline.train.train`.

    Raises
    ------
    CohortError, InputError
        The cohort cannot be read.
    TrainingError
        It cannot be learned from, the recipe has less than two modalities or not all four splits, or what was
        interrupted is of another recipe or cohort.
    KeyboardInterrupt
        After everything was left so that `resume` can go on.
    """
    if len(recipe.modalities) < 2:
        raise TrainingError("there is nothing to fuse: the recipe has one modality")
    progress = sys.stderr.isatty() if progress is None else progress
    limit_threads(recipe.training.threads)
    starts = resolve_weights(recipe)
    chosen = recipe.cohort
    masks = recipe.masks_identifiers
    cohort = load_cohort(chosen.kind, cohort_root, chosen.options, mask_notes=masks).answering(())
    parts = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)
    if not all(len(rows) for rows in parts.values()):
        raise TrainingError(
            f"a comparison needs all four splits, got { ({name: len(r) for name, r in parts.items()}) }"
        )
    compared = recipe.model_copy(update={"name": f"{recipe.name}-fusions"})
    with RunState(compared, cohort, resume=resume) as state, tracked(compared, state) as run:
        cached = cache_files(cohort, recipe, progress, starts)
        require_split(cached, recipe, parts)
        trained = _train(recipe, plan, _Work(cached, parts, state.folder, run, progress))
        comparison = compare(trained, recipe, cohort)
        with tempfile.TemporaryDirectory() as folder:
            save_comparison(comparison, Path(folder))
            run.log_evaluation(comparison.metrics, Path(folder))
        state.registered("")
    return comparison


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What every training of one comparison shares."""

    cached: CachedCohort
    parts: dict[str, Indices]
    folder: Path
    run: TrackedRun
    progress: bool


def _train(recipe: Recipe, plan: Plan, work: _Work) -> dict[str, list[Trained]]:
    """Every trained contender by name, one a seed: ``fusion/early``, ``end_to_end/late``, ``peer/transchex``."""
    seeds = [_Seed(recipe.model_copy(update={"seed": recipe.seed + k}), plan, work) for k in range(plan.seeds)]
    found: dict[str, list[Trained]] = {
        name: [] for name in (*(f"fusion/{n}" for n in TRAINED_FUSIONS), f"end_to_end/{NEUTRAL}")
    }
    for number, seed in enumerate(seeds, start=1):
        _log.info("seed %d of %d", number, len(seeds))
        found[f"end_to_end/{NEUTRAL}"].append(seed.whole(NEUTRAL))
        for name in TRAINED_FUSIONS:
            found[f"fusion/{name}"].append(seed.fusion(name))
        seed.forget()
    ranked = sorted(TRAINED_FUSIONS, key=lambda name: np.mean([one.validation_loss for one in found[f"fusion/{name}"]]))
    for name in [name for name in ranked if name != NEUTRAL][: plan.end_to_end]:
        found[f"end_to_end/{name}"] = [seed.whole(name) for seed in seeds[: plan.end_to_end_seeds]]
    if plan.peer:
        found["peer/transchex"] = [seed.peer() for seed in seeds[: plan.end_to_end_seeds]]
    return found


class _Seed:
    """All trainings of one seed. Encoders and tokens are made, or read, when the first training needs them."""

    def __init__(self, recipe: Recipe, plan: Plan, work: _Work) -> None:
        self._recipe = recipe
        self._plan = plan
        self._work = work
        self._folder = work.folder / f"seed_{recipe.seed}"

    def fusion(self, name: str) -> Trained:
        """A fusion on the tokens of the encoders."""
        recipe = self._with(name)
        changes = {"batch_size": TOKEN_BATCH, "epochs": self._plan.epochs or recipe.training.epochs}
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})

        folder = self._folder / "fusion" / name

        def make() -> Trained:
            tokens = self._tokens
            fitted = fit_fusion(
                recipe, self._work.cached.cohort.findings, tokens["train"], tokens["validation"], folder
            )
            answers = (predict_fusion(fitted.model, tokens[split], TOKEN_BATCH) for split in ("calibration", "test"))
            return _trained(fitted, *answers)

        return kept(folder, recipe.to_yaml(), make)

    def whole(self, name: str) -> Trained:
        """A model with the fusion `name`, trained end to end; that with the `NEUTRAL` is the encoders' own."""
        recipe = self._with(name)

        def make() -> Trained:
            fresh = not self._model_folder(name).exists()
            started = time.process_time()
            fitted = self._encoders if name == NEUTRAL else self._fit(recipe)
            seconds = time.process_time() - started if fresh else float("nan")
            answers = [self._predict(fitted, recipe, split) for split in ("calibration", "test")]
            assert fitted.validation_loss is not None
            size = sum(parameter.numel() for parameter in fitted.model.parameters())
            return Trained(fitted.epochs, fitted.validation_loss, seconds, size, *answers)

        return kept(self._folder / "end_to_end" / name, recipe.to_yaml(), make)

    def peer(self) -> Trained:
        """MONAI's Transchex."""
        cached, parts, recipe = self._work.cached, self._work.parts, self._with(NEUTRAL)
        folder = self._folder / "peer" / "transchex"

        def make() -> Trained:
            fitted, preprocessing = fit_peer(cached, recipe, parts["train"], parts["validation"], folder)
            rows = (parts["calibration"], parts["test"])
            return _trained(fitted, *(predict_peer(fitted.model, preprocessing, cached, recipe, r) for r in rows))

        return kept(folder, recipe.to_yaml(), make)

    def forget(self) -> None:
        """Let go of the encoders and the tokens."""
        for name in ("_encoders", "_tokens"):
            self.__dict__.pop(name, None)

    def _with(self, fusion: str) -> Recipe:
        return self._recipe.model_copy(update={"fusion": self._recipe.fusion.model_copy(update={"name": fusion})})

    def _model_folder(self, name: str) -> Path:
        return self._folder / "models" / name

    def _fit(self, recipe: Recipe) -> Fit:
        work, name = self._work, recipe.fusion.name
        _log.info("%s: %s end to end", self._folder.name, name)
        prefix = f"{self._folder.name}/{name}"

        def sink(part: str) -> MetricSink:
            return work.run.prefixed(f"{prefix}/{part}" if part else prefix)

        train, validation = work.parts["train"], work.parts["validation"]
        folder = self._model_folder(name)
        return fit_with_teachers(work.cached, recipe, train, validation, folder, sink, progress=work.progress)

    def _predict(self, fitted: Fit, recipe: Recipe, split: str) -> Predictions:
        predictions = predict(fitted.model, fitted.preprocessing, self._work.cached, self._work.parts[split], recipe)
        return replace(predictions, features={})

    @cached_property
    def _encoders(self) -> Fit:
        return self._fit(self._with(NEUTRAL))

    @cached_property
    def _tokens(self) -> dict[str, TokenSet]:
        """By split."""
        recipe, cached = self._with(NEUTRAL), self._work.cached

        def tokens(split: str) -> TokenSet:
            folder = self._folder / "tokens" / split
            if not folder.exists():
                _log.info("%s: tokens of the %s split", self._folder.name, split)
                encoders = self._encoders
                rows = self._work.parts[split]
                write_tokens(folder, encoders.model, encoders.preprocessing, cached, rows, recipe)
            return TokenSet(folder)

        return {split: tokens(split) for split in self._work.parts}


def _trained(fitted: Fitted, calibration: Predictions, test: Predictions) -> Trained:
    return Trained(fitted.epochs, fitted.validation_loss, fitted.seconds, fitted.parameters, calibration, test)
