"""What is audited, whatever the format of the message. Source: PS3.15 A.5.2 and A.5.3; PS3.16 CID 400, 401, 402."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal

from hospital.store.received import PatientId

Action = Literal["C", "R", "U", "D", "E"]
"""Create, read, update, delete, execute."""


class AuditCode(Enum):
    """Codes of the DICOM Controlled Terminology: value and meaning."""

    APPLICATION_ACTIVITY = "110100", "Application Activity"
    BEGIN_TRANSFERRING = "110102", "Begin Transferring DICOM Instances"
    INSTANCES_TRANSFERRED = "110104", "DICOM Instances Transferred"
    EXPORT = "110106", "Export"
    ORDER_RECORD = "110109", "Order Record"
    PATIENT_RECORD = "110110", "Patient Record"
    QUERY = "110112", "Query"
    SECURITY_ALERT = "110113", "Security Alert"
    APPLICATION_START = "110120", "Application Start"
    APPLICATION_STOP = "110121", "Application Stop"
    NODE_AUTHENTICATION = "110126", "Node Authentication"
    APPLICATION = "110150", "Application"
    DESTINATION = "110152", "Destination Role ID"
    SOURCE = "110153", "Source Role ID"

    @property
    def code(self) -> str:
        return self.value[0]

    @property
    def meaning(self) -> str:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Participant:
    """A system that took part.

    Attributes
    ----------
    user : str
        AE title, or the name that the configuration gives.
    requestor : bool
        Whether it began what happened.
    address : str, optional
        IP address.
    """

    user: str
    requestor: bool
    role: AuditCode | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event.

    Attributes
    ----------
    event, type : AuditCode
        EventID, and EventTypeCode where the event has kinds.
    problem : str, optional
        Why it failed, without anything of a patient; None: it succeeded.
    study : str, optional
        Study Instance UID.
    sop_classes : mapping of str to int
        Of the instances of `study`: how many of each class.
    accession : str, optional
        Accession number of an order.
    query : bytes, optional
        What was asked.
    """

    event: AuditCode
    action: Action
    time: datetime
    participants: tuple[Participant, ...]
    type: AuditCode | None = None
    problem: str | None = None
    patient: PatientId | None = field(default=None, repr=False)
    study: str | None = None
    sop_classes: dict[str, int] = field(default_factory=dict)
    accession: str | None = field(default=None, repr=False)
    query: bytes | None = field(default=None, repr=False)
