"""What a hospital may send, one of each kind."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from typing import Any

from consilium.domain.study import Sex
from hospital.store.received import (
    Accession,
    Code,
    ImageDescription,
    PatientId,
    PatientMerge,
    PatientUpdate,
    RawMessage,
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    ReceivedRejection,
    ReceivedStep,
    Status,
)
from tests.hospital.clock import START

PATIENT = PatientId("MRN-4711", "1.2.3.4")
ACCESSION = Accession("A-1001", "1.2.3.5")
STUDY = "1.2.826.0.1.1"
DESCRIPTION = ImageDescription(
    modality="DX",
    body_part="CHEST",
    view="PA",
    laterality=None,
    station="ROOM2",
    procedures=(Code("36643-5", "LN", "XR Chest 2 Views"),),
    acquired=START,
    birth_date=date(1960, 4, 1),
    sex=Sex.FEMALE,
    age=65.9,
)


def instance(number: int = 1, content: str = "pixels", file: str | None = None, **changes: Any) -> ReceivedInstance:
    given = ReceivedInstance(
        sop_instance=f"{STUDY}.1.{number}",
        sop_class="1.2.840.10008.5.1.4.1.1.1.1",
        series=f"{STUDY}.1",
        study=STUDY,
        patient=PATIENT,
        accession=ACCESSION,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        file=file,
        received=START,
        source="pacs",
        description=DESCRIPTION,
    )
    return replace(given, **changes)


def observation(**changes: Any) -> ReceivedObservation:
    given = ReceivedObservation(
        patient=PATIENT,
        accession=None,
        key="F77|CRP",
        version="1",
        status=Status.FINAL,
        issued=START,
        code="1988-5",
        local_code=Code("CRP", "LAB"),
        value=112.0,
        unit="mg/L",
        time=START,
        source="lis",
    )
    return replace(given, **changes)


def note(**changes: Any) -> ReceivedNote:
    given = ReceivedNote(PATIENT, None, "N1", "1", Status.FINAL, START, "history", "Kaltmüller: Husten", START, "his")
    return replace(given, **changes)


def order(**changes: Any) -> ReceivedOrder:
    given = ReceivedOrder(PATIENT, ACCESSION, STUDY, "P1", "F1", "Fieber", (Code("THX2"),), START, "ris", "stat")
    return replace(given, **changes)


def update(**changes: Any) -> PatientUpdate:
    return replace(PatientUpdate(PATIENT, date(1960, 4, 1), Sex.FEMALE, "adt", START), **changes)


def merge(stays: str, goes: str, **changes: Any) -> PatientMerge:
    return replace(PatientMerge(PatientId(stays, "i"), PatientId(goes, "i"), "adt", START), **changes)


def rejection(**changes: Any) -> ReceivedRejection:
    given = ReceivedRejection(STUDY, (f"{STUDY}.1.1",), Code("113001", "DCM"), START, "pacs")
    return replace(given, **changes)


def step(**changes: Any) -> ReceivedStep:
    return replace(ReceivedStep("1.9.1", STUDY, "completed", (f"{STUDY}.1.1",), START, "modality"), **changes)


def raw(key: str = "LAB|HOSP|17|digest", content: bytes = b"MSH|^~\\&|", **changes: Any) -> RawMessage:
    return replace(RawMessage("hl7", key, content, START, "lis"), **changes)
