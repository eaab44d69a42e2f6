"""The lines of the reading worklist: filtered, sorted and paged by the database, or by what is sealed where it must be.

Who asks for studies in the order in which they came, or for those of one patient's id, has one page read and unsealed,
however many there are. When a study was made, its priority, and whether a finding of it is referred lie sealed: of
these every study of the reader is compared, by what the process remembers (`OpenedFacts`). Of a part of a label or an
id the latest ones are unsealed; a study of which the id is given whole is found however old it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, tuple_
from sqlalchemy.orm import Session, defer

from consilium.api.schemas import StudyFilter, StudyList, StudySort, StudySummary
from consilium.domain.errors import InputError
from service.audit_log.pseudonyms import AuditLogKeys, Kind, Unsealable
from service.audit_log.tables import StudyReadRow, StudyRow, StudyViewRow
from service.audit_log.tasks.study_answers import ANSWERED, RECEIVING, REFUSED, STORED
from service.settings import Settings
from service.studies.patient_index import of_patient_id
from service.studies.reader import ANSWER, Reader
from service.studies.sorting.opened_facts import OpenedFacts
from service.studies.stored_contents import unsealed_json

logger = logging.getLogger("consilium.service")

Line = TypeVar("Line")
_FIRST = datetime.min.replace(tzinfo=UTC)
_LINES_AT_ONCE = 500
MOST_SEARCHED = 5_000
"""Studies that are unsealed for a part of their label."""
_COLUMNS = StudyRow.study_id, StudyRow.submitted, StudyRow.state
_UNOPENED = "stored study %s: none of the audit log's keys opens it"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines a reader wants.

    Attributes
    ----------
    after : UUID or None
        The last study of the page before.
    beside : str
        SHA-256 of a Study Instance UID: the priors that the reader handed over to be shown with that study. Empty: no
        priors.
    result_id : UUID or None
        What the reader handed over to get this answer.
    """

    state: StudyFilter | None = None
    search: str = ""
    patient_id: str = ""
    sort: StudySort = "created"
    after: UUID | None = None
    limit: int = 50
    beside: str = ""
    result_id: UUID | None = None

    @property
    def by_time(self) -> bool:
        """Whether the database alone can tell which lines these are, and in an order that it has an index of."""
        return self.sort == "created" and not (self.search or self.patient_id) and self.state != "referred"


@dataclass(frozen=True, slots=True)
class Known:
    """Of several studies: the latest read of each, and of which the reader has read or seen the answer."""

    latest: dict[UUID, str]
    own: frozenset[UUID]
    revealed: frozenset[UUID]


def worklist(
    session: Session, reader: Reader, asked: Asked, keys: AuditLogKeys, settings: Settings, facts: OpenedFacts
) -> StudyList:
    """The page of the worklist that `reader` has `asked` for."""
    if asked.sort == "priority" and not settings.studies_priority:
        raise InputError("sort", asked.sort, "must be created or studied while CONSILIUM_STUDIES_PRIORITY is off")
    there = StudyRow.expires > datetime.now(UTC), StudyRow.state != RECEIVING
    alive = [reader.own, *there, *_of_kind(reader, asked, keys), *_in_state(asked.state)]
    if asked.patient_id:
        alive.append(of_patient_id(keys, asked.patient_id))
    searched = None
    if asked.by_time:
        found, total = _page_by_time(session, reader, asked, alive)
    else:
        found, total, searched = _page_by_contents(session, reader, asked, alive, keys, settings, facts)
    page = found[: asked.limit]
    without_answers = select(StudyRow).options(defer(StudyRow.answer), defer(StudyRow.contents))
    rows = {row.study_id: row for row in session.scalars(without_answers.where(StudyRow.study_id.in_(page)))}
    known = known_of(session, reader, page)
    lines = _opened((rows[one] for one in page if one in rows), lambda row: summary_of(row, known, keys, settings))
    return StudyList(
        studies=tuple(lines), next=str(page[-1]) if len(found) > asked.limit else None, total=total, searched=searched
    )


def _opened(rows: Iterable[Any], line: Callable[[Any], Line]) -> Iterator[Line]:
    """What `line` makes of each row; what none of the keys opens is left out, and keeps no other one from readers."""
    for row in rows:
        try:
            yield line(row)
        except Unsealable:
            logger.error(_UNOPENED, row.study_id)


def _of_kind(reader: Reader, asked: Asked, keys: AuditLogKeys) -> Sequence[ColumnElement[bool]]:
    if asked.result_id is not None:
        return StudyRow.result_id == asked.result_id, StudyRow.caller == reader.caller
    if not asked.beside:
        return (StudyRow.beside.is_(None),)
    return StudyRow.beside.in_(keys.pseudonyms(Kind.STUDY, asked.beside)), StudyRow.caller == reader.caller


def _in_state(state: StudyFilter | None) -> Sequence[ColumnElement[bool]]:
    """What the database knows of the filter."""
    is_read = exists().where(StudyReadRow.study_id == StudyRow.study_id)
    if state == "waiting":
        return StudyRow.state != REFUSED, ~is_read
    if state == "read":
        return (is_read,)
    return (StudyRow.state == REFUSED,) if state == "refused" else ()


def _page_by_time(
    session: Session, reader: Reader, asked: Asked, alive: Sequence[ColumnElement[bool]]
) -> tuple[Sequence[UUID], int]:
    """The ids of the page and of one study more where there is one; and of how many it is a page."""
    place = StudyRow.submitted, StudyRow.study_id
    wanted = select(StudyRow.study_id).where(*alive)
    if asked.after is not None:
        last = session.execute(select(*place).where(StudyRow.study_id == asked.after, reader.own)).first()
        if last is None:
            raise _no_page(asked.after)
        wanted = wanted.where(tuple_(*place) < tuple(last))
    ids = session.scalars(wanted.order_by(*(one.desc() for one in place)).limit(asked.limit + 1)).all()
    return ids, session.scalar(select(func.count()).select_from(StudyRow).where(*alive)) or 0


