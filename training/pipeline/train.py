"""The pipeline, top-down: load → cache → audit → split → fit → calibrate → evaluate → audit → card → register.

`train` is what the command calls. Each stage can be cut off at any moment: what it finished lies in the run's folder
(`training.pipeline.resume`), and `resume` walks the same stages again over what is there.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from consilium import __version__
from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import Artifact, save_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.reference_studies import References
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import AuditVerdict
from consilium.domain.errors import ArtifactError, RegistryUnreachable, TrainingError
from consilium.output.labels import share
from consilium.preprocessing.encoder_start import EncoderStart
from consilium.system.threads import limit_threads
from training.audit.audit import EarlyAudit
from training.audit.report import AuditReport
from training.card.card import Facts, card
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.versions.version_record import read_version
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.data.cohort_places import remember_place
from training.evaluation.evaluate import require_no_leak
from training.evaluation.faithfulness import measured_defaults
from training.evaluation.results import Evaluation
from training.figures.evaluation_files import save_evaluation
from training.fitting.fit import WarmStart
from training.pipeline.cohort_audit import audit_after_fit, audit_before_fit
from training.pipeline.compare_models import ANSWERS, Answers
from training.pipeline.context import Stage
from training.pipeline.extra_tables import groups_of
from training.pipeline.named_weights import resolve_weights
from training.pipeline.protocols import PROTOCOLS, Outcome, Plan
from training.pipeline.reference_studies import reference_studies, rendered_modalities
from training.pipeline.resume import RunState
from training.runtime.interrupts import interrupted_once
from training.runtime.progress import progress_of
from training.runtime.store_retries import patiently
from training.runtime.tracking import COHORT_VERSION, TrackedRun, git_commit

_log = logging.getLogger(__name__)

_ARTIFACT = "artifact"
_AS_ASKED = "promoted by its training run, as asked for"
_GOES_ON = "the same command with --resume goes on from the last finished epoch"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model in the registry.

    Attributes
    ----------
    name, version : str
        Of the registered model.
    run_id : str
        MLflow run that made it.
    steps : int
        Optimiser steps, of all fits together.
    folder : Path
        The artifact on this machine.
    """

    name: str
    version: str
    run_id: str
    steps: int
    evaluation: Evaluation
    folder: Path

    @property
    def uri(self) -> str:
        """``models:/consilium-phantom-demo/3``."""
        return f"models:/{self.name}/{self.version}"


def train(
    recipe: Recipe, cohort_root: Path, *, promote: bool = False, resume: bool = False, progress: bool | None = None
) -> TrainedModel:
    """Train `recipe` on the cohort in `cohort_root` and register the model with the alias ``challenger``.

    Parameters
    ----------
    promote : bool
        Also make it the champion.
    resume : bool
        Go on with an interrupted training of the same recipe and cohort, in the same MLflow run.
    progress : bool or None
        Draw progress bars; None: where standard error is a terminal. Otherwise lines are logged.

    Raises
    ------
    CohortError, InputError
        The cohort cannot be read.
    TrainingError
        It cannot be learned from, its audit finds it unusable, what was interrupted is another training, or the model
        is better than possible.
    KeyboardInterrupt
        After everything was left so that `resume` can go on.
    """
    progress = sys.stderr.isatty() if progress is None else progress
    limit_threads(recipe.training.threads)
    rendered_modalities(recipe)  # after hours of training it would be too late to learn it
    starts = resolve_weights(recipe)
    cohort = _load(recipe, cohort_root)
    oracle = cohort_kind(recipe.cohort.kind).load_oracle(cohort_root)
    with RunState(recipe, cohort, resume=resume) as state, tracked(recipe, state) as run:
        cached = cache_files(cohort, recipe, progress, starts)
        made = _made(Stage(recipe, cached, oracle, state.folder, run, progress))
        version = patiently(registry.register, made.folder, recipe, run.run_id, made.tags)
        state.registered(version)
        if promote:
            patiently(_promote, recipe.registered_name, version)
    _log.info("registered as %s version %s", recipe.registered_name, version)
    return TrainedModel(recipe.registered_name, version, run.run_id, made.steps, made.evaluation, made.folder)


@dataclass(frozen=True, slots=True, eq=False)
class MadeModel:
    """A model that is trained and evaluated, and not registered; `tags` are for the registry."""

    run_id: str
    steps: int
    evaluation: Evaluation
    folder: Path
    tags: dict[str, str]


