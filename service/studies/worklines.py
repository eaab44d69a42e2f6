"""The lines of the reading worklist: made of what is sealed, filtered, sorted, and paged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from consilium.api.schemas import StudyFilter, StudyList, StudySort, StudySummary
from consilium.domain.errors import InputError
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.tables import StudyReadRow, StudyRow, StudyViewRow
from service.audit_log.tasks.study_answers import ANSWERED, REFUSED
from service.settings import Settings
from service.studies.reader import ANSWER, RECEIVING, Reader
from service.studies.stored_contents import unsealed_json

_FIRST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines a reader wants.

    Attributes
    ----------
    after : UUID or None
        The last study of the page before.
    """

    state: StudyFilter | None = None
    search: str = ""
    sort: StudySort = "created"
    after: UUID | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Known:
    """Of several studies: the latest read of each, and of which the reader has read or seen the answer."""

    latest: dict[UUID, str]
    own: frozenset[UUID]
    revealed: frozenset[UUID]


def worklist(session: Session, reader: Reader, asked: Asked, keys: AuditLogKeys, settings: Settings) -> StudyList:
    """The page of the worklist that `reader` has `asked` for."""
    if asked.sort == "priority" and not settings.studies_priority:
        raise InputError("sort", asked.sort, "must be created or studied while CONSILIUM_STUDIES_PRIORITY is off")
    now = datetime.now(UTC)
    wanted = select(StudyRow).where(reader.own, StudyRow.expires > now, StudyRow.state != RECEIVING)
    rows = session.scalars(wanted).all()
    known = known_of(session, reader, [row.study_id for row in rows])
    lines = [line for row in rows if _passes(line := summary_of(row, known, keys, settings), asked)]
    lines.sort(key=lambda line: (_sort_key(line, asked.sort), line.created, line.study_id), reverse=True)
    begin = _position(lines, asked.after)
    page = lines[begin : begin + asked.limit]
    more = begin + asked.limit < len(lines)
    return StudyList(studies=tuple(page), next=str(page[-1].study_id) if more else None, total=len(lines))


def known_of(session: Session, reader: Reader, study_ids: Sequence[UUID]) -> Known:
    """What was read and seen of these studies."""
    latest: dict[UUID, str] = {}
    own: set[UUID] = set()
    seen: set[UUID] = set()
    for begin in range(0, len(study_ids), 500):
        some = study_ids[begin : begin + 500]
        reads = select(StudyReadRow).where(StudyReadRow.study_id.in_(some)).order_by(StudyReadRow.time)
        for read in session.scalars(reads):
            latest[read.study_id] = read.kind
            if read.caller == reader.caller:
                own.add(read.study_id)
        mine = StudyViewRow.study_id.in_(some), StudyViewRow.caller == reader.caller, StudyViewRow.what == ANSWER
        seen |= set(session.scalars(select(StudyViewRow.study_id).where(*mine)))
    return Known(latest, frozenset(own), frozenset(seen))


def summary_of(row: StudyRow, known: Known, keys: AuditLogKeys, settings: Settings) -> StudySummary:
    """The line of one study, without what gives the answer away to who may not see it."""
    facts = {} if row.summary is None else unsealed_json(keys, row.study_id, "summary", row.summary)
    facts.pop("patient_digest", None)
    outcome = None if row.outcome is None else unsealed_json(keys, row.study_id, "outcome", row.outcome)
    shown = row.state == ANSWERED and _shown(row.study_id, known, settings)
    problem = None if row.problem is None else unsealed_json(keys, row.study_id, "problem", row.problem)
    nothing = {"studied": None, "patient": None, "modalities": (), "image_count": 0}
    return StudySummary.model_validate(
        {
            "study_id": row.study_id,
            "state": row.state,
            "created": row.submitted,
            "expires": row.expires,
            "problem": problem,
            "read": known.latest.get(row.study_id),
            "priority": _priority(outcome, settings),
            **(nothing | facts),
            **_of_answer(outcome, shown),
        }
    )


def _shown(study_id: UUID, known: Known, settings: Settings) -> bool:
    if settings.studies_answer == "at_once" or study_id in known.revealed:
        return True
    return settings.studies_answer == "after_first_read" and study_id in known.own


def _of_answer(outcome: dict[str, Any] | None, shown: bool) -> dict[str, Any]:
    if outcome is None:
        return {"referred": False, "refer_reasons": (), "called": None}
    reasons = [*outcome["refer_reasons"], *(outcome["finding_reasons"] if shown else ())]
    return {
        "referred": bool(reasons),
        "refer_reasons": tuple(reasons),
        "called": tuple(outcome["called"]) if shown else None,
    }


def _priority(outcome: dict[str, Any] | None, settings: Settings) -> float | None:
    """The highest probability, and 1 more where a physician must assess the study without the model."""
    if outcome is None or not settings.studies_priority:
        return None
    return float(outcome["highest"]) + bool(outcome["refer_reasons"])


def _passes(line: StudySummary, asked: Asked) -> bool:
    if asked.search:
        label = "" if line.patient is None else line.patient.label or ""
        if asked.search.casefold() not in f"{label} {line.study_id}".casefold():
            return False
    passes = {
        None: True,
        "waiting": line.state != REFUSED and line.read is None,
        "read": line.read is not None,
        "referred": line.referred,
        "refused": line.state == REFUSED,
    }
    return passes[asked.state]


def _sort_key(line: StudySummary, sort: StudySort) -> Any:
    if sort == "studied":
        return line.studied or _FIRST
    return -1.0 if line.priority is None else line.priority


def _position(lines: Iterable[StudySummary], after: UUID | None) -> int:
    if after is None:
        return 0
    for position, line in enumerate(lines):
        if line.study_id == after:
            return position + 1
    raise InputError("after", str(after), "must be the `next` of a page that was asked for in the same way")
