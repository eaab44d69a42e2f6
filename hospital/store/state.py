"""What the gateway makes of what it received: studies, their revisions, and what is to be delivered of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from consilium.domain.errors import ConsiliumError
from consilium.domain.study import Sex
from hospital.store.received import Accession, PatientId, Received, ReceivedOrder


class StudyChanged(ConsiliumError):
    """Somebody else saved the study since it was read (the command, most likely): read it again."""


class StudyStage(StrEnum):
    """How far a study is."""

    ASSEMBLING = "assembling"
    """Instances arrive, or completeness is not proved."""
    REQUESTED = "requested"
    """The service was asked; its answer is awaited."""
    ANSWERED = "answered"
    FAILED = "failed"
    """The service refuses it, or it cannot be read: a person must look. A new record starts it anew."""
    IGNORED = "ignored"
    """No route takes it, or a person said so; a person's word holds whatever arrives."""


@dataclass(frozen=True, slots=True)
class UnkeptAnswer:
    """An answer that a service shows to readers, and that was not kept: the study had changed meanwhile.

    Attributes
    ----------
    service : str
        By the name that routes give.
    result_id : str
    images : tuple of str
        SOP Instance UIDs of those that it read.
    """

    service: str
    result_id: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StudyState:
    """One imaging study, by its Study Instance UID.

    Attributes
    ----------
    first, last : datetime
        When its first and its latest instance arrived.
    due : datetime, optional
        When the worker should look at it next; None: when something arrives.
    route : str, optional
        Name of the route that it takes.
    revision : str, optional
        Digest of the revision that was last requested or answered.
    job : str, optional
        The service's job that answers it.
    attempts : int
        How often the service was asked for this revision without an answer.
    warnings : tuple of str
        For the reader of the result; without names and identifiers.
    problem : str, optional
        Why it failed or is ignored, likewise.
    by_hand : bool
        Whether a person set the stage.
    unkept : tuple of UnkeptAnswer
        Since the last answer that was kept, which takes their place where readers are shown it.
    version : int
        Of this row: `Studies.save` refuses what was read before somebody else's change.
    """

    study: str
    patient: PatientId | None
    accession: Accession | None
    stage: StudyStage
    first: datetime
    last: datetime
    due: datetime | None = None
    route: str | None = None
    revision: str | None = None
    job: str | None = None
    attempts: int = 0
    warnings: tuple[str, ...] = ()
    problem: str | None = None
    by_hand: bool = False
    unkept: tuple[UnkeptAnswer, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Addressee:
    """For whom an answer was sent, as it was known then: what it is withdrawn from where that was wrong.

    Attributes
    ----------
    name : str
        As DICOM writes it.
    order : ReceivedOrder or None
        Whose numbers were sent along.
    taken : datetime or None
        When the images were made.
    """

    patient: PatientId | None
    accession: Accession | None
    order: ReceivedOrder | None
    name: str = field(default="", repr=False)
    birth_date: date | None = field(default=None, repr=False)
    sex: Sex = Sex.UNKNOWN
    taken: datetime | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One answer to a study: what it was made of, and what came out.

    Attributes
    ----------
    revision : str
        Digest of sources, values, notes and model, in hex: idempotency key, and root of every UID and identifier.
    number : int
        1 for the study's first; a later one supersedes it.
    sources : mapping, as JSON
        What the digest is made of, by name.
    answer : bytes
        The explanation, as the service gave it (JSON).
    addressee : Addressee or None
        None of an answer that an earlier version of the gateway made.
    withdrawn : bool
        The addressee turned out to be the wrong one, or all images were rejected; what was sent is taken back.
    """

    revision: str
    study: str
    number: int
    time: datetime
    sources: dict[str, object]
    answer: bytes = field(repr=False)
    warnings: tuple[str, ...] = ()
    addressee: Addressee | None = None
    withdrawn: bool = False


class DeliveryStage(StrEnum):
    """How far a delivery is."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"
    """The destination refuses it for good: a person must look."""
    DROPPED = "dropped"
    """A person gave it up."""
    SUPERSEDED = "superseded"
    """A later revision took its place before it was sent."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One object for one destination.

    Attributes
    ----------
    key : str
        What is the same when the same object is put in again, such as the SOP Instance UID or a message's control id:
        it is then delivered once. Unique together with `destination`.
    destination : str
        Name in the configuration.
    kind : str
        Which object it is: ``sr``, ``sc``, ``seg``, ``oru``, ``bundle``, ``audit``.
    content : bytes
        What is sent, byte for byte, at every attempt.
    after : tuple of str
        Keys of deliveries to the same destination that must be sent before, such as the one that this corrects.
    problem : str, optional
        Why it cannot be made for this destination: it is a dead letter from the start, without content.
    """

    key: str
    destination: str
    kind: str
    content: bytes = field(repr=False)
    study: str | None = None
    revision: str | None = None
    after: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedDelivery:
    """A delivery in the outbox.

    Attributes
    ----------
    number : int
        Its row; a lane sends in this order.
    created : datetime
        When it was put in, or a person last said that it be sent again.
    due : datetime
        Not to be tried before.
    problem : str, optional
        What the last attempt met, without names and identifiers.
    """

    number: int
    delivery: Delivery
    stage: DeliveryStage
    attempts: int
    created: datetime
    due: datetime
    ended: datetime | None = None
    problem: str | None = None
    unaddressed: bool = False
    """It was never made: see `Delivery.problem`."""

    @property
    def may_have_arrived(self) -> bool:
        """Also where no answer came: a destination that could not be reached may have taken it before."""
        if self.stage is DeliveryStage.DROPPED or self.unaddressed:
            return False
        return self.stage is DeliveryStage.SENT or self.attempts > 0 or self.problem is not None


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in the store, with the number of its row."""

    number: int
    record: Received
