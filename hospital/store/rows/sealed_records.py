"""What was received as rows, and rows as what was received."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from hospital.store.keys import StoreKey
from hospital.store.received import (
    Accession,
    PatientId,
    PatientMerge,
    PatientUpdate,
    Received,
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    ReceivedRejection,
    ReceivedStep,
    RecordsMoved,
)
from hospital.store.rows.tables import RecordRow

KINDS: dict[type[Any], str] = {
    ReceivedInstance: "instance",
    ReceivedRejection: "rejection",
    ReceivedStep: "step",
    ReceivedObservation: "observation",
    ReceivedNote: "note",
    ReceivedOrder: "order",
    PatientUpdate: "update",
    PatientMerge: "merge",
    RecordsMoved: "moved",
}
_CLASSES = {kind: of for of, kind in KINDS.items()}
_Texts = tuple[str | None, ...]
_ADAPTERS: dict[type[Any], TypeAdapter[Received]] = {of: TypeAdapter(of) for of in KINDS}


def to_json(record: Received) -> bytes:
    return _ADAPTERS[type(record)].dump_json(record)


def patient_digest(key: StoreKey, patient: PatientId | None) -> str | None:
    return None if patient is None else key.digest("patient", patient.value, patient.issuer)


def accession_digest(key: StoreKey, accession: Accession | None) -> str | None:
    return None if accession is None else key.digest("accession", accession.value, accession.issuer)


def study_digest(key: StoreKey, study: str | None) -> str | None:
    return None if study is None else key.digest("study", study)


def row_values(key: StoreKey, record: Received, received: datetime) -> dict[str, Any]:
    """The columns of `record`'s row."""
    kind = KINDS[type(record)]
    body = to_json(record)
    identity, made, issued = _identity(record, hashlib.sha256(body).hexdigest())
    name, version = key.digest(f"{kind} key", *identity), key.digest(f"{kind} version", *made)
    return {
        "kind": kind,
        "key": name,
        "version": version,
        "patient": patient_digest(key, _patient(record)),
        "accession": accession_digest(key, getattr(record, "accession", None)),
        "study": study_digest(key, getattr(record, "study", None)),
        "issued": issued,
        "received": received,
        "handled": False,
        "file": getattr(record, "file", None),
        "body": key.seal(body, _place(kind, name, version)),
    }


def opened(key: StoreKey, row: RecordRow) -> Received:
    """The record of a row.

    Raises
    ------
    Unsealable
    """
    body = key.unseal(row.body, _place(row.kind, row.key, row.version))
    return _ADAPTERS[_CLASSES[row.kind]].validate_json(body)


def _place(kind: str, key: str, version: str) -> str:
    return f"{kind} {key} {version}"


def _patient(record: Received) -> PatientId | None:
    return record.stays if isinstance(record, PatientMerge) else getattr(record, "patient", None)


def record_key(key: StoreKey, record: Received) -> str:
    """What the rows of all versions of `record` share."""
    return key.digest(f"{KINDS[type(record)]} key", *_identity(record, "")[0])


def _order_name(order: ReceivedOrder) -> _Texts:
    """Its number; of an order without one, what it is for."""
    if order.placer is not None:
        return (order.placer,)
    if order.filler is not None:
        return None, order.filler
    accession = None if order.accession is None else order.accession.value
    return None, None, accession, order.study, *(() if accession or order.study else (order.patient.value,))


def _identity(record: Received, content: str) -> tuple[_Texts, _Texts, datetime]:
    """What a record is over all its versions, which version it is, and when that was made."""
    parts: tuple[_Texts, _Texts, datetime]
    match record:
        case ReceivedInstance():
            # What was asked for as a prior and is then sent as a study of its own is another version.
            version = (record.digest, str(record.requested))
            parts = ((record.study, record.sop_instance), version, record.received)
        case ReceivedRejection():
            parts = ((record.study, *record.instances), (record.code.value, record.code.system), record.received)
        case ReceivedStep():
            parts = ((record.step,), (record.state, *record.instances), record.received)
        case ReceivedObservation() | ReceivedNote():
            parts = ((record.source, record.key), (record.version, record.status), record.issued)
        case ReceivedOrder():
            parts = ((record.source, *_order_name(record)), (content,), record.time)
        case PatientUpdate():
            parts = ((record.patient.value, record.patient.issuer), (content,), record.time)
        case PatientMerge():
            pair = (record.stays.value, record.stays.issuer, record.goes.value, record.goes.issuer)
            parts = (pair, (content,), record.time)
        case RecordsMoved():
            parts = ((record.patient.value, record.patient.issuer), (content,), record.time)
    return parts
