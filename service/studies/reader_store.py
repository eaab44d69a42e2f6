"""Stored studies as readers see them: handed over, listed, looked at, deleted when their time is over.

Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, exists, func, select, text
from sqlalchemy.orm import Session

from consilium.api.schemas import PriorStudy, StudyAnswer, StudyDetail, StudyList
from consilium.domain.errors import InputError
from consilium.modalities.presentation import file_viewings
from service.audit_log import idempotency as claims
from service.audit_log.database import AuditLogUnavailable
from service.audit_log.entries import Claim
from service.audit_log.pseudonyms import AuditLogKeys, Kind
from service.audit_log.store import Store
from service.audit_log.tables import JobRow, StudyChunkRow, StudyRow, StudyViewRow
from service.audit_log.tasks.leases import QUEUED
from service.audit_log.tasks.study_answers import ANSWERED, RECEIVING, REFUSED, study_place, superseding
from service.http.multipart import Form
from service.http.problems import NotOffered, Unavailable
from service.leased_work.lease_store import add_slowly
from service.leased_work.sealed_input import sealed, size, unsealed_bytes
from service.settings import Settings
from service.studies.answering_store import FORM, delete_chunks
from service.studies.decisions import reading_state
from service.studies.handed_over import priors_of
from service.studies.kept_views import WordsOfFile, words_name
from service.studies.patient_index import NOT_INDEXED, of_patient, same_patient
from service.studies.reader import (
    ANSWER,
    DETAIL,
    Reader,
    found,
    note_view,
    require_readable,
)
from service.studies.sorting.opened_facts import OpenedFacts
from service.studies.stored_contents import opened_json, unsealed_json
from service.studies.worklines import Asked, known_of, summary_of, worklist

_RETRY_AFTER_S = 10
_ROOM_LOCK = 0x636F6E75
"""Of PostgreSQL's advisory locks the one under which room is given out."""
_RECEIVING_S = 300.0
"""Older than this, what is still being received is of a process that crashed."""
_MOST_PRIORS = 20
_SAME_VIEW = timedelta(minutes=5)
"""A page that looks again whether a study has changed leaves no row each time."""


