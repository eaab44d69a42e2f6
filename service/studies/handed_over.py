"""Priors that were handed over to be shown with one study: they go when it goes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.audit_log.pseudonyms import AuditLogKeys, Kind
from service.audit_log.tables import StudyRow
from service.studies.stored_contents import opened_json

_AT_ONCE = 500
_Study = tuple[str, str]
"""Reading group and digest of the Study Instance UID."""


def priors_of(session: Session, keys: AuditLogKeys, over: Collection[UUID]) -> list[UUID]:
    """The priors that are shown with studies that are `over`, and with no other one that their group may still see.

    The same study may be stored more than once, under another Patient ID as well: only what is sealed tells. It is
    unsealed where one of those that are over has priors.
    """
    shown: dict[_Study, list[UUID]] = {}
    for study in set(_named(session, keys, over)):
        group, digest = study
        beside = StudyRow.reading_group == group, StudyRow.beside.in_(keys.pseudonyms(Kind.STUDY, digest))
        if priors := session.scalars(select(StudyRow.study_id).where(*beside)).all():
            shown[study] = list(priors)
    if shown:
        for study in _there(session, keys, {group for group, _ in shown}, frozenset(over)):
            shown.pop(study, None)
    return [prior for priors in shown.values() for prior in priors]


def _named(session: Session, keys: AuditLogKeys, over: Collection[UUID]) -> Iterator[_Study]:
    left = iter(over)
    while some := list(islice(left, _AT_ONCE)):
        yield from _opened(keys, session.execute(_SUMMARIES.where(StudyRow.study_id.in_(some))))


def _there(session: Session, keys: AuditLogKeys, groups: set[str], over: frozenset[UUID]) -> Iterator[_Study]:
    alive = StudyRow.reading_group.in_(groups), StudyRow.expires > datetime.now(UTC)
    rows = session.execute(_SUMMARIES.where(*alive))
    yield from _opened(keys, (row for row in rows if row.study_id not in over))


_SUMMARIES = select(StudyRow.study_id, StudyRow.reading_group, StudyRow.summary).where(
    StudyRow.beside.is_(None), StudyRow.summary.is_not(None)
)


def _opened(keys: AuditLogKeys, rows: Iterable[Any]) -> Iterator[_Study]:
    for row in rows:
        facts = opened_json(keys, row.study_id, "summary", row.summary)
        if facts is not None and facts.get("study_digest") is not None:
            yield row.reading_group, facts["study_digest"]
