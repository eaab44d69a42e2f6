"""`consilium gate`: measure one registered version against what is demanded, and note with it how that ended.

Nothing of the version changes before all is measured: the tag by which `consilium models promote` finds a passed gate
is written last. A look at the champion's test studies alone is counted before it is taken (`training.lifecycle.looks`).
"""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.version_events import GateRecord, note_gate
from consilium.configuration.recipe import CohortRecipe
from consilium.domain.errors import CohortError, InputError, NotRegistered, TrainingError
from consilium.system.environment import home_folder
from consilium.system.threads import limit_threads
from training.lifecycle.champion_gates import (
    GROUPS,
    NEWEST,
    TEST,
    frozen_test_gate,
    newest_gate,
    subgroup_gate,
)
from training.lifecycle.frozen_answers import FrozenAnswers, Rival
from training.lifecycle.gate_file import ChampionGate, Gates
from training.lifecycle.gate_results import GateReport, GateResult
from training.lifecycle.own_gates import (
    audit_gate,
    calibration_gates,
    coverage_gate,
    faithfulness_gate,
    licence_gate,
    out_of_distribution_gate,
    size_gate,
    tables_of,
)
from training.lifecycle.serving_cost import serving_gates
from training.runtime.interrupts import interrupted_once
from training.runtime.store_retries import patiently
from training.runtime.tracking import TrackedRun, download_evaluation

_log = logging.getLogger(__name__)

_GATED = "gated"
"""Tag of a gate's run with the version that it is about."""
_REPLICATES_OF_GROUPS = 400
_NO_CHAMPION = "there is no champion yet"


def gate(
    source: str,
    gates: Gates,
    *,
    champion: str | None = None,
    newest: Path | None = None,
    cohort: CohortRecipe | None = None,
    tested_on: Path | None = None,
    why: str = "",
) -> GateReport:
    """Measure the version `source` by `gates`, as an MLflow run, and tag it with the outcome.

    Parameters
    ----------
    source : str
        ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.
    champion : str or None
        What it is compared with, named likewise; None: the model's champion. Without any, what compares is not
        applicable, and the rest is demanded.
    newest : Path or None
        Cohort of the newest studies.
    cohort : CohortRecipe or None
        Kind and task of `newest`; None: those of the version's recipe.
    tested_on : Path or None
        Folder with the test studies of both, which both answer anew; None: where this machine trained the version.
    why : str
        Kept with the run.

    Raises
    ------
    InputError, RegistryError, ArtifactError
        There is no such model, or it is not what was registered.
    TrainingError
        The version is being gated by another process.
    """
    limit_threads()
    one = _rival(source)
    other = _champion(one, champion)
    with _alone(one), interrupted_once():
        TrackedRun.close_tagged(one.name, _GATED, one.uri)
        with TrackedRun.start(one.artifact.recipe, kind="gate") as run:
            for tag, value in _about(one, other, gates, why).items():
                run.tag(tag, value)
            answers = FrozenAnswers.beside(one, tested_on)
            results, tables = _measured(gates, one, other, answers, newest, cohort)
            report = GateReport(one.uri, other.uri if other else "", gates.digest, run.run_id, tuple(results), tables)
            _log_report(run, report, gates)
        digest = registry.describe(one.name, one.version).manifest_digest
        patiently(note_gate, one.name, one.version, GateRecord(report.passed, gates.digest, digest, run.run_id))
    return report


def _rival(source: str) -> Rival:
    resolved = registry.resolve(source)
    name, version = resolved.identity.name, resolved.identity.version
    if version == registry.UNREGISTERED:
        raise InputError("model", source, "must be a registered version: models:/NAME/VERSION or models:/NAME@ALIAS")
    return Rival(name, version, f"models:/{name}/{version}", load_artifact(resolved.folder))


def _champion(one: Rival, given: str | None) -> Rival | None:
    """What `one` is compared with; None where it has no champion, or is it."""
    if given is not None:
        return _rival(given)
    try:
        found = _rival(f"models:/{one.name}@{registry.CHAMPION}")
    except NotRegistered:
        return None
    return None if found.version == one.version else found


@contextmanager
def _alone(one: Rival) -> Iterator[None]:
    folder = home_folder() / "gates"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{one.name}-{one.version}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(f"{one.uri} is being gated by another process") from None
    try:
        yield
    finally:
        lock.release()


def _about(one: Rival, other: Rival | None, gates: Gates, why: str) -> dict[str, str]:
    """Who, why, what, against what."""
    tags = {_GATED: one.uri, "champion": other.uri if other else "", "gates": gates.digest, "why": why}
    return {name: value for name, value in (tags | {"mlflow.user": getpass.getuser()}).items() if value}


