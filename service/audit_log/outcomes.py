"""Imports outcomes into the audit log, beside the answers that they are about: all of a file, or nothing of it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from consilium.domain.errors import CohortError, InputError, Problem
from service.audit_log.outcomes_file import HIDDEN, TABLE, OutcomeLine, read_outcomes
from service.audit_log.pseudonyms import AuditLogKeys, Kind
from service.audit_log.store import Store, require_finding
from service.audit_log.tables import FeedbackRow, ResultRow

CALLER = "import"
_AT_ONCE = 500
_NAMES = UUID("6a0f7e0e-7c54-4f62-9f8e-64b1f2f3a7d1")
"""Ids of imported outcomes are made of what they say: the same one twice is one."""

Item = TypeVar("Item")
Key: TypeAlias = tuple[UUID, str, datetime]
"""Of one outcome: answer, finding, time."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: outcomes that are new, those that were there, and the answers that they are about."""

    outcomes: int
    already_there: int
    answers: int


def import_outcomes(store: Store, path: Path) -> Imported:
    """Keep the outcomes in `path`; see `service.audit_log.outcomes_file`.

    An outcome with an accession number is one of every answer about that order that has the finding, whichever model
    gave it. One that was imported before is passed over, so that a file may be imported again, or a longer one after
    it. A correction has a later time.

    Raises
    ------
    InputError, CohortError
        Nothing was imported.
    AuditLogUnavailable
    """
    lines, problems = read_outcomes(path, datetime.now(UTC))
    with store.database.reading() as session:
        answered = _answers(session, lines, store.keys)
    wanted, unwanted = _wanted(lines, answered)
    if problems or unwanted:
        raise CohortError(sorted([*problems, *unwanted], key=lambda one: one.row or 0))
    # The log is held while it is written, not while the file is checked: the service waits for it.
    with store.database.writing() as session:
        there = _there(session, wanted)
        new = _new(wanted, there)
        for rows in _chunks(new):
            session.execute(insert(FeedbackRow), rows)
    return Imported(len(new), len(wanted) - len(new), len({result_id for result_id, _, _ in wanted}))


@dataclass(frozen=True, slots=True)
class _Answers:
    """The findings of each answer, and the answers about each order, by the digest of its accession number."""

    findings: Mapping[UUID, tuple[str, ...]]
    of_order: Mapping[str, Sequence[UUID]]

    def of(self, line: OutcomeLine) -> list[UUID]:
        """The answers that `line` is about; `InputError` where there are none, or none has its finding."""
        if line.accession is None:
            found = [line.result_id] if line.result_id in self.findings else []
        else:
            found = list(self.of_order.get(line.accession, ()))
        if not found:
            column, shown = ("accession", HIDDEN) if line.accession else ("result_id", str(line.result_id))
            raise InputError(column, shown, "must be of a recorded answer")
        having = [one for one in found if one is not None and line.finding in self.findings[one]]
        if not having:
            answered = sorted({name for one in found if one is not None for name in self.findings[one]})
            require_finding(line.finding, answered, "finding")
        return having


def _answers(session: Session, lines: Sequence[OutcomeLine], keys: AuditLogKeys) -> _Answers:
    orders = {one.accession for one in lines if one.accession}
    signed = {pseudonym: order for order in orders for pseudonym in keys.pseudonyms(Kind.ACCESSION, order)}
    columns = select(ResultRow.result_id, ResultRow.accession, ResultRow.findings)
    findings: dict[UUID, tuple[str, ...]] = {}
    of_order: dict[str, list[UUID]] = defaultdict(list)
    wanted = [columns.where(ResultRow.accession.in_(some)) for some in _chunks(signed)]
    named = {one.result_id for one in lines if one.result_id is not None}
    wanted += [columns.where(ResultRow.result_id.in_(some)) for some in _chunks(named)]
    for statement in wanted:
        for result_id, accession, answered in session.execute(statement):
            findings[result_id] = tuple(one["finding"] for one in answered)
            if accession in signed and result_id not in of_order[signed[accession]]:
                of_order[signed[accession]].append(result_id)
    return _Answers(findings, of_order)


def _wanted(lines: Sequence[OutcomeLine], answered: _Answers) -> tuple[dict[Key, OutcomeLine], list[Problem]]:
    """What each outcome says, once, with the row that says so; and what is wrong with the others."""
    wanted: dict[Key, OutcomeLine] = {}
    problems: list[Problem] = []
    for line in lines:
        try:
            about = answered.of(line)
        except InputError as error:
            problems.append(Problem(TABLE, line.row, error.field, error.value, error.rule))
            continue
        for result_id in about:
            first = wanted.setdefault((result_id, line.finding, line.time), line)
            if (first.state, first.influenced) != (line.state, line.influenced):
                rule = f"contradicts row {first.row}, of the same answer, finding and time"
                problems.append(Problem(TABLE, line.row, "truth", line.state, rule))
                break
    return wanted, problems


def _there(session: Session, wanted: Mapping[Key, OutcomeLine]) -> dict[Key, tuple[str, bool | None]]:
    """What was imported before of the answers that are asked for."""
    found: dict[Key, tuple[str, bool | None]] = {}
    for some in _chunks({result_id for result_id, _, _ in wanted}):
        rows = select(FeedbackRow).where(FeedbackRow.result_id.in_(some), FeedbackRow.source == CALLER)
        for row in session.scalars(rows):
            found[row.result_id, row.finding, row.time] = (row.state, row.influenced)
    return found


def _new(wanted: Mapping[Key, OutcomeLine], there: Mapping[Key, tuple[str, bool | None]]) -> list[dict[str, object]]:
    """Rows of what is not there yet; `CohortError` where something else is there."""
    problems = [
        Problem(TABLE, line.row, "truth", line.state, "contradicts what was imported for this time; give a later time")
        for key, line in wanted.items()
        if there.get(key, (line.state, line.influenced)) != (line.state, line.influenced)
    ]
    if problems:
        raise CohortError(problems)
    return list(_rows({key: line for key, line in wanted.items() if key not in there}))


def _rows(outcomes: Mapping[Key, OutcomeLine]) -> Iterator[dict[str, object]]:
    for (result_id, finding, time), line in outcomes.items():
        yield {
            "feedback_id": uuid.uuid5(_NAMES, f"{result_id} {time.isoformat()}"),
            "finding": finding,
            "result_id": result_id,
            "state": line.state,
            "time": time,
            "caller": CALLER,
            "source": CALLER,
            "influenced": line.influenced,
        }


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """`items` in lists of what one statement takes."""
    left = iter(items)
    while chunk := list(islice(left, _AT_ONCE)):
        yield chunk
