"""An answer with all that results are made of: what whoever builds the objects for a destination is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from consilium.api.schemas import ExplanationAnswer
from consilium.domain.diagnosis import Diagnosis
from consilium.output.reported import ReportedStudy, reported_study
from hospital.store.received import Accession, PatientId, ReceivedInstance, ReceivedOrder
from hospital.store.state import Delivery, QueuedDelivery, Revision


@dataclass(frozen=True, slots=True)
class AnsweredStudy:
    """One revision of one study, answered.

    Attributes
    ----------
    revision : Revision
        With its number, and the answer as JSON.
    answer : ExplanationAnswer
        With the warnings of the gateway.
    patient : PatientId or None
        As it is known now.
    accession : Accession or None
    images : tuple of ReceivedInstance
        Those that were sent to the service, in that order.
    files : tuple of bytes
        The DICOM files of `images`, which all name one patient.
    orders : tuple of ReceivedOrder
        That the study answers.
    records : mapping
        The values and notes that were sent beside the images, as JSON.
    previous : Revision or None
        Which this one supersedes.
    destinations : tuple of str
        By name, where the route sends results.
    """

    revision: Revision
    answer: ExplanationAnswer
    patient: PatientId | None
    accession: Accession | None
    images: tuple[ReceivedInstance, ...]
    files: tuple[bytes, ...] = field(repr=False)
    orders: tuple[ReceivedOrder, ...]
    records: dict[str, Any] = field(repr=False)
    previous: Revision | None
    destinations: tuple[str, ...]

    @property
    def study(self) -> str:
        """Study Instance UID."""
        return self.revision.study

    @property
    def taken(self) -> datetime | None:
        """When the earliest image was made."""
        known = [one.description.acquired for one in self.images if one.description.acquired is not None]
        return min(known, default=None)

    @property
    def created(self) -> datetime:
        return self.revision.time


def answer_of(revision: Revision) -> ExplanationAnswer:
    """The answer as the service gave it."""
    return ExplanationAnswer.model_validate_json(revision.answer)


def reported_revision(revision: Revision) -> ReportedStudy:
    """What was reported of a study, in whatever format."""
    answer = answer_of(revision)
    diagnosis = Diagnosis(**{name: getattr(answer, name) for name in Diagnosis.model_fields})
    return reported_study(diagnosis, revision.revision)


BuildDeliveries: TypeAlias = Callable[[AnsweredStudy], Sequence[Delivery]]
"""Makes the objects for the destinations of a study; called on a thread."""
BuildWithdrawals: TypeAlias = Callable[[Revision, Sequence[QueuedDelivery], datetime], Sequence[Delivery]]
"""Makes what takes a revision back from its addressee, of what was put into the outbox; called on a thread."""