class ReaderStore:
    """Stored studies in the audit log's database.

    Parameters
    ----------
    store : Store
        The audit log, with the keys that seal.
    facts : OpenedFacts, optional
        What this process has unsealed before.
    """

    def __init__(self, store: Store, settings: Settings, facts: OpenedFacts | None = None) -> None:
        self._facts = OpenedFacts() if facts is None else facts
        self._database = store.database
        self._keys = store.keys
        self._settings = settings

    def check_room(self) -> None:
        """Raise where no study could be handed over now, however small.

        Raises
        ------
        Unavailable, AuditLogUnavailable
        """
        with self._database.reading() as session:
            self._require_room(session, 1)

    def receive(self, caller: str, group: str, form: Form, claim: Claim | None, beside: str | None) -> StudyAnswer:
        """Keep `form` as a new study. When this returns it is on the disk, and will be answered.

        Parameters
        ----------
        beside : str or None
            Of a prior, which gets no answer: SHA-256 of the Study Instance UID of the study that it is shown with.

        Raises
        ------
        Unavailable, AuditLogUnavailable
        InFlight
            Where another request took the idempotency key over.
        """
        study_id = self._open(caller, group, size(form), beside)
        try:
            chunks = enumerate(sealed(form, self._keys, study_place(study_id, FORM)))
            add_slowly(
                self._database,
                (StudyChunkRow(study_id=study_id, name=FORM, chunk=number, data=data) for number, data in chunks),
            )
            return self._queue(study_id, claim)
        except BaseException:
            with suppress(AuditLogUnavailable):
                self._delete(study_id)
            raise

    def worklist(self, reader: Reader, asked: Asked) -> StudyList:
        """A page of the studies that `reader` may read.

        Raises
        ------
        InputError, AuditLogUnavailable
        """
        with self._database.reading() as session:
            return worklist(session, reader, asked, self._keys, self._settings, self._facts)

    def detail(self, study_id: UUID, reader: Reader, findings: Sequence[Mapping[str, str]]) -> StudyDetail:
        """What there is to see of a study, its words and the answer aside.

        Parameters
        ----------
        findings : sequence of mappings
            ``name`` and ``display`` of those of the model that serves, which a study without an answer will have.

        Raises
        ------
        NoSuchStudy, AuditLogUnavailable
        """
        with self._database.reading() as session:
            row = found(session, study_id, reader)
            is_news = row.contents is not None and not self._seen_just_now(session, study_id, reader)
            known = known_of(session, reader, [study_id])
            summary = summary_of(row, known, self._keys, self._settings)
            detail = StudyDetail.model_validate(
                {
                    **dict(summary),
                    **_contents(row, self._keys),
                    "priors": self._priors(session, row, reader),
                    "superseded_by": superseding(session, row),
                    "reading": reading_state(session, row, reader, self._settings, self._findings(row) or findings),
                }
            )
        if is_news:
            self._note(study_id, reader, DETAIL)
        return detail

    def words(self, study_id: UUID, reader: Reader, name: str, number: int) -> WordsOfFile:
        """The file `number` of those called `name`. Where its words are stored, that `reader` saw them is recorded.

        Raises
        ------
        NoSuchStudy, NotOffered, AuditLogUnavailable
        """
        place = words_name(name, number)
        wanted = select(StudyChunkRow.data).where(StudyChunkRow.study_id == study_id, StudyChunkRow.name == place)
        with self._database.reading() as session:
            row = found(session, study_id, reader)
            views = _contents(row, self._keys).get(name, ())
            chunks = session.scalars(wanted.order_by(StudyChunkRow.chunk)).all()
            view = views[number] if number < len(views) else {"pixels": "expired"}
            if view["pixels"] == "pacs":
                return WordsOfFile(view, None, self._patient(row))
            if not chunks or view["pixels"] != "stored":
                raise NotOffered("This study has no such file, or its pixels are not stored any more.")
        self._note(study_id, reader, place)
        return WordsOfFile(view, unsealed_bytes(chunks, self._keys, study_place(study_id, place)))

    def saw_words(self, study_id: UUID, reader: Reader, name: str, number: int) -> None:
        """Record that `reader` sees words that came from the archive.

        Raises
        ------
        AuditLogUnavailable
        """
        self._note(study_id, reader, words_name(name, number))

    def _patient(self, row: StudyRow) -> str | None:
        if row.summary is None:
            return None
        digest: str | None = unsealed_json(self._keys, row.study_id, "summary", row.summary)["patient_digest"]
        return digest

    def answer(self, study_id: UUID, reader: Reader) -> bytes:
        """The answer as it was recorded; that `reader` has seen it is recorded, too.

        Raises
        ------
        NoSuchStudy, NotYetReadable, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = found(session, study_id, reader)
            require_readable(session, row, reader, self._settings)
            assert row.answer is not None
            note_view(session, study_id, reader, ANSWER)
            return self._keys.unseal(row.answer, study_place(study_id, ANSWER))

    def delete(self, study_id: UUID, reader: Reader) -> None:
        """Delete a study before its time, and the priors that were handed over to be shown with it.

        Its reads, flags and views stay, and the audit log's entry.

        Raises
        ------
        NoSuchStudy, AuditLogUnavailable
        """
        with self._database.writing() as session:
            # From here on nobody finds it, whatever happens to this process.
            found(session, study_id, reader, lock=True).expires = datetime.now(UTC)
        for one in self._with_priors([study_id]):
            self._delete(one)

    def purge(self) -> int:
        """Delete studies and pixels whose time is over, and what a crashed process was receiving; how many."""
        now = datetime.now(UTC)
        # Of a job's study, `owner` is the process that holds the job.
        answering = exists().where(JobRow.owner == StudyRow.owner)
        abandoned = (StudyRow.state == RECEIVING) & (StudyRow.submitted <= now - timedelta(seconds=_RECEIVING_S))
        abandoned &= ~answering
        ended = StudyRow.pixels_until <= now, StudyRow.state.in_((ANSWERED, REFUSED))
        with self._database.reading() as session:
            over = session.scalars(select(StudyRow.study_id).where((StudyRow.expires <= now) | abandoned)).all()
            wordy = select(StudyChunkRow.study_id).join(StudyRow, StudyRow.study_id == StudyChunkRow.study_id)
            faded = session.scalars(wordy.where(*ended).distinct()).all()
            # A process died between the answer and this.
            answered = StudyRow.state.in_((ANSWERED, REFUSED)), StudyChunkRow.name == FORM
            left = session.scalars(wordy.where(*answered).distinct()).all()
        over = self._with_priors(over)
        for study_id in set(left) - set(over):
            delete_chunks(self._database, study_id, FORM)
        for study_id in over:
            self._delete(study_id)
        for study_id in set(faded) - set(over):
            delete_chunks(self._database, study_id)
        if over or faded:
            self._database.shrink()
        return len(over) + len(set(faded) - set(over))

    def _with_priors(self, over: Sequence[UUID]) -> Sequence[UUID]:
        """Studies that are over, after the priors that go with them: a process that dies before the end goes on."""
        with self._database.reading() as session:
            priors = priors_of(session, self._keys, over) if over else []
        return list(dict.fromkeys((*priors, *over)))

    def _note(self, study_id: UUID, reader: Reader, what: str) -> None:
        """On the disk before anybody sees it. SQLite has one writer at a time: what is shown is read before."""
        with self._database.writing() as session:
            note_view(session, study_id, reader, what)

    def _require_room(self, session: Session, wanted: int) -> None:
        taken = session.scalar(select(func.sum(StudyRow.size))) or 0
        if taken + wanted > self._settings.studies_bytes:
            raise Unavailable("The storage quota of studies is exceeded.", _RETRY_AFTER_S)

    def _open(self, caller: str, group: str, wanted: int, beside: str | None) -> UUID:
        now, settings = datetime.now(UTC), self._settings
        expires = now + timedelta(seconds=settings.studies_ttl_s)
        row = StudyRow(
            study_id=uuid4(),
            reading_group=group,
            caller=caller,
            state=RECEIVING,
            submitted=now,
            pixels_until=min(expires, now + timedelta(seconds=settings.studies_pixels_s)),
            expires=expires,
            losses=0,
            size=wanted,
            beside=None if beside is None else self._keys.newest.pseudonym(Kind.STUDY, beside),
        )
        with self._database.writing() as session:
            if self._database.path is None:
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ROOM_LOCK})
            self._require_room(session, wanted)
            session.add(row)
        return row.study_id

    def _queue(self, study_id: UUID, claim: Claim | None) -> StudyAnswer:
        with self._database.writing() as session:
            row = session.get(StudyRow, study_id, with_for_update=True)
            if row is None:
                raise Unavailable("This study took too long to be received.", _RETRY_AFTER_S)
            row.state = QUEUED
            session.flush()
            answer = StudyAnswer(study_id=study_id, state=QUEUED, created=row.submitted, expires=row.expires)
            if claim is not None:
                held = claims.held(session, claim)
                if isinstance(held, claims.InFlight):
                    raise held
                until = row.submitted + timedelta(seconds=self._settings.idempotency_s)
                claims.keep(held, self._keys, answer.model_dump_json().encode(), until)
        return answer

    def _priors(self, session: Session, row: StudyRow, reader: Reader) -> list[PriorStudy]:
        """Earlier studies of the patient and those that were handed over to be shown with this one, latest first."""
        if row.summary is None:
            return []
        own = unsealed_json(self._keys, row.study_id, "summary", row.summary)
        alive = StudyRow.expires > datetime.now(UTC), StudyRow.summary.is_not(None), StudyRow.state != RECEIVING
        others = select(StudyRow.study_id, StudyRow.submitted, StudyRow.summary, StudyRow.beside).where(
            reader.own, StudyRow.reading_group == row.reading_group, StudyRow.study_id != row.study_id, *alive
        )
        found: dict[object, tuple[Any, PriorStudy]] = {}
        # Of one prior that was handed over twice the last counts, and none where the study itself was sent, too.
        # Sorted here: for an order by time SQLite walks through the whole reading group.
        for other in chain.from_iterable(
            sorted(session.execute(others.where(*which)), key=lambda one: one.submitted)
            for which in self._of_one_person(own)
        ):
            facts = opened_json(self._keys, other.study_id, "summary", other.summary)
            if facts is None or not _may_be_prior((facts, other), (own, row)):
                continue
            prior = {"study_id": other.study_id, "studied": facts["studied"], "image_count": facts["image_count"]}
            handed_over = facts.get("study_digest") or other.study_id
            if other.beside is None:
                found.pop(handed_over, None)
            name = other.study_id if other.beside is None else handed_over
            found[name] = facts["studied"] or "", PriorStudy.model_validate(prior)
        latest_first = sorted(found.values(), key=lambda one: one[0], reverse=True)
        return [prior for _, prior in latest_first[:_MOST_PRIORS]]

    def _of_one_person(self, own: Mapping[str, Any]) -> Iterator[tuple[ColumnElement[bool], ...]]:
        """Which studies may be priors of the one with the summary `own`: first those that were handed over for it."""
        if own.get("study_digest") is not None:
            yield (StudyRow.beside.in_(self._keys.pseudonyms(Kind.STUDY, own["study_digest"])),)
        if own["patient_digest"] is not None:
            yield StudyRow.beside.is_(None), of_patient(self._keys, own["patient_digest"])
            yield StudyRow.beside.is_(None), NOT_INDEXED

    def _findings(self, row: StudyRow) -> list[dict[str, str]]:
        """Those of the answer; none without one."""
        if row.outcome is None:
            return []
        found: list[dict[str, str]] = unsealed_json(self._keys, row.study_id, "outcome", row.outcome)["findings"]
        return found

    def _seen_just_now(self, session: Session, study_id: UUID, reader: Reader) -> bool:
        mine = StudyViewRow.study_id == study_id, StudyViewRow.caller == reader.caller, StudyViewRow.what == DETAIL
        lately = StudyViewRow.time > datetime.now(UTC) - _SAME_VIEW
        return session.scalar(select(func.count()).where(*mine, lately)) != 0

    def _delete(self, study_id: UUID) -> None:
        delete_chunks(self._database, study_id)
        with self._database.writing() as session:
            session.execute(delete(StudyRow).where(StudyRow.study_id == study_id))


def _contents(row: StudyRow, keys: AuditLogKeys) -> dict[str, Any]:
    """What is shown of the records, by the names of their inputs; and what is doubtful about them."""
    if row.contents is None:
        return {"warnings": (), "left_out": ()}
    contents = unsealed_json(keys, row.study_id, "contents", row.contents)
    views: dict[str, list[dict[str, Any]]] = contents["shown"]
    ended = row.pixels_until <= datetime.now(UTC)
    for name in file_viewings():
        kept = views.get(name, ())
        is_over = [row.state == REFUSED or (ended and view["pixels"] == "stored") for view in kept]
        views[name] = [view | ({"pixels": "expired"} if over else {}) for view, over in zip(kept, is_over, strict=True)]
    return {**views, "warnings": contents["warnings"], "left_out": contents["left_out"]}


def _may_be_prior(one: tuple[dict[str, Any], Any], of: tuple[dict[str, Any], StudyRow]) -> bool:
    """Whether one study, by its summary and its row, was made before; and is of the same patient unless handed over."""
    (facts, other), (own, row) = one, of
    studied, latest = facts["studied"] or "", own["studied"] or ""
    if other.beside is None:
        return same_patient(facts, own) and (studied, other.submitted) < (latest, row.submitted)
    itself = facts.get("study_digest") is not None and facts["study_digest"] == own.get("study_digest")
    return not itself and (not latest or studied <= latest)


def parse_after(given: str | None) -> UUID | None:
    """The id after which a page begins; None: with the first.

    Raises
    ------
    InputError
    """
    try:
        return None if given is None else UUID(given)
    except ValueError:
        raise InputError("after", given, "must be the `next` of an earlier page") from None
