"""Which studies a received record concerns: these are looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hospital.store.clock import Clock
from hospital.store.gateway_store import Store
from hospital.store.received import (
    PatientId,
    PatientMerge,
    Received,
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    ReceivedRejection,
    ReceivedStep,
    RecordsMoved,
    Status,
)
from hospital.store.state import Stored, StudyChanged, StudyStage, StudyState

REOPENED_FOR = timedelta(days=7)
"""After its last object: what comes later about the patient makes no new answer. A late object does."""
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Touch:
    """Something new of one study; `instance`: an object of it, which may be its first."""

    study: str
    instance: ReceivedInstance | None = None


class Intake:
    """Turns received records into studies that are due.

    Parameters
    ----------
    settle : timedelta
        After a record before its study is looked at: several mostly come together.
    """

    def __init__(self, store: Store, clock: Clock, settle: timedelta) -> None:
        self._store = store
        self._now = clock
        self._settle = settle

    def take(self, limit: int = 500) -> int:
        """Take account of records that were not yet; of how many."""
        records = self._store.records.unhandled(limit)
        touches: dict[str, Touch] = {}
        for stored in records:
            for touch in self._touches(stored.record):
                known = touches.get(touch.study)
                touches[touch.study] = touch if known is None or known.instance is None else known
        for touch in touches.values():
            self._touch(touch)
        self._store.records.mark_handled(_numbers(records))
        return len(records)

    def _touches(self, record: Received) -> Iterable[Touch]:
        if isinstance(record, ReceivedInstance):
            return () if record.ours else (Touch(record.study, record),)
        if isinstance(record, ReceivedRejection | ReceivedStep):
            return (Touch(record.study),)
        if isinstance(record, PatientMerge):
            return self._of_patient(record.stays, since=None)
        if isinstance(record, RecordsMoved):
            return self._of_patient(record.patient, since=None)
        if getattr(record, "status", None) is Status.PRELIMINARY:
            return ()
        since = self._now() - REOPENED_FOR
        found = self._of_patient(record.patient, since)
        if isinstance(record, ReceivedObservation | ReceivedNote):
            for other in self._store.records.other_patients(record):
                found += self._of_patient(other, since)
        if isinstance(record, ReceivedOrder) and record.study is not None:
            found = [*found, Touch(record.study)]
        return found

    def _of_patient(self, patient: PatientId, since: datetime | None) -> list[Touch]:
        states = self._store.studies.of(self._store.patients.same(patient))
        return [Touch(state.study) for state in states if since is None or state.last >= since]

    def _touch(self, touch: Touch) -> None:
        for _ in range(_ATTEMPTS):
            state = self._store.studies.get(touch.study)
            changed = _changed(state, touch, self._now() + self._settle)
            if changed is None:
                return
            try:
                self._store.studies.save(changed)
            except StudyChanged:
                continue
            return
        raise StudyChanged("the study is being changed all the time")


def _changed(state: StudyState | None, touch: Touch, due: datetime) -> StudyState | None:
    """The state of a study to which something new belongs; None where it starts none, or a person's word holds."""
    new = touch.instance
    if state is None:
        if new is None or new.requested:
            return None
        stage = StudyStage.ASSEMBLING
        return StudyState(
            touch.study, new.patient, new.accession, stage, first=new.received, last=new.received, due=due
        )
    if state.by_hand and state.stage is StudyStage.IGNORED:
        return None
    last = state.last if new is None else max(state.last, new.received)
    return replace(state, stage=StudyStage.ASSEMBLING, due=due, last=last, by_hand=False)


def _numbers(records: Sequence[Stored]) -> list[int]:
    return [stored.number for stored in records]
