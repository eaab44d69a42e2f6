"""Who reads, which studies he may read, and what of the answer he may see now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import Session
from starlette.requests import Request

from consilium.domain.errors import InputError
from service.audit_log.audit_routes import caller_of
from service.audit_log.tables import StudyReadRow, StudyRow, StudyViewRow
from service.audit_log.tasks.study_answers import ANSWERED, RECEIVING
from service.http.problems import NotYetReadable
from service.scopes import Scope
from service.settings import Settings

ANSWER, DETAIL = "answer", "detail"
"""What is viewed, beside the words of a file."""


class NoSuchStudy(InputError):
    """There is no study of this id, or it is another reading group's."""

    status = 404

    def __init__(self, study_id: object) -> None:
        rule = "must be the id of a study of this caller's reading group that has not expired"
        super().__init__("study_id", str(study_id), rule)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads.

    Attributes
    ----------
    caller : str
    groups : frozenset of str or None
        His reading groups; None: he sees those of all.
    """

    caller: str
    groups: frozenset[str] | None

    @property
    def own(self) -> ColumnElement[bool]:
        """Which studies he may read."""
        return true() if self.groups is None else StudyRow.reading_group.in_(sorted(self.groups))


def groups_of(request: Request) -> frozenset[str]:
    """The reading groups of whoever sent `request`; one that is in none is one of his own."""
    named: Iterable[str] = getattr(request.state, "groups", None) or ()
    return frozenset(named) or frozenset({caller_of(request)})


def reader_of(request: Request) -> Reader:
    """Who reads by `request`."""
    everybody = Scope.ADMIN in getattr(request.state, "scopes", ())
    return Reader(caller_of(request), None if everybody else groups_of(request))


def require_member(request: Request, group: str) -> None:
    """Raise `InputError` where whoever sent `request` may hand nothing over to readers in `group`."""
    if group not in groups_of(request) and Scope.ADMIN not in getattr(request.state, "scopes", ()):
        raise InputError("reading_group", group, "must be a reading group of this caller: see `consilium keys`")


def group_of(request: Request) -> str:
    """The reading group to which a study of `request` belongs: the first of the sender's."""
    return min(groups_of(request))


def found(session: Session, study_id: UUID, reader: Reader, *, lock: bool = False) -> StudyRow:
    """The row of a study that `reader` may read.

    Raises
    ------
    NoSuchStudy
    """
    wanted = select(StudyRow).where(StudyRow.study_id == study_id, reader.own, StudyRow.expires > datetime.now(UTC))
    row = session.scalars(wanted.with_for_update() if lock else wanted).first()
    if row is None or row.state == RECEIVING:
        raise NoSuchStudy(study_id)
    return row


def sees(session: Session, row: StudyRow, reader: Reader, settings: Settings) -> bool:
    """Whether `reader` knows the answer, or may at any moment without leaving a trace: it is shown to him."""
    if row.state != ANSWERED or row.beside is not None:
        return False
    if settings.studies_answer == "at_once" or revealed(session, row.study_id, reader) is not None:
        return True
    return settings.studies_answer == "after_first_read" and has_read(session, row.study_id, reader)


def require_readable(session: Session, row: StudyRow, reader: Reader, settings: Settings) -> None:
    """Raise `NotYetReadable` where the answer is not there, or hidden from `reader` until he has read the study."""
    if row.beside is not None:
        raise NotYetReadable("This study is shown beside another one and gets no answer.")
    if row.state != ANSWERED:
        raise NotYetReadable("This study has no answer yet." if row.state != "refused" else "This study was refused.")
    if settings.studies_answer == "after_first_read" and not has_read(session, row.study_id, reader):
        raise NotYetReadable("The answer is shown once a first read of this caller is recorded.")


def has_read(session: Session, study_id: UUID, reader: Reader) -> bool:
    """Whether `reader` has recorded what he saw."""
    mine = StudyReadRow.study_id == study_id, StudyReadRow.caller == reader.caller
    return session.scalar(select(func.count()).where(*mine)) != 0


def revealed(session: Session, study_id: UUID, reader: Reader) -> datetime | None:
    """When `reader` first saw the answer."""
    mine = StudyViewRow.study_id == study_id, StudyViewRow.caller == reader.caller, StudyViewRow.what == ANSWER
    return session.scalar(select(func.min(StudyViewRow.time)).where(*mine))


def note_view(session: Session, study_id: UUID, reader: Reader, what: str) -> None:
    """Leave a row that says who saw what, and when."""
    session.add(
        StudyViewRow(view_id=uuid4(), study_id=study_id, what=what, time=datetime.now(UTC), caller=reader.caller)
    )
