"""What comes in, as the listeners hand it to the store: they turn bytes into these types and know no table.

Identity is always an identifier with its issuer; an identifier alone is somebody else's as well. Every time has an
offset from UTC. Nothing of this is ever logged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Literal, Protocol

from consilium.domain.errors import ConsiliumError
from consilium.domain.study import Sex


class StoreFull(ConsiliumError):
    """The disk is beyond its watermark: nothing was stored. Answer "not now" in the protocol's own terms."""


class StoreUnavailable(ConsiliumError):
    """The database does not take a commit now: nothing was stored. Answer as for `StoreFull`."""


@dataclass(frozen=True, slots=True)
class PatientId:
    """Patient ID and its assigning authority, as `identifiers` of the configuration names it; None is unknown."""

    value: str = field(repr=False)
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Accession:
    """Accession number and its issuer."""

    value: str = field(repr=False)
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """A code, the system it is from (``LN``, ``SCT``, ``http://loinc.org``, a site's own name) and what it means."""

    value: str
    system: str | None = None
    meaning: str | None = None


class Status(StrEnum):
    """How far a value or a text may be relied on. `WITHDRAWN` takes back every version that came before."""

    FINAL = "final"
    CORRECTED = "corrected"
    PRELIMINARY = "preliminary"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """What an instance says that routes, matching and plausibility checks read. What it does not say is None.

    Attributes
    ----------
    modality, body_part, view, laterality : str, optional
        (0008,0060), (0018,0015), (0018,5101) and (0020,0062) or (0020,0060), as sent.
    station : str, optional
        Station Name (0008,1010).
    procedures : tuple of Code
        Procedure Code Sequence (0008,1032) and the requested procedure's.
    acquired : datetime, optional
        Acquisition, else content, else series, else study time.
    birth_date, sex : date, Sex
        For the conflict with what the record system says.
    age : float, optional
        Years at the time of the study.
    name : str
        Patient's Name (0010,0010), as sent.
    """

    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    laterality: str | None = None
    station: str | None = None
    procedures: tuple[Code, ...] = ()
    acquired: datetime | None = None
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    age: float | None = None
    name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One DICOM instance.

    Attributes
    ----------
    digest : str
        SHA-256, in hex, of the data set without file meta information: the same over C-STORE, STOW and WADO.
    file : str, optional
        Name of the sealed file (`SealedFiles`), which holds the whole Part 10 file; None where its class is not read.
        The instance counts all the same when the source is asked how many a study has.
    source : str
        Name of the peer in the configuration.
    requested : bool
        The gateway asked for it (C-MOVE, WADO-RS), as for a prior: it starts no study of its own.
    ours : bool
        It is a result of this gateway that came back; it is never read.
    """

    sop_instance: str
    sop_class: str
    series: str
    study: str
    patient: PatientId | None
    accession: Accession | None
    digest: str
    file: str | None
    received: datetime
    source: str
    requested: bool = False
    ours: bool = False
    transfer_syntax: str | None = None
    description: ImageDescription = ImageDescription()


@dataclass(frozen=True, slots=True)
class ReceivedRejection:
    """A rejection note (IHE IOCM): `instances` of `study` are no more to be used."""

    study: str
    instances: tuple[str, ...]
    code: Code
    received: datetime
    source: str


@dataclass(frozen=True, slots=True)
class ReceivedStep:
    """A performed procedure step (MPPS) or an instance availability notification, as a proof of completeness.

    Attributes
    ----------
    step : str
        SOP Instance UID of the step.
    state : str
        Whether more instances may follow.
    instances : tuple of str
        SOP Instance UIDs that it names as made.
    """

    step: str
    study: str
    state: Literal["in progress", "completed", "discontinued"]
    instances: tuple[str, ...]
    received: datetime
    source: str


@dataclass(frozen=True, slots=True)
class ReceivedObservation:
    """One laboratory value or vital sign, one version of it.

    Attributes
    ----------
    key : str
        What identifies it at its source over all versions: filler order number and OBX identifier, or the FHIR id.
    version : str
        What tells this version from others: a digest of the message, or FHIR's versionId.
    issued : datetime
        When the source made this version; the latest version counts.
    code : str, optional
        LOINC, or a name of the variable table; None where the local code has no translation.
    local_code : Code, optional
        As sent.
    text : str, optional
        The value as sent, where it is no plain number: ``>100``, ``positive``.
    time : datetime, optional
        When it holds: specimen or measurement.
    problem : str, optional
        Why it is not used, without the value and without a name.
    """

    patient: PatientId
    accession: Accession | None
    key: str
    version: str
    status: Status
    issued: datetime
    code: str | None
    local_code: Code | None
    value: float | None
    unit: str | None
    time: datetime | None
    source: str
    text: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedNote:
    """One text of the record, one version of it; `key`, `version`, `issued` as in `ReceivedObservation`.

    Attributes
    ----------
    kind : str
        One of the model's kinds of notes: ``history``, ``indication``, ``findings``, ``impression``.
    study : str, optional
        Study Instance UID that it is about: the radiologist's own report of a study is never a note of it.
    """

    patient: PatientId
    accession: Accession | None
    key: str
    version: str
    status: Status
    issued: datetime
    kind: str
    text: str = field(repr=False)
    time: datetime | None
    source: str
    study: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedOrder:
    """An order for imaging; a later one with the same `placer` (else `filler`) replaces it.

    Attributes
    ----------
    study : str, optional
        Study Instance UID that the order assigns.
    reason : str, optional
        Indication, as text.
    priority : str
        ``stat`` goes before ``routine``.
    time : datetime
        When this version of it was sent.
    """

    patient: PatientId
    accession: Accession | None
    study: str | None
    placer: str | None
    filler: str | None
    reason: str | None = field(repr=False)
    procedures: tuple[Code, ...]
    time: datetime
    source: str
    priority: Literal["stat", "routine"] = "routine"
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class PatientUpdate:
    """What a registration system says of a patient."""

    patient: PatientId
    birth_date: date | None
    sex: Sex
    source: str
    time: datetime


@dataclass(frozen=True, slots=True)
class PatientMerge:
    """Two identifiers of one person (A40, A47): what is filed under `goes` belongs to `stays`."""

    stays: PatientId
    goes: PatientId
    source: str
    time: datetime


@dataclass(frozen=True, slots=True)
class RecordsMoved:
    """Something that was filed under `patient` is another patient's now: answers that used it are made anew."""

    patient: PatientId
    source: str
    time: datetime


Received = (
    ReceivedInstance
    | ReceivedRejection
    | ReceivedStep
    | ReceivedObservation
    | ReceivedNote
    | ReceivedOrder
    | PatientUpdate
    | PatientMerge
    | RecordsMoved
)


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it came, kept (sealed) for replay and for what could not be read.

    Attributes
    ----------
    key : str
        What a repetition shares: for HL7 sending application, facility, control id and digest together.
    problem : str, optional
        Why nothing was taken from it, or not all; such messages are listed by ``consilium gateway unmatched``.
    """

    protocol: Literal["hl7", "fhir", "dicom"]
    key: str
    content: bytes = field(repr=False)
    received: datetime
    source: str
    problem: str | None = None


class Inbox(Protocol):
    """Where listeners put what they received; several threads may use it at once."""

    def add(self, *records: Received, raw: RawMessage | None = None) -> bool:
        """Store all of it, or nothing, in one transaction; it is on the disk when this returns.

        A record that is there already (the same instance with the same digest, the same version of a value) is passed
        over, and so is everything that came with a `raw` whose key is known; what is added wakes the study worker.

        Returns
        -------
        bool
            Whether anything was new.

        Raises
        ------
        StoreFull, StoreUnavailable
        """
        ...