def make(
    recipe: Recipe, cohort_root: Path, *, start: WarmStart | None = None, resume: bool, progress: bool | None = None
) -> MadeModel:
    """As `train`, without registration; the weights begin as those of `start`.

    It stays resumable: called again with `resume`, it evaluates once more what was trained.
    """
    progress = sys.stderr.isatty() if progress is None else progress
    limit_threads(recipe.training.threads)
    rendered_modalities(recipe)
    starts = resolve_weights(recipe)
    cohort = _load(recipe, cohort_root)
    oracle = cohort_kind(recipe.cohort.kind).load_oracle(cohort_root)
    begun = "" if start is None else start.digest
    with RunState(recipe, cohort, resume=resume, start=begun) as state, tracked(recipe, state) as run:
        cached = cache_files(cohort, recipe, progress, starts)
        made = _made(Stage(recipe, cached, oracle, state.folder, run, progress, start))
        state.registered("")
        return made


def _made(stage: Stage) -> MadeModel:
    plan, early = _planned(stage)
    outcome = PROTOCOLS[stage.recipe.evaluation.protocol].run(stage, plan)
    audit = audit_after_fit(stage, early, outcome.evaluation)
    _log_outcome(stage, outcome, audit)
    require_no_leak(outcome.evaluation)
    folder = _save(stage, outcome, audit)
    tags = _tags(stage.cohort, audit, outcome)
    return MadeModel(stage.run.run_id, outcome.steps, outcome.evaluation, folder, tags)


def _planned(stage: Stage) -> tuple[Plan, EarlyAudit | None]:
    """Who is where in this training, and the audit of the cohort as it is so divided."""
    cohort, recipe = stage.cohort, stage.recipe
    try:
        plan = PROTOCOLS[recipe.evaluation.protocol].plan(cohort, recipe)
    except TrainingError:
        audit_before_fit(stage)  # gives all the reasons where the cohort is unusable
        raise
    return plan, audit_before_fit(stage, plan.sides(cohort.patient_ids))


# --- load and cache --------------------------------------------------------------------------------------------------


def _load(recipe: Recipe, root: Path) -> Cohort:
    chosen = recipe.cohort
    masks = recipe.masks_identifiers
    cohort = load_cohort(chosen.kind, root, chosen.options, mask_notes=masks)
    remember_place(cohort)
    cohort = cohort if recipe.objectives.targets else cohort.answering(())
    _log.info("cohort %s: %d studies, %d patients", cohort.name, len(cohort), len(set(cohort.patient_ids.tolist())))
    return cohort


def cache_files(cohort: Cohort, recipe: Recipe, progress: bool, starts: Mapping[str, EncoderStart]) -> CachedCohort:
    """`cache_cohort` in the home folder, with its progress."""
    files = sum(len(record.files[name]) for record in cohort.records for name in recipe.modalities)
    with progress_of("files", files, drawn=progress) as advance:
        cached = cache_cohort(cohort, recipe, file_cache_folder(), advance, starts)
    _log.info("files: %d prepared, %d refused", files - len(cached.refused), len(cached.refused))
    return cached


# --- the run in MLflow -----------------------------------------------------------------------------------------------


@contextmanager
def tracked(recipe: Recipe, state: RunState) -> Iterator[TrackedRun]:
    """The MLflow run, closed with the right status however the training ends."""
    with interrupted_once():
        if state.given_up is not None:
            TrackedRun.close(state.given_up)
        known = state.run_id
        run = TrackedRun.start(recipe) if known is None else TrackedRun.resume(known)
        try:
            if known is None:
                state.started(run.run_id)
                run.log_recipe(recipe)
            else:
                _log.info("going on with run %s", run.run_id)
                run.add(state.unwritten())
            yield run
            run.end("FINISHED")
        except KeyboardInterrupt:
            state.keep(run.give_up("KILLED"))
            _log.warning("interrupted; %s", _GOES_ON)
            raise
        except (OSError, RegistryUnreachable):
            state.keep(run.give_up("FAILED"))
            _log.warning("what was done is kept; %s", _GOES_ON)
            raise
        except BaseException:
            run.give_up("FAILED")
            raise


