"""One run of the monitor: a model's stored answers in; files, an MLflow run and what alarms remember out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.monitoring.monitored_answer import MonitoredAnswer
from training.monitoring.alarm_state import AlarmState, load_state, save_state
from training.monitoring.alarms import DAY, AlarmRule
from training.monitoring.monitor import RECENT_DAYS, MonitorResult, WatchedModel, watch
from training.monitoring.output.monitor_figures import evidence_figure, performance_figure
from training.monitoring.output.monitor_gauges import gauges
from training.monitoring.output.monitor_report import write_files
from training.runtime.tracking import TrackedRun

_log = logging.getLogger(__name__)

STATE = "alarms.json"
_LOCK = ".lock"

Reader = Callable[[str, str, datetime | None, datetime], Iterable[MonitoredAnswer]]
"""Answers of the model of a name and version, from one time on (None: all) and before another."""


@dataclass(frozen=True, slots=True)
class MonitorPlan:
    """What to look at, and where to write.

    Attributes
    ----------
    source : str
        Model folder, ``models:/name@alias`` or ``models:/name/version``.
    folder : Path
        For `STATE` and what `write_files` writes.
    until : float
        Seconds since 1970, UTC.
    since : float or None
        Begin of the recent answers; None: `RECENT_DAYS` before `until`.
    record : bool
        Make an MLflow run of it.
    """

    source: str
    folder: Path
    until: float
    since: float | None = None
    rule: AlarmRule = field(default_factory=AlarmRule)
    record: bool = True


def run_monitor(plan: MonitorPlan, read: Reader) -> MonitorResult:
    """Look at all that `read` gives of the model, and write what was found.

    A run over the same answers writes the same, whatever ran before. Two at once wait for each other.

    Raises
    ------
    InputError
        The model has no monitoring reference, or no answers; the file of alarms is none.
    RegistryError, ArtifactError
        There is no such model.
    """
    resolved = resolve(plan.source)
    artifact = load_artifact(resolved.folder)
    model = WatchedModel.of(resolved.identity, artifact)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(plan.folder / _LOCK):
        state = load_state(plan.folder / STATE, model.identity.manifest_digest)
        answers = _answers(model, plan, state, read)
        _log.info("%d answers of %s version %s", len(answers), model.identity.name, model.identity.version)
        result = watch(model, answers, state, plan.until, plan.since, plan.rule)
        save_state(plan.folder / STATE, model.identity.manifest_digest, result.state)
        write_files(result, plan.folder)
    if plan.record:
        _record(artifact.recipe, result)
    return result


def accept_alarms(source: str, folder: Path, reason: str, time: float) -> AlarmState:
    """Take the change that the model's alarms found as given: from the next day on the tests start anew.

    Raises
    ------
    InputError
        There is no alarm, or no reason.
    """
    identity = resolve(source).identity
    path = folder / STATE
    if not path.exists():
        raise InputError("monitor", str(path), "must have been made by consilium monitor run")
    with FileLock(folder / _LOCK):
        state = load_state(path, identity.manifest_digest).accept(time, reason)
        save_state(path, identity.manifest_digest, state)
    return state


def _answers(model: WatchedModel, plan: MonitorPlan, state: AlarmState, read: Reader) -> list[MonitoredAnswer]:
    """Those that the tests, and the recent answers, need."""
    begin = None
    if state.first_day is not None:
        since = plan.until - RECENT_DAYS * DAY if plan.since is None else plan.since
        begin = datetime.fromtimestamp(min(state.started(plan.until)[0], since), UTC)
    identity = model.identity
    found = read(identity.name, identity.version, begin, datetime.fromtimestamp(plan.until, UTC))
    answers = [one for one in found if one.manifest_digest == identity.manifest_digest]
    if not answers:
        rule = "must have answers that were kept for monitoring (CONSILIUM_MONITORING)"
        raise InputError("model", f"{identity.name} version {identity.version}", rule)
    return answers


def _record(recipe: Recipe, result: MonitorResult) -> None:
    """An MLflow run in the model's experiment: gauges as metrics; page, JSON, tables and plots as files."""
    metrics = {
        "/".join([one["name"].removeprefix("consilium_"), *_own_labels(one["labels"])]): one["value"]
        for one in gauges(result)
    }
    with TrackedRun.start(recipe, kind="monitor") as run, tempfile.TemporaryDirectory() as folder:
        write_files(result, Path(folder))
        for name, table in result.tables.items():
            table.to_csv(Path(folder) / f"{name}.csv", index=False)
        evidence = evidence_figure(result)
        if evidence is not None:
            evidence.savefig(Path(folder) / "evidence.png")
        performance = performance_figure(result)
        if performance is not None:
            performance.savefig(Path(folder) / "performance.png")
        run.log_evaluation(metrics, Path(folder))
        run.tag("monitored_version", result.model.identity.version)
        run.tag("alarms", str(len(result.state.alarms)))


def _own_labels(labels: dict[str, str]) -> list[str]:
    """What tells gauges of one name apart, in characters that MLflow takes."""
    own = [value for name, value in labels.items() if name not in {"model", "version"}]
    return ["".join(c if c.isalnum() or c in " _-." else "-" for c in value) for value in own if value]