def _log_report(run: TrackedRun, report: GateReport, gates: Gates) -> None:
    files = {"gates.yaml": gates.to_yaml(), "report.json": json.dumps(report.to_json(), indent=1)}
    files |= {f"{name}.csv": table.to_csv(index=False) for name, table in report.tables.items()}
    run.log_texts("gate", files)
    run.tag("gate", "passed" if report.passed else "failed")
    run.log(report.figures, 0)


def _measured(
    gates: Gates,
    one: Rival,
    other: Rival | None,
    answers: FrozenAnswers,
    newest: Path | None,
    cohort: CohortRecipe | None,
) -> tuple[list[GateResult], dict[str, pd.DataFrame]]:
    results, tables = _compared(gates, one, other, answers, newest, cohort)
    results += _own(gates, one, answers)
    return results + ([answers.result()] if _by_answers(gates) else []), tables


def _by_answers(gates: Gates) -> bool:
    """Something is demanded of the answers to test studies."""
    return any(wanted is not None for wanted in (gates.champion, gates.subgroups, gates.calibration))


def _compared(
    gates: Gates,
    one: Rival,
    other: Rival | None,
    answers: FrozenAnswers,
    newest: Path | None,
    cohort: CohortRecipe | None,
) -> tuple[list[GateResult], dict[str, pd.DataFrame]]:
    """What is measured beside the champion."""
    tables: dict[str, pd.DataFrame] = {}
    if gates.champion is None and gates.subgroups is None:
        return [], tables
    if other is None:
        names = [TEST, NEWEST] if gates.champion else []
        names += [GROUPS] if gates.subgroups else []
        return [GateResult.not_applicable(name, _NO_CHAMPION) for name in names], tables
    _log.info("beside %s, on its test studies", other.uri)
    results: list[GateResult] = []
    seed = one.artifact.recipe.seed
    try:
        compared, first, second = frozen_test_gate(gates, one, other, answers, tables, seed)
    except (InputError, CohortError, TrainingError) as error:
        results.append(GateResult.unmeasured(TEST, error, "to be compared on the champion's test studies"))
    else:
        results += [compared] if gates.champion else []
        if gates.subgroups is not None:
            results.append(subgroup_gate(gates.subgroups, first, second, bootstrap=_REPLICATES_OF_GROUPS, seed=seed))
    if gates.champion is not None:
        results.append(_newest(gates, gates.champion, one, other, newest, cohort, tables))
    return results, tables


def _newest(
    gates: Gates,
    wanted: ChampionGate,
    one: Rival,
    other: Rival,
    newest: Path | None,
    cohort: CohortRecipe | None,
    tables: dict[str, pd.DataFrame],
) -> GateResult:
    if newest is None:
        return GateResult.not_applicable(NEWEST, "no newest cohort was given")
    _log.info("beside %s, on the newest studies", other.uri)
    try:
        return newest_gate(gates, one, other, newest, cohort, tables, one.artifact.recipe.seed)
    except TrainingError as error:
        return GateResult.unmeasured(NEWEST, error, f"difference of AUROC above -{wanted.newest_margin:g}")


def _own(gates: Gates, one: Rival, answers: FrozenAnswers) -> list[GateResult]:
    """What the version must be by itself."""
    artifact, folder = one.artifact, registry.resolve(one.uri).folder
    results = _calibrated(gates, one, answers) + _of_evaluation(gates, one)
    results += [audit_gate(gates.audit, artifact.audit)] if gates.audit else []
    if gates.serving is not None:
        _log.info("reference studies, latency and memory")
        results += serving_gates(gates.serving, folder)
    results += [size_gate(gates.size, folder)] if gates.size else []
    results += [licence_gate(gates.licences, artifact.preprocessing.weight_sources)] if gates.licences else []
    return results


def _calibrated(gates: Gates, one: Rival, answers: FrozenAnswers) -> list[GateResult]:
    """By its answers to its own test studies."""
    if gates.calibration is None:
        return []
    try:
        return calibration_gates(gates.calibration, answers.of(one))
    except (InputError, CohortError, TrainingError) as error:
        return [GateResult.unmeasured("calibration error", error, "answers to the version's test studies")]


def _of_evaluation(gates: Gates, one: Rival) -> list[GateResult]:
    """By the tables that its training has kept of its evaluation."""
    if all(wanted is None for wanted in (gates.coverage, gates.out_of_distribution, gates.faithfulness)):
        return []
    run = one.artifact.details["run_id"]
    try:
        document = json.loads(download_evaluation(run, "evaluation.json").read_text(encoding="utf-8"))
    except TrainingError as error:
        return [GateResult.unmeasured("evaluation", error, "the figures of the version's training")]
    tables = tables_of(document)
    results = [coverage_gate(gates.coverage, tables)] if gates.coverage else []
    if gates.out_of_distribution is not None:
        results.append(out_of_distribution_gate(gates.out_of_distribution, tables, one.artifact.recipe))
    results += [faithfulness_gate(gates.faithfulness, tables)] if gates.faithfulness else []
    return results
