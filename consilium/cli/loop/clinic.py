"""What the service does in the year: answers of models on their way, recorded with simulated times, and reads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np

from consilium.cli.loop.arrivals import Arrival
from consilium.domain.study import identifier_digest

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Diagnosis
    from consilium.domain.study import Study
    from consilium.inference.diagnostician import Diagnostician
    from consilium.monitoring.monitored_answer import MonitoredAnswer
    from service.audit_log.entries import Entry
    from service.audit_log.store import Store
    from training.data.cached_cohort import CachedCohort

CALLER = "demo"
_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A study, what a model answers, and in how many milliseconds of one core."""

    study: Study
    diagnosis: Diagnosis
    milliseconds: float


@dataclass(slots=True, eq=False)
class DeployedModel:
    """A version in service.

    Attributes
    ----------
    slow : float
        By how much its recorded times are multiplied; 1: they are what was measured.
    """

    diagnostician: Diagnostician
    slow: float = 1.0
    _answers: dict[str, Answered] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.diagnostician.identity.version

    def answer(self, cached: CachedCohort, studies: Sequence[str]) -> dict[str, Answered]:
        """What it answers of `studies`, each computed once."""
        missing = [study for study in studies if study not in self._answers]
        if missing:
            self._answers |= _answers(self.diagnostician, cached, set(missing))
        return {study: self._answers[study] for study in studies if study in self._answers}


def _answers(model: Diagnostician, cached: CachedCohort, wanted: set[str]) -> Iterator[tuple[str, Answered]]:
    from training.data.datamodule import StudyDataset

    rows = np.array([row for row, record in enumerate(cached.cohort.records) if record.study_id in wanted])
    dataset = StudyDataset(cached, model.preprocessing, rows)
    for start in range(0, len(dataset), _BATCH):
        places = range(start, min(start + _BATCH, len(dataset)))
        begun = time.process_time()
        items = [dataset[place][0] for place in places]
        diagnoses = model.diagnose_prepared(items)
        spent = 1000 * (time.process_time() - begun) / len(items)
        for place, item, diagnosis in zip(places, items, diagnoses, strict=True):
            yield cached.cohort.records[dataset.rows[place]].study_id, Answered(item.study, diagnosis, spent)


@contextmanager
def audit_log(folder: Path) -> Iterator[Store]:
    """A new audit log in `folder`, as the service keeps it."""
    from service.audit_log.database import Database, read_url
    from service.audit_log.pseudonyms import make_keys, read_keys
    from service.audit_log.store import Store

    folder.mkdir(parents=True)
    make_keys(folder / "audit-log.keys")
    database = Database(read_url(f"sqlite:///{folder / 'audit-log.db'}"))
    try:
        yield Store(database, read_keys(folder / "audit-log.keys"))
    finally:
        database.close()


def record(store: Store, model: DeployedModel, role: str, answered: Mapping[Arrival, Answered], scanner: str) -> None:
    """Commit answers to the audit log, with the rows that monitoring reads, at the times of their arrivals.

    Phantoms do not say what made them, as files of a hospital do: here `scanner` did.
    """
    entries = [_entry(model, role, arrival, answer, scanner) for arrival, answer in answered.items()]
    if entries:
        refused = [one for one in store.commit(entries, replay_s=0.0) if one is not None]
        if refused:
            raise refused[0]


def _entry(model: DeployedModel, role: str, arrival: Arrival, answered: Answered, scanner: str) -> Entry:
    from service.audit_log.entries import Endpoint, Entry, Origin

    return Entry(
        result_id=result_id(model, role, arrival),
        time=arrival.time,
        endpoint=Endpoint.DIAGNOSE,
        origin=Origin(CALLER, str(uuid5(NAMESPACE_OID, arrival.study_id))),
        diagnosis=answered.diagnosis,
        study=_made_by(scanner, answered.study),
        caller_reference=None,
        latencies_ms={"diagnose": round(answered.milliseconds * model.slow, 3)},
        body=b"",
        role=role,
    )


def _made_by(scanner: str, study: Study) -> Study:
    digest = identifier_digest(scanner)
    parts = {
        name: tuple(replace(one, device_digest=digest) if _has_device(one) else one for one in records)
        for name, records in study.parts.items()
    }
    return replace(study, parts=parts)


def _has_device(record: Any) -> bool:
    return "device_digest" in {one.name for one in fields(record)}


def result_id(model: DeployedModel, role: str, arrival: Arrival) -> UUID:
    """The same in every run of the demo: the tests behind alarms take answers of a day in the order of their ids."""
    return uuid5(NAMESPACE_OID, f"{model.version} {role} {arrival.study_id}")


def confirm(store: Store, result: UUID, labels: Mapping[str, bool], when: datetime) -> None:
    """Feed back what a reader found who had not seen the answer."""
    from consilium.api.schemas import FeedbackRequest

    states = {finding: "present" if there else "absent" for finding, there in labels.items()}
    request = {"result_id": str(result), "findings": states, "influenced": False, "time": when.isoformat()}
    store.add_feedback(FeedbackRequest.model_validate(request), CALLER)


def kept_answers(
    store: Store, name: str, version: str, since: datetime | None, until: datetime
) -> Iterator[MonitoredAnswer]:
    """What the monitor reads."""
    from service.audit_log.monitored import monitored_answers

    return monitored_answers(store.database, name, version=version, since=since, until=until.astimezone(UTC))