def _page_by_contents(
    session: Session,
    reader: Reader,
    asked: Asked,
    alive: Sequence[ColumnElement[bool]],
    keys: AuditLogKeys,
    settings: Settings,
    facts: OpenedFacts,
) -> tuple[Sequence[UUID], int, int | None]:
    """The same, of what is sealed, and how many of the latest were searched where there are more."""
    rows, searched = _candidates(session, asked, alive, keys)
    if asked.state == "referred":
        rows = _referred(session, reader, rows, keys, settings, facts)
    places = _places(session, rows, asked.sort, keys, facts)
    behind = places
    if asked.after is not None:
        # It may have left the filter meanwhile.
        row = session.execute(select(*_COLUMNS).where(StudyRow.study_id == asked.after, reader.own)).first()
        last = [] if row is None else _places(session, [row], asked.sort, keys, facts)
        if not last:
            raise _no_page(asked.after)
        behind = [place for place in places if place < last[0]]
    return [study_id for _, _, study_id in behind[: asked.limit + 1]], len(places), searched


def _candidates(
    session: Session, asked: Asked, alive: Sequence[ColumnElement[bool]], keys: AuditLogKeys
) -> tuple[Sequence[Any], int | None]:
    """Rows of which the label or an id holds what is searched for, and how many are searched where not all."""
    wanted = select(*_COLUMNS).where(*alive)
    if not asked.search:
        return session.execute(wanted).all(), None
    whole = of_patient_id(keys, asked.search)
    if (study_id := _study_id(asked.search)) is not None:
        whole |= StudyRow.study_id == study_id
    named = {row.study_id: row for row in session.execute(wanted.where(whole))}
    latest = select(*_COLUMNS, StudyRow.summary).where(*alive)
    latest = latest.order_by(StudyRow.submitted.desc(), StudyRow.study_id.desc()).limit(MOST_SEARCHED + 1)
    rows = session.execute(latest).all()
    searched = MOST_SEARCHED if len(rows) > MOST_SEARCHED else None
    others = [row for row in rows[:MOST_SEARCHED] if row.study_id not in named]
    held = zip(others, _opened_labels(others, keys), strict=True)
    text = asked.search.casefold()
    return [*named.values(), *(row for row, label in held if label is not None and text in label)], searched


def _opened_labels(rows: Sequence[Any], keys: AuditLogKeys) -> Iterator[str | None]:
    """Label and id of each row, in small letters; None of one that none of the keys opens."""
    for row in rows:
        try:
            facts = {} if row.summary is None else unsealed_json(keys, row.study_id, "summary", row.summary)
        except Unsealable:
            logger.error(_UNOPENED, row.study_id)
            yield None
        else:
            label = (facts.get("patient") or {}).get("label") or ""
            yield f"{label} {row.study_id}".casefold()


def _referred(
    session: Session,
    reader: Reader,
    rows: Sequence[Any],
    keys: AuditLogKeys,
    settings: Settings,
    facts: OpenedFacts,
) -> list[Any]:
    """Those that are referred, as far as `reader` may know it."""
    ids = [row.study_id for row in rows]
    outcomes, known = facts.outcomes(session, keys, ids), known_of(session, reader, ids)

    def is_referred(row: Any) -> bool:
        found = outcomes.get(row.study_id)
        if found is None:
            return False
        return found.of_study or (found.of_findings and row.state == ANSWERED and _shown(row.study_id, known, settings))

    return [row for row in rows if is_referred(row)]


def _places(
    session: Session, rows: Sequence[Any], sort: StudySort, keys: AuditLogKeys, facts: OpenedFacts
) -> list[tuple[Any, datetime, UUID]]:
    """By what the studies are sorted, the first of a worklist first."""
    ids = [row.study_id for row in rows]
    by: dict[UUID, Any] = {}
    if sort == "studied":
        by = {one: studied or _FIRST for one, studied in facts.studied(session, keys, ids).items()}
    elif sort == "priority":
        by = {one: found.highest + found.of_study for one, found in facts.outcomes(session, keys, ids).items()}
    none = {"studied": _FIRST, "priority": -1.0}.get(sort, 0)
    return sorted(((by.get(row.study_id, none), row.submitted, row.study_id) for row in rows), reverse=True)


def _study_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _no_page(after: UUID) -> InputError:
    return InputError("after", str(after), "must be the `next` of a page that was asked for in the same way")


def known_of(session: Session, reader: Reader, study_ids: Sequence[UUID]) -> Known:
    """What was read and seen of these studies."""
    latest: dict[UUID, str] = {}
    own: set[UUID] = set()
    seen: set[UUID] = set()
    for begin in range(0, len(study_ids), _LINES_AT_ONCE):
        some = study_ids[begin : begin + _LINES_AT_ONCE]
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
    for name in ("patient_digest", "issuer_digest", "study_digest"):
        facts.pop(name, None)
    outcome = None if row.outcome is None else unsealed_json(keys, row.study_id, "outcome", row.outcome)
    shown = row.state == ANSWERED and _shown(row.study_id, known, settings)
    problem = None if row.problem is None else unsealed_json(keys, row.study_id, "problem", row.problem)
    nothing = {"studied": None, "patient": None, "modalities": (), "image_count": 0}
    return StudySummary.model_validate(
        {
            "study_id": row.study_id,
            "state": STORED if row.beside is not None and row.state == ANSWERED else row.state,
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
