"""The year, top-down: a first champion → days of arrivals, answers and reads → a look of the monitor each month.

An alarm leads to trainings on the grown cohort. The first candidate has learned from an export whose labels slipped by
a row; the next is served so badly that its recorded times are a multiple of what was measured. That is arranged; what
becomes of them is not. The registry, the audit log and the cohort lie in a folder
of the demo's own: a killed year leaves nothing in anybody's registry.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.cli.loop.arrivals import Arrival, arrivals, phase_folder, write_hospital
from consilium.cli.loop.candidates import RECIPE, Workshop, pass_gates, rollout_plan
from consilium.cli.loop.clinic import DeployedModel, audit_log, confirm, kept_answers, record, result_id
from consilium.cli.loop.year import Year
from consilium.cli.loop.year_report import Event, YearReport, performance

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Diagnosis
    from service.audit_log.store import Store
    from training.data.cached_cohort import CachedCohort
    from training.monitoring.monitor import MonitorResult
    from training.pipeline.train import TrainedModel

_SERVING, _CANARY, _SHADOW = "serving", "canary", "shadow"
_SENTENCES = 2
"""Of an alarm, shown on the timeline."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """How the next candidate is made."""

    what: str
    slipped: bool = False
    slow: float = 1.0


@dataclass(slots=True, eq=False)
class Loop:
    """The year as far as it has come.

    Attributes
    ----------
    planned : deque of Candidate
        The bad ones, which the first alarm meets before a good one is made.
    reads : list
        Still to come: when, the answer, the study and the month in which it arrived.
    """

    year: Year
    folder: Path
    store: Store
    cohorts: Mapping[int, CachedCohort]
    workshop: Workshop
    tell: Callable[[Event], None]
    report: YearReport = field(default_factory=YearReport)
    champion: DeployedModel = field(init=False)
    first: DeployedModel = field(init=False)
    candidate: DeployedModel | None = None
    planned: deque[Candidate] = field(default_factory=deque)
    reads: list[tuple[datetime, DeployedModel, str, Arrival, int]] = field(default_factory=list)
    read: dict[int, list[str]] = field(default_factory=dict)
    given: dict[str, Diagnosis] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.champion.diagnostician.identity.name

    def note(self, time: datetime, kind: str, text: str, version: str = "") -> None:
        event = Event(time, kind, text, version)
        self.report.events.append(event)
        self.tell(event)

    def arrived(self, month: int) -> CachedCohort:
        return self.cohorts[self.year.phase_of(month)]


def run_year(
    year: Year, folder: Path, tell: Callable[[Event], None], progress: Callable[[int], None] | None = None
) -> YearReport:
    """Walk through `year`, in the new folder `folder`, and write its report there.

    Raises
    ------
    ConsiliumError
        Where a step fails; what was promoted until then stays so.
    """
    folder.mkdir(parents=True)
    write_hospital(folder / "hospital", year, progress)
    with _own_registry(folder), audit_log(folder / "audit-log") as store:
        loop = Loop(year, folder, store, _read_hospital(folder / "hospital", year), Workshop(folder, year), tell)
        loop.planned = deque(
            [
                Candidate("labels slipped by a row", slipped=True),
                Candidate("deployed badly", slow=year.slow),
            ]
        )
        _begin(loop)
        for month in range(1, year.months + 1):
            _month(loop, month)
        loop.report.last = loop.champion.version
    loop.report.save(folder, asdict(year))
    return loop.report


def _read_hospital(folder: Path, year: Year) -> dict[int, CachedCohort]:
    """The studies of each phase, by the month in which it begins."""
    from training.cohorts import load_cohort
    from training.data.cache_folders import file_cache_folder
    from training.data.cached_cohort import cache_cohort
    from training.recipes import find_recipe

    recipe = find_recipe(RECIPE, year.settings)
    return {
        begin: cache_cohort(load_cohort("manifest", phase_folder(folder, begin)), recipe, file_cache_folder())
        for begin in year.phases
    }


@contextmanager
def _own_registry(folder: Path) -> Iterator[None]:
    """MLflow's store in `folder`, for this process and those that it starts."""
    from consilium.artifacts.embedded_store import sqlite_url

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ["MLFLOW_TRACKING_URI"] = sqlite_url((folder / "mlruns" / "mlflow.db").absolute())
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _begin(loop: Loop) -> None:
    """The first champion: there is nothing to compare it with, and it is promoted as the registry then asks for."""
    studies = [f"S{number:06d}" for number in loop.year.numbers(0)]
    loop.workshop.begin(loop.arrived(1).cohort, studies)
    trained = loop.workshop.train(promote=True)
    loop.champion = loop.first = _deployed(trained)
    loop.report.first = trained.version
    loop.note(loop.year.begin(1), "promoted", f"version {trained.version}, of {len(studies)} studies", trained.version)


