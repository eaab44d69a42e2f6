"""The pretraining, top-down: load → cache → split → stages → audit → measure → card → register.

As `training.pipeline.train`, each step can be cut off at any moment, and `resume` goes on from what it finished.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from consilium import __version__
from consilium.artifacts import model_registry as registry
from consilium.artifacts.manifest import ENCODER_FILES, verify
from consilium.artifacts.pretrained_encoders import PretrainedEncoders, save_encoders
from consilium.configuration.pretraining_stages import recipe_of_stages, stage_recipe
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind
from training.cohorts.cohort import SPLITS
from training.cohorts.splits import Indices, split_unlabelled
from training.data.cached_cohort import CachedCohort
from training.pipeline.named_weights import resolve_weights
from training.pipeline.resume import RunState
from training.pipeline.train import cache_files, tracked
from training.pretraining.embeddings import embed_rows
from training.pretraining.encoder_audit import (
    AuditedStage,
    EncoderAudit,
    audit_encoders,
    require_no_shortcut,
    table_lines,
)
from training.pretraining.encoder_card import EncoderFacts, encoder_card
from training.pretraining.fit_encoders import FittedEncoders, fit_encoders, stage_preprocessing
from training.pretraining.measured import TITLES, Measuring, read_cohort, usable_prompts
from training.runtime.store_retries import patiently
from training.runtime.tracking import TrackedRun, git_commit

_log = logging.getLogger(__name__)

PREFIX = "encoders-"
"""Of the name under which encoders are registered: ``consilium-encoders-NAME``."""
_LONGEST_NAME = 61
_ARTIFACT = "encoders"


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredEncoders:
    """Encoders in the registry.

    Attributes
    ----------
    tables : mapping of name to DataFrame
        What they can do: see `training.pretraining.measured`.
    folder : Path
        The artifact on this machine.
    """

    name: str
    version: str
    run_id: str
    audit: EncoderAudit
    tables: Mapping[str, pd.DataFrame]
    folder: Path

    @property
    def uri(self) -> str:
        """``models:/consilium-encoders-phantom/3``."""
        return f"models:/{self.name}/{self.version}"


def pretrain(
    recipe: Recipe, cohort_root: Path, *, resume: bool = False, progress: bool | None = None
) -> RegisteredEncoders:
    """Pretrain the encoders of `recipe` on the cohort in `cohort_root`, and register them as ``challenger``.

    They learn from the training split; the validation split says when to stop, and the others are not looked at before
    the audit.

    Parameters
    ----------
    resume : bool
        Go on with an interrupted pretraining of the same recipe and cohort, in the same MLflow run.
    progress : bool or None
        Draw progress bars; None: where standard error is a terminal.

    Raises
    ------
    CohortError, InputError
        The cohort cannot be read, or the recipe's objectives do not fit its modalities.
    TrainingError
        It cannot be learned from, or retrieval is better than possible.
    KeyboardInterrupt
        After everything was left so that `resume` can go on.
    """
    progress = sys.stderr.isatty() if progress is None else progress
    recipe = encoders_recipe(recipe)
    require_objectives(recipe)
    limit_threads(recipe.training.threads)
    starts = resolve_weights(recipe)
    cohort = read_cohort(recipe, cohort_root)
    _log.info("cohort %s: %d studies, %d patients", cohort.name, len(cohort), len(set(cohort.patient_ids.tolist())))
    with RunState(recipe, cohort, resume=resume) as state, tracked(recipe, state) as run:
        cached = cache_files(cohort, recipe_of_stages(recipe), progress, starts)
        parts = split_unlabelled(cohort, recipe.splits.model_dump(), recipe.seed)
        run.log_cohort(cohort, _part_names(parts, len(cohort)))
        fitted = fit_encoders(
            cached, recipe, parts["train"], parts["validation"], state.folder, run.prefixed, progress=progress
        )
        audit = _audit(cached, recipe, fitted, parts, cohort_root)
        tables = _measured(cached, recipe, fitted, parts, cohort_root)
        card = encoder_card(_facts(recipe, cached, fitted, audit, tables, run))
        _log_outcome(run, audit, tables, card)
        if recipe.pretraining.audit:
            require_no_shortcut(audit)
        folder = _save(state.folder / _ARTIFACT, recipe, cached, fitted, audit, tables, card, run)
        tags = {"cohort": cohort.name, "cohort_digest": cohort.digest, "audit": audit.verdict}
        version = patiently(registry.register_encoders, folder, recipe, run.run_id, tags)
        state.registered(version)
    _log.info("registered as %s version %s", recipe.registered_name, version)
    return RegisteredEncoders(recipe.registered_name, version, run.run_id, audit, tables, folder)


def encoders_recipe(recipe: Recipe) -> Recipe:
    """`recipe` under the name that its encoders are registered by.

    Raises
    ------
    InputError
        The name is too long for it.
    """
    name = recipe.name if recipe.name.startswith(PREFIX) else f"{PREFIX}{recipe.name}"
    if len(name) > _LONGEST_NAME:
        raise InputError("name", recipe.name, f"must have at most {_LONGEST_NAME - len(PREFIX)} characters")
    return recipe.model_copy(update={"name": name})


def require_objectives(recipe: Recipe) -> None:
    """`InputError` where a stage has nothing to minimise, or changes what it may not: before anything is read."""
    if recipe.fusion.linear or recipe.fusion.name == "auto":
        raise InputError("fusion.name", recipe.fusion.name, "must be one whose tokens are learned by gradient descent")
    for position, stage in enumerate(recipe.pretraining.all_stages):
        stage_recipe(recipe, position)
        if not recipe.pretraining.weights(stage):
            raise InputError("pretraining.objectives", {}, "must give at least one objective a weight above 0")


def _part_names(parts: Mapping[str, Indices], studies: int) -> Any:
    names = np.full(studies, "", object)
    for name in SPLITS:
        names[parts[name]] = name
    return names


def _audit(
    cached: CachedCohort, recipe: Recipe, fitted: FittedEncoders, parts: Mapping[str, Indices], root: Path
) -> EncoderAudit:
    """On the test split, stage by stage: each as its records were read."""
    _log.info("audit of the encoders")
    if not len(parts["test"]):
        raise InputError("splits.test", 0.0, "must leave studies to audit the encoders on")
    best = cohort_kind(recipe.cohort.kind).load_pairs(root)
    stages = [
        AuditedStage(
            stage.name,
            stage.pairs,
            stage.recipe.modalities,
            embed_rows(
                fitted.model, stage_preprocessing(fitted.preprocessing, stage.recipe, cached), cached, parts["test"]
            ),
        )
        for stage in fitted.stages
    ]
    audit = audit_encoders(cached, stages, best, recipe.seed)
    for text in (*audit.leaks, *audit.concerns):
        _log.warning("audit: %s", text)
    return audit


def _measured(
    cached: CachedCohort, recipe: Recipe, fitted: FittedEncoders, parts: Mapping[str, Indices], root: Path
) -> dict[str, pd.DataFrame]:
    oracle = cohort_kind(recipe.cohort.kind).load_oracle(root)
    prompts = usable_prompts(cached.cohort, recipe)
    return Measuring(recipe, fitted.model, fitted.preprocessing, cached, parts, oracle, prompts).tables()


def _facts(
    recipe: Recipe,
    cached: CachedCohort,
    fitted: FittedEncoders,
    audit: EncoderAudit,
    tables: Mapping[str, pd.DataFrame],
    run: TrackedRun,
) -> EncoderFacts:
    cohort = cached.cohort
    return EncoderFacts(
        recipe,
        fitted,
        audit,
        {"name": cohort.name, "studies": str(len(cohort)), "digest": cohort.digest},
        {TITLES[name]: table for name, table in tables.items()},
        {"commit": git_commit() or "", "MLflow run": run.run_id, "consilium": __version__},
    )


def _log_outcome(run: TrackedRun, audit: EncoderAudit, tables: Mapping[str, pd.DataFrame], card: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "encoder_audit.json").write_text(json.dumps(audit.to_json(), indent=1), encoding="utf-8")
        for title, table in tables.items():
            table.to_csv(folder / f"{title}.csv", index=False)
        run.log_evaluation(_figures(audit), folder)
    run.log_texts("card", {"card.md": card})
    run.tag("audit", audit.verdict)


def _figures(audit: EncoderAudit) -> dict[str, float]:
    """The retrieval figures as metrics; MLflow takes no plus sign in a name."""
    found: dict[str, float] = {}
    for line in table_lines(audit.retrieval):
        place = f"retrieval/{line['stage']}/{line['pair'].replace('+', '_')}/{line['scope'].replace(' ', '_')}"
        found |= {f"{place}/{key}": float(line[key]) for key in ("r1", "r10", "rank")}
    return found


def _save(
    folder: Path,
    recipe: Recipe,
    cached: CachedCohort,
    fitted: FittedEncoders,
    audit: EncoderAudit,
    tables: Mapping[str, pd.DataFrame],
    card: str,
    run: TrackedRun,
) -> Path:
    """The artifact; one that an interrupted run has saved whole is taken as it is."""
    if folder.exists():
        try:
            verify(folder, ENCODER_FILES)
        except ArtifactError:
            shutil.rmtree(folder)
        else:
            return folder
    cohort = cached.cohort
    details = {
        "cohort": {"name": cohort.name, "digest": cohort.digest, "studies": len(cohort)},
        "stages": {stage.name: {"studies": stage.studies, "epochs": stage.ended.epochs} for stage in fitted.stages},
        "tables": {name: table_lines(table) for name, table in tables.items()},
        "git_commit": git_commit(),
        "run_id": run.run_id,
    }
    encoders = PretrainedEncoders(recipe, fitted.preprocessing, fitted.model, audit.to_json(), details, card)
    save_encoders(folder, encoders)
    return folder
