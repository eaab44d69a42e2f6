"""Which stored studies are of one patient: by a keyed digest of the patient's id, without unsealing the others.

The column holds a pseudonym as the audit log does (`Kind.PATIENT`): whoever has the database alone cannot find out
whether a patient he knows is in it. An earlier version stored studies without it; `fill` gives it to them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select, update

from consilium.domain.study import identifier_digest
from service.audit_log.database import Database
from service.audit_log.pseudonyms import AuditLogKeys, Kind, Unsealable
from service.audit_log.store import Store
from service.audit_log.tables import StudyRow
from service.leased_work.lease_store import pause
from service.studies.stored_contents import unsealed_json

logger = logging.getLogger("consilium.service")

_UNKNOWN, _NOBODY = "", "none"
"""Of a study that was not decoded, or by an earlier version; and of one whose files name no patient."""
NOT_INDEXED = (StudyRow.patient == _UNKNOWN) & StudyRow.summary.is_not(None)
"""Studies that an earlier version stored."""
_AT_ONCE = 200


def patient_code(keys: AuditLogKeys, patient_digest: str | None) -> str:
    """What the column of a study holds whose files name the patient of `patient_digest`, or none."""
    return _NOBODY if patient_digest is None else keys.newest.pseudonym(Kind.PATIENT, patient_digest)


def of_patient(keys: AuditLogKeys, patient_digest: str) -> ColumnElement[bool]:
    """The studies of a patient, whichever of the keys was the newest when they were stored."""
    return StudyRow.patient.in_(keys.pseudonyms(Kind.PATIENT, patient_digest))


def of_patient_id(keys: AuditLogKeys, patient_id: str) -> ColumnElement[bool]:
    """The same, by the Patient ID itself."""
    return of_patient(keys, str(identifier_digest(patient_id)))


def same_patient(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two summaries are of one patient: the same id, and no two issuers of it."""
    if one["patient_digest"] is None or one["patient_digest"] != other["patient_digest"]:
        return False
    issuers = {facts.get("issuer_digest") for facts in (one, other)} - {None}
    return len(issuers) < 2


class PatientIndex:
    """The column of all stored studies.

    Parameters
    ----------
    store : Store
        The audit log, with the keys that sign.
    """

    def __init__(self, store: Store) -> None:
        self._database: Database = store.database
        self._keys = store.keys

    def fill(self) -> int:
        """Give studies of an earlier version their place; of how many.

        What none of the keys opens stays without one, and is tried again the next time.

        Raises
        ------
        AuditLogUnavailable
        """
        filled = unopened = 0
        after: UUID | None = None
        while True:
            begun = time.monotonic()
            found = self._next(after)
            if not found:
                break
            after = found[-1].study_id
            codes = self._codes(found)
            unopened += len(found) - len(codes)
            filled += self._keep(codes)
            pause(begun)
        if unopened:
            logger.error("%d stored studies: none of the audit log's keys opens them", unopened)
        return filled

    def _next(self, after: UUID | None) -> Sequence[Any]:
        wanted = select(StudyRow.study_id, StudyRow.summary).where(NOT_INDEXED)
        if after is not None:
            wanted = wanted.where(StudyRow.study_id > after)
        with self._database.reading() as session:
            return session.execute(wanted.order_by(StudyRow.study_id).limit(_AT_ONCE)).all()

    def _codes(self, found: Sequence[Any]) -> dict[UUID, str]:
        codes = {}
        for study_id, summary in found:
            try:
                digest = unsealed_json(self._keys, study_id, "summary", summary or b"")["patient_digest"]
            except Unsealable:
                continue
            codes[study_id] = patient_code(self._keys, digest)
        return codes

    def _keep(self, codes: dict[UUID, str]) -> int:
        if not codes:
            return 0
        with self._database.writing() as session:
            for study_id, code in codes.items():
                one = StudyRow.study_id == study_id, StudyRow.patient == _UNKNOWN
                session.execute(update(StudyRow).where(*one).values(patient=code))
        return len(codes)