def _deployed(trained: TrainedModel, slow: float = 1.0) -> DeployedModel:
    from consilium.inference.diagnostician import Diagnostician

    return DeployedModel(Diagnostician.load(trained.uri), slow)


# --- a month ---------------------------------------------------------------------------------------------------------


def _month(loop: Loop, month: int) -> None:
    arrived = arrivals(loop.year, month)
    for day in loop.year.days(month):
        end = day + timedelta(days=1)
        _answer(loop, month, [one for one in arrived if day <= one.time < end])
        _take_reads(loop, end)
        _take_step(loop, end)
    _measure(loop, month, arrived)
    _look(loop, month)


def _answer(loop: Loop, month: int, arrived: list[Arrival]) -> None:
    """Of each study, the answer that its caller gets, and the shadow's; recorded, and its read awaited."""
    from service.serving.deployment import patient_share

    roles: dict[tuple[DeployedModel, str], list[Arrival]] = {(loop.champion, _SERVING): arrived}
    role, share = _stage(loop)
    if loop.candidate is not None and role == _SHADOW:
        roles[loop.candidate, _SHADOW] = arrived
    elif loop.candidate is not None and role == _CANARY:
        # Both answer the whole day at once, so that their times per study compare.
        here = loop.champion.answer(loop.arrived(month), [one.study_id for one in arrived])
        loop.candidate.answer(loop.arrived(month), [one.study_id for one in arrived])
        to = [one for one in arrived if one.study_id in here and patient_share(here[one.study_id].study) < share]
        roles = {(loop.candidate, _CANARY): to, (loop.champion, _SERVING): [one for one in arrived if one not in to]}
    for (model, name), studies in roles.items():
        found = model.answer(loop.arrived(month), [one.study_id for one in studies])
        answered = {one: found[one.study_id] for one in studies if one.study_id in found}
        record(loop.store, model, name, answered, loop.year.scanner(month))
        if name != _SHADOW:
            loop.given |= {one.study_id: answer.diagnosis for one, answer in answered.items()}
            loop.reads += [(one.read_at, model, name, one, month) for one in answered if one.read_at is not None]


def _stage(loop: Loop) -> tuple[str, float]:
    """In which role the candidate answers, and for which share of patients."""
    from service.rollout.rollout_state import RUNNING, read_state

    if loop.candidate is None:
        return "", 0.0
    state = read_state(loop.name, loop.candidate.version)
    if state is None or state.status != RUNNING:
        return "", 0.0
    stage = state.plan.stages[state.stage]
    return stage.role, stage.share or 0.0


def _take_reads(loop: Loop, now: datetime) -> None:
    due = sorted((one for one in loop.reads if one[0] < now), key=lambda one: one[0])
    loop.reads = [one for one in loop.reads if one[0] >= now]
    for time, model, role, arrival, month in due:
        cohort = loop.arrived(month).cohort
        row = next(row for row, record in enumerate(cohort.records) if record.study_id == arrival.study_id)
        labels = dict(zip(cohort.findings.names, (cohort.labels[row] == 1).tolist(), strict=True))
        confirm(loop.store, result_id(model, role, arrival), labels, time)
        loop.read.setdefault(loop.year.phase_of(month), []).append(arrival.study_id)


