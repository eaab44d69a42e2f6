"""Records of a made-up hospital, as listeners hand them to the store."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

from consilium.domain.study import Sex
from hospital.store.received import (
    Accession,
    ImageDescription,
    PatientId,
    PatientUpdate,
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    Status,
)
from hospital.studies.rules.model_inputs import ModelInputs
from hospital.studies.rules.patient_aliases import PatientAliases

NOON = datetime(2024, 3, 5, 12, 0, tzinfo=UTC)
"""When the images of these tests were made."""
WARD = PatientId("4711", "WARD")
CLINIC = PatientId("4711", "CLINIC")
"""Another patient, whom another system calls the same."""
ORDER = Accession("A1", "RIS")
STUDY = "1.2.3"
CRP = "1988-5"
READS = ModelInputs(
    digest="0" * 64, note_kinds=frozenset({"history", "indication", "findings"}), codes=frozenset({CRP, "6690-2"})
)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def instance(number: int = 1, content: str = "", **given: Any) -> ReceivedInstance:
    described = {
        name: given.pop(name)
        for name in ("modality", "view", "acquired", "birth_date", "sex", "age", "procedures", "body_part", "station")
        if name in given
    }
    values: dict[str, Any] = {
        "sop_instance": f"{STUDY}.1.{number}",
        "sop_class": "1.2.840.10008.5.1.4.1.1.1.1",
        "series": f"{STUDY}.1",
        "study": STUDY,
        "patient": WARD,
        "accession": ORDER,
        "digest": hashlib.sha256(f"{number}{content}".encode()).hexdigest(),
        "file": f"file{number}{content}",
        "received": NOON + minutes(10),
        "source": "pacs",
        "description": ImageDescription(**({"modality": "DX", "acquired": NOON} | described)),
    }
    return ReceivedInstance(**(values | given))


def observation(value: float | None = 112.0, key: str = "F1-CRP", **given: Any) -> ReceivedObservation:
    values: dict[str, Any] = {
        "patient": WARD,
        "accession": None,
        "key": key,
        "version": "1",
        "status": Status.FINAL,
        "issued": NOON - hours(1),
        "code": CRP,
        "local_code": None,
        "value": value,
        "unit": "mg/L",
        "time": NOON - hours(2),
        "source": "lis",
    }
    return ReceivedObservation(**(values | given))


def note(text: str = "Cough for two weeks.", **given: Any) -> ReceivedNote:
    values: dict[str, Any] = {
        "patient": WARD,
        "accession": None,
        "key": f"N-{len(text)}",
        "version": "1",
        "status": Status.FINAL,
        "issued": NOON - hours(1),
        "kind": "history",
        "text": text,
        "time": NOON - hours(1),
        "source": "kis",
    }
    return ReceivedNote(**(values | given))


def order(reason: str | None = "Pneumonia?", **given: Any) -> ReceivedOrder:
    values: dict[str, Any] = {
        "patient": WARD,
        "accession": ORDER,
        "study": None,
        "placer": "P1",
        "filler": None,
        "reason": reason,
        "procedures": (),
        "time": NOON - hours(3),
        "source": "ris",
    }
    return ReceivedOrder(**(values | given))


def update(birth_date: date | None = date(1950, 1, 2), sex: Sex = Sex.FEMALE, **given: Any) -> PatientUpdate:
    values: dict[str, Any] = {"patient": WARD, "source": "adt", "time": NOON - hours(24)}
    return PatientUpdate(**(values | {"birth_date": birth_date, "sex": sex} | given))


def aliases(*people: tuple[PatientId, ...]) -> PatientAliases:
    """Each of `people` has several identifiers, of which the first stays."""
    return PatientAliases(lambda one: next((known for known in people if one in known), (one,)))
