"""When studies were made, their highest probabilities, and whether they are referred: remembered, not stored open.

To sort a worklist by these, each study of the reader must be compared. A column that holds them open would give the
database's reader dates of examinations, which identify people, and what a model thinks of whom. They are unsealed once
in each process in place of every time, and remembered in its memory alone; what is stored of a decoded or answered
study never changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.audit_log.pseudonyms import AuditLogKeys, Unsealable
from service.audit_log.tables import StudyRow
from service.studies.stored_contents import unsealed_json

logger = logging.getLogger("consilium.service")

_AT_ONCE = 500
MOST_REMEMBERED = 200_000
"""Studies; some 60 MB."""
Sealed = Literal["summary", "outcome"]
_COLUMNS: dict[Sealed, InstrumentedAttribute[bytes | None]] = {
    "summary": StudyRow.summary,
    "outcome": StudyRow.outcome,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What of an answer decides where its study stands in a worklist.

    Attributes
    ----------
    highest : float
        The highest probability of a finding.
    of_study, of_findings : bool
        Whether there are reasons to refer the study, and a finding of it.
    """

    highest: float
    of_study: bool
    of_findings: bool


class OpenedFacts:
    """What one process has unsealed of studies; whatever thread asks."""

    def __init__(self) -> None:
        self._known: dict[Sealed, dict[UUID, Any]] = {"summary": {}, "outcome": {}}

    def studied(self, session: Session, keys: AuditLogKeys, study_ids: Sequence[UUID]) -> dict[UUID, datetime | None]:
        """When each study was made; without those that were not decoded yet, or that none of `keys` opens."""
        return self._facts(session, keys, study_ids, "summary")

    def outcomes(self, session: Session, keys: AuditLogKeys, study_ids: Sequence[UUID]) -> dict[UUID, Outcome]:
        """The same of answers."""
        return self._facts(session, keys, study_ids, "outcome")

    def _facts(self, session: Session, keys: AuditLogKeys, study_ids: Sequence[UUID], what: Sealed) -> dict[UUID, Any]:
        known = self._known[what]
        found = {one: known[one] for one in study_ids if one in known}
        new = dict(self._opened(session, keys, [one for one in study_ids if one not in found], what))
        if len(known) + len(new) > MOST_REMEMBERED:
            known = self._known[what] = {}
        known.update(new)
        return found | new

    def _opened(
        self, session: Session, keys: AuditLogKeys, study_ids: Sequence[UUID], what: Sealed
    ) -> Iterator[tuple[UUID, Any]]:
        column = _COLUMNS[what]
        for begin in range(0, len(study_ids), _AT_ONCE):
            some = StudyRow.study_id.in_(study_ids[begin : begin + _AT_ONCE]), column.is_not(None)
            for study_id, sealed in session.execute(select(StudyRow.study_id, column).where(*some)):
                try:
                    yield study_id, _fact(unsealed_json(keys, study_id, what, sealed or b""), what)
                except Unsealable:
                    logger.error("stored study %s: none of the audit log's keys opens it", study_id)


def _fact(opened: dict[str, Any], what: Sealed) -> Any:
    if what == "summary":
        studied = opened["studied"]
        return None if studied is None else datetime.fromisoformat(studied)
    return Outcome(float(opened["highest"]), bool(opened["refer_reasons"]), bool(opened["finding_reasons"]))