def _take_step(loop: Loop, now: datetime) -> None:
    """Of the rollout, if one is under way."""
    from service.rollout import walk
    from service.rollout.rollout_state import PROMOTED, STOPPED

    if loop.candidate is None:
        return
    before = _stage(loop)[0]
    version = loop.candidate.version
    state, verdict = walk.step(loop.store, loop.name, version, now)
    if state.status == PROMOTED:
        loop.champion, loop.candidate = loop.candidate, None
        loop.note(now, "promoted", f"version {version}: {state.reason}", version)
    elif state.status == STOPPED:
        loop.candidate = None
        loop.note(now, "stopped", f"version {version}: {'; '.join(verdict.reasons)}", version)
        _make_candidate(loop, now)
    elif _stage(loop)[0] != before:
        stage = state.plan.stages[state.stage].title
        loop.note(now, "rollout", f"version {version} is {stage}: {state.reason}", version)


def _measure(loop: Loop, month: int, arrived: list[Arrival]) -> None:
    """With and without the loop, on the same studies, by their truth."""
    cached, studies = loop.arrived(month), [one.study_id for one in arrived]
    without = {study: one.diagnosis for study, one in loop.first.answer(cached, studies).items()}
    given = {study: loop.given[study] for study in without}
    measured = {"with_loop": performance(given, cached.cohort), "without": performance(without, cached.cohort)}
    loop.report.months.append({"month": month, "studies": len(given), **measured})


# --- what follows from a look ----------------------------------------------------------------------------------------


def _look(loop: Loop, month: int) -> None:
    from training.monitoring.output.wording import alarm_sentence
    from training.monitoring.run_monitor import MonitorPlan, run_monitor

    now = loop.year.begin(month + 1)
    plan = MonitorPlan(f"models:/{loop.name}@champion", loop.folder / "monitor", now.timestamp())
    result: MonitorResult = run_monitor(plan, partial(kept_answers, loop.store))
    alarms = result.state.alarms
    version = loop.champion.version
    if not alarms:
        text = f"no alarm for version {version}, {result.tested_answers} answers"
        loop.note(now, "monitor", text, version)
        return
    sentences = [alarm_sentence(one, result.model.findings) for one in alarms]
    more = f" ({len(sentences) - _SENTENCES} more)" if len(sentences) > _SENTENCES else ""
    loop.note(now, "alarm", " ".join(sentences[:_SENTENCES]) + more, version)
    if loop.candidate is None:
        _make_candidate(loop, now)


def _make_candidate(loop: Loop, now: datetime) -> None:
    """Train and gate; what passes sets out. After a bad one that is refused, a good one; that is refused, it waits."""
    wanted = loop.planned.popleft() if loop.planned else Candidate("as it should be")
    trained = _trained(loop, wanted, now)
    if _passed(loop, trained, now):
        _set_out(loop, trained, wanted, now)
    elif wanted.slipped:
        _make_candidate(loop, now)


def _trained(loop: Loop, wanted: Candidate, now: datetime) -> TrainedModel:
    phases = {f"{begin:02d}": studies for begin, studies in loop.read.items()}
    names = {f"{begin:02d}": cached.cohort for begin, cached in loop.cohorts.items()}
    studies = loop.workshop.grow(phases, names, f"{now:%m-%d} {len(loop.report.events)}")
    trained = loop.workshop.train(slipped=wanted.slipped)
    text = f"version {trained.version} on {studies} studies: {wanted.what}"
    loop.note(now, "trained", text, trained.version)
    return trained


def _passed(loop: Loop, trained: TrainedModel, now: datetime) -> bool:
    report = pass_gates(trained.uri, f"after an alarm of version {loop.champion.version}")
    failed = [f"{one.gate} ({one.measured})" for one in report.results if one.outcome == "failed"]
    passed = sum(one.outcome == "passed" for one in report.results)
    kind, text = ("gate passed", f"{passed} demands met") if report.passed else ("gate refused", "; ".join(failed))
    loop.note(now, kind, f"version {trained.version}: {text}", trained.version)
    return report.passed


def _set_out(loop: Loop, trained: TrainedModel, wanted: Candidate, now: datetime) -> None:
    from service.rollout.rollout_state import SHADOW, begin

    begin(loop.name, trained.version, rollout_plan(), "after an alarm", now)
    loop.candidate = _deployed(trained, wanted.slow)
    slow = f"; its times are recorded {wanted.slow:g} times as long" if wanted.slow != 1 else ""
    loop.note(now, "rollout", f"version {trained.version} is {SHADOW}{slow}", trained.version)