def _log_outcome(stage: Stage, outcome: Outcome, audit: AuditReport | None) -> None:
    metrics = outcome.evaluation.metrics | {
        "steps": float(outcome.steps),
        "epochs": float(outcome.fit.epochs),
        "images_refused": float(len(stage.cached.refused)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_evaluation(outcome.evaluation, folder)
        Answers.of(outcome.evaluation, groups_of(outcome.evaluation, stage.cached)).save(folder / ANSWERS)
        stage.run.tag(registry.FUSION, _fusion(outcome))
        if audit is not None:
            (folder / "audit.json").write_text(json.dumps(audit.to_json(), indent=1), encoding="utf-8")
            stage.run.tag("audit", audit.verdict)
        stage.run.log_evaluation(metrics, folder)


def _save(stage: Stage, outcome: Outcome, audit: AuditReport | None) -> Path:
    """The artifact; one that an interrupted run has saved whole is taken as it is."""
    folder = stage.folder / _ARTIFACT
    if folder.exists():
        try:
            verify(folder)
        except ArtifactError:
            shutil.rmtree(folder)
        else:
            return folder
    verdict = AuditVerdict() if audit is None else audit.summary
    artifact = Artifact(
        outcome.fit.preprocessing.recipe,
        stage.cohort.findings,
        outcome.fit.preprocessing,
        outcome.fit.model,
        outcome.calibration,
        _details(stage, outcome),
        detector=outcome.detector,
        audit=verdict,
        neighbours=outcome.neighbours,
        monitoring=outcome.monitoring,
        card=_card(stage, outcome, verdict),
        references=References.answered(
            reference_studies(outcome.fit.preprocessing),
            outcome.fit.preprocessing,
            outcome.fit.model,
            outcome.calibration,
        ),
    )
    save_artifact(folder, artifact)
    return folder


def _card(stage: Stage, outcome: Outcome, verdict: AuditVerdict) -> dict[str, str]:
    """The model's card, also logged with the run."""
    cohort, calibration = stage.cohort, outcome.calibration
    files = card(
        Facts(
            recipe=outcome.fit.preprocessing.recipe,
            evaluation=outcome.evaluation,
            audit=verdict,
            cohort={
                "name": cohort.name,
                "task": cohort.task,
                "studies": str(len(cohort)),
                "patients": str(len(set(cohort.patient_ids.tolist()))),
                "digest": cohort.digest,
            },
            studies=outcome.studies,
            calibration={
                "method": calibration.method,
                "fitted on": f"{calibration.fitted_on} studies",
                "sets and intervals from": f"{calibration.held_out} other studies",
                "coverage of the sets": f"{share(calibration.conformal.coverage)} of the studies of each class",
                "sensitivity asked for": share(stage.recipe.calibration.target_sensitivity),
            },
            origin={
                "fusion": _fusion(outcome),
                "commit": git_commit() or "",
                "MLflow run": stage.run.run_id,
                "consilium": __version__,
            },
            variables=outcome.fit.preprocessing.read_variables,
            weights=outcome.fit.preprocessing.weight_sources,
            parameters=outcome.fit.parameters,
        )
    )
    stage.run.log_texts("card", files)
    return files


def _details(stage: Stage, outcome: Outcome) -> dict[str, Any]:
    cohort, tables = stage.cohort, outcome.evaluation.tables
    return {
        "explanations": _best_explanations(tables.get("faithfulness")),
        "cohort": {"name": cohort.name, "task": cohort.task, "digest": cohort.digest, "studies": len(cohort)},
        "protocol": stage.recipe.evaluation.protocol,
        "fusion": None if outcome.choice is None else outcome.choice.to_json(),
        "studies": outcome.studies,
        "images_refused": len(stage.cached.refused),
        "epochs": outcome.fit.epochs,
        "steps": outcome.steps,
        "parameters": outcome.fit.parameters,
        "metrics": outcome.evaluation.metrics,
        "weights": _weights(outcome),
        "git_commit": git_commit(),
        "run_id": stage.run.run_id,
    }


def _best_explanations(faithfulness: pd.DataFrame | None) -> dict[str, dict[str, str]]:
    return {} if faithfulness is None else measured_defaults(faithfulness)


def _weights(outcome: Outcome) -> dict[str, list[dict[str, str]]]:
    """Of each modality that began from pretrained weights, where these came from."""
    sources = outcome.fit.preprocessing.weight_sources
    return {name: [source.to_json() for source in of] for name, of in sources.items()}


def _tags(cohort: Cohort, audit: AuditReport | None, outcome: Outcome) -> dict[str, str]:
    tags = {"cohort": cohort.name, "cohort_digest": cohort.digest, "git_commit": git_commit()}
    version = read_version(cohort.root)
    if version is not None:
        tags[COHORT_VERSION] = version.digest
    tags["audit"] = AuditVerdict().verdict if audit is None else audit.verdict
    tags[registry.PARAMETERS] = json.dumps(outcome.fit.parameters)
    tags[registry.WEIGHTS] = json.dumps(_weights(outcome))
    tags[registry.FUSION] = _fusion(outcome)
    return {name: value for name, value in tags.items() if value}


def _fusion(outcome: Outcome) -> str:
    """The model's fusion and, where it was chosen, by which figures."""
    return outcome.fit.preprocessing.recipe.fusion.name if outcome.choice is None else outcome.choice.sentence


def _promote(name: str, version: str) -> None:
    if registry.CHAMPION not in registry.describe(name, version).aliases:
        registry.promote(name, version, reason=_AS_ASKED, override=f"{_AS_ASKED}; no gate was run")
