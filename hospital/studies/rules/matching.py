"""Whose records belong to a study.

Objects of one Study Instance UID make a study. Orders belong to it by (accession number, issuer) or by its Study
Instance UID, values and notes by the patient's identifier and issuer, through the merges that were reported. Nothing
belongs to it by a bare accession number or a bare patient identifier, and where sex or birth date contradict each other
no value and no note is used: better an answer from the images alone than one with another patient's values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from consilium.domain.study import Sex, Window
from hospital.store.received import (
    Accession,
    PatientId,
    PatientUpdate,
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
)
from hospital.studies.rules.model_inputs import ModelInputs
from hospital.studies.rules.patient_aliases import PatientAliases

CONTRADICTION = "sex or birth date of images and record contradict each other: values and notes are left out"
REPORTS = frozenset({"findings", "impression"})
"""Kinds of notes that are written after an image was read: they give the answer away."""


class SeveralPatients(Exception):
    """The objects of one study name several patients: it is not answered until a merge joins these."""


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """Whom and what the objects of one study name.

    Attributes
    ----------
    patient : PatientId or None
        As it is known now. None: no object names one, and nothing but the images belongs to the study.
    accession : Accession or None
        None also where objects name several.
    """

    study: str
    patient: PatientId | None
    accession: Accession | None


@dataclass(frozen=True, slots=True)
class MatchedRecords:
    """What beside its images belongs to a study, and is used."""

    observations: tuple[ReceivedObservation, ...] = ()
    notes: tuple[ReceivedNote, ...] = ()
    orders: tuple[ReceivedOrder, ...] = ()
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientRecords:
    """Everything that is stored of one patient, under any of the identifiers that name this patient now."""

    observations: Sequence[ReceivedObservation] = ()
    notes: Sequence[ReceivedNote] = ()
    orders: Sequence[ReceivedOrder] = ()
    updates: Sequence[PatientUpdate] = field(default=())


def identity_of(instances: Sequence[ReceivedInstance], aliases: PatientAliases) -> StudyIdentity:
    """Whom the objects of one study name.

    A missing issuer contradicts none: it is completed by the objects of the same study that have one.

    Raises
    ------
    SeveralPatients
        They name several patients, whom no merge joins.
    """
    named = {instance.patient for instance in instances if instance.patient is not None}
    current = {aliases.current(patient) for patient in named}
    known = {patient for patient in current if patient.issuer is not None}
    bare = {patient.value for patient in current - known}
    # An identifier without its issuer is completed by the one issuer that the study names it with.
    completed = known | {PatientId(value) for value in bare if {one.value for one in known} != {value}}
    if len(completed) > 1:
        raise SeveralPatients
    accessions = {instance.accession for instance in instances if instance.accession is not None}
    return StudyIdentity(
        instances[0].study,
        next(iter(completed), None),
        accessions.pop() if len(accessions) == 1 else None,
    )


def orders_of(identity: StudyIdentity, orders: Iterable[ReceivedOrder], aliases: PatientAliases) -> list[ReceivedOrder]:
    """The orders that a study answers: by accession number and issuer, else by its Study Instance UID.

    An order for another patient belongs to no study of this one, whatever numbers it names.
    """
    return [
        order
        for order in orders
        if identity.patient is not None
        and aliases.same(order.patient, identity.patient)
        and (_same_accession(order.accession, identity.accession) or order.study == identity.study)
    ]


def match(
    identity: StudyIdentity,
    images: Sequence[ReceivedInstance],
    stored: PatientRecords,
    aliases: PatientAliases,
    reference: datetime | None,
    reads: ModelInputs,
) -> MatchedRecords:
    """What of a patient's current records belongs to a study.

    Parameters
    ----------
    images : sequence of ReceivedInstance
        Those that are asked about.
    stored : PatientRecords
        Of each value, note and order the version that counts: see `current_records`.
    reference : datetime or None
        When the study was made.
    reads : ModelInputs
        What the model reads, and how far from the study.
    """
    if identity.patient is None:
        return MatchedRecords(warnings=("the images name no patient: only they are used",))
    whom = identity.patient
    updates = [update for update in stored.updates if aliases.same(update.patient, whom)]
    birth_date, sex = _latest_demographics(updates)
    if _contradict(images, birth_date, sex):
        return MatchedRecords(warnings=(CONTRADICTION,))
    used, warnings = _usable_observations(
        [one for one in stored.observations if aliases.same(one.patient, whom)], reference, reads
    )
    notes = _usable_notes([note for note in stored.notes if aliases.same(note.patient, whom)], reference, reads)
    orders = orders_of(identity, stored.orders, aliases)
    return MatchedRecords(tuple(used), tuple(notes), tuple(orders), birth_date, sex, tuple(warnings))


def within(time: datetime | None, reference: datetime | None, window: Window) -> bool:
    """Whether a record of that time is read. One whose time is not known, or not comparable, is not."""
    if time is None or reference is None:
        return False
    before, after = timedelta(hours=window.before_hours), timedelta(hours=window.after_hours)
    return reference - before <= time <= reference + after


def _same_accession(one: Accession | None, other: Accession | None) -> bool:
    """A number without its issuer is somebody else's as well."""
    return one is not None and one == other and one.issuer is not None


def _latest_demographics(updates: Sequence[PatientUpdate]) -> tuple[date | None, Sex]:
    birth_date, sex = None, Sex.UNKNOWN
    for update in sorted(updates, key=lambda one: one.time):
        birth_date = update.birth_date or birth_date
        sex = sex if update.sex is Sex.UNKNOWN else update.sex
    return birth_date, sex


def _contradict(images: Sequence[ReceivedInstance], birth_date: date | None, sex: Sex) -> bool:
    """Whether images and record, or the images among themselves, give two birth dates or two sexes."""
    born = {birth_date, *(image.description.birth_date for image in images)} - {None}
    sexes = {sex, *(image.description.sex for image in images)} & {Sex.FEMALE, Sex.MALE}
    return len(born) > 1 or len(sexes) > 1


def _usable_observations(
    observations: Sequence[ReceivedObservation], reference: datetime | None, reads: ModelInputs
) -> tuple[list[ReceivedObservation], list[str]]:
    timely = [one for one in observations if within(one.time, reference, reads.window)]
    problems = sorted({one.problem for one in timely if one.problem is not None})
    used = [one for one in timely if one.problem is None and one.code in reads.codes]
    used.sort(key=lambda one: (one.time or one.issued, one.source, one.key))
    return used, [f"a value of the record is left out: {problem}" for problem in problems]


def _usable_notes(notes: Sequence[ReceivedNote], reference: datetime | None, reads: ModelInputs) -> list[ReceivedNote]:
    """Never a report, of this study or of another one."""
    used = [
        note
        for note in notes
        if note.problem is None
        and note.kind in reads.note_kinds - REPORTS
        and within(note.time, reference, reads.window)
    ]
    return sorted(used, key=lambda note: (note.time or note.issued, note.source, note.key))
