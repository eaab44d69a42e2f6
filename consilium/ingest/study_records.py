"""Records become a Study: the one way that the service, the command line and the cohorts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from consilium.domain.errors import InputError, with_reasons
from consilium.domain.study import Patient, Record, Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.demographics import read_age, read_sex
from consilium.formats.fields import check_list, check_object
from consilium.formats.limits import DEFAULT_LIMITS, Limits
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.formats.times import file_time, read_time
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.records import image_warnings
from consilium.modalities.observations.records import read_observations
from consilium.modalities.text.records import read_notes

MOST_NAMES, LONGEST_NAME = 32, 200


def read_patient(raw: Mapping[str, object] | None, *, field: str = "patient") -> tuple[Patient, tuple[str, ...]]:
    """Read ``{age, sex}`` as `read_age` and `read_sex` do, with what a reader has to know of how they were written.

    What ``names`` it has, `read_names` reads.
    """
    if raw is None:
        return Patient(), ()
    entry = check_object(raw, field, ("age", "sex", "names"))
    age, warnings = read_age(entry.get("age"), f"{field}.age")
    return Patient(age, read_sex(entry.get("sex"), f"{field}.sex")), warnings


def read_names(raw: Mapping[str, object] | None, *, field: str = "patient.names") -> tuple[str, ...]:
    """The names and identifiers that a record of a patient tells for the masking of notes.

    Raises
    ------
    InputError
        Where it has names that are no list of texts.
    TooLarge
        Where there are too many.
    """
    names = check_list([] if raw is None else raw.get("names") or (), field, MOST_NAMES)
    for name in names:
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise InputError(field, type(name).__name__, f"must be texts of at most {LONGEST_NAME} characters")
    return tuple(str(name) for name in names)


def study_from_records(
    images: Sequence[Image] = (),
    notes: Sequence[Mapping[str, object]] = (),
    observations: Sequence[Mapping[str, object]] = (),
    patient: Mapping[str, object] | None = None,
    reference_time: str | datetime | None = None,
    *,
    study_id: str = "",
    patient_id: str = "",
    variables: VariableTable = BUILT_IN,
    limits: Limits = DEFAULT_LIMITS,
    zone: TimeZone | None = None,
) -> Study:
    """Build a Study of decoded images and of notes, observations and patient as parsed JSON.

    Parameters
    ----------
    images : sequence of Image
        From `read_image` or a `DecodePool`.
    notes, observations, patient
        As `read_notes`, `read_observations` and `read_patient` take them.
    reference_time : str, datetime or None
        The moment of the question; the earliest image's where it is not given.
    variables : VariableTable
        Whose codes observations may have.
    zone : TimeZone or None
        In which times without an offset are meant; the site's unless given.

    Raises
    ------
    InputError
        What the readers refuse; images of several patients or studies; nothing that could be judged.
    """
    zone = zone or site_zone()
    read, warnings = read_notes(notes, limits=limits, zone=zone)
    values, told = read_observations(observations, variables=variables, limits=limits, zone=zone)
    warnings += told
    parts: dict[str, tuple[Record, ...]] = {"image": tuple(images), "text": read, "observations": values}
    if not any(record.usable for records in parts.values() for record in records):
        rule = "must hold an image, a note or an observation that can be read"
        raise InputError("study", "no usable record", with_reasons(rule, warnings))
    person, doubts = read_patient(patient)
    parts, told = in_zone(parts, zone)
    doubts += told
    reference, told = read_time(reference_time, "reference_time", zone)
    study = Study(
        parts,
        patient=person,
        reference_time=reference,
        study_id=study_id,
        patient_id=patient_id,
        warnings=(*image_warnings(images), *warnings, *doubts, *told),
        names=read_names(patient),
    )
    if study.reference_time is None and any(record.in_window and record.time for record in study.records):
        late = "no reference time: records made after the question was asked cannot be recognised and are kept"
        return replace(study, warnings=(*study.warnings, late))
    return study


def in_zone(
    parts: Mapping[str, Sequence[Record]], zone: TimeZone
) -> tuple[dict[str, tuple[Record, ...]], tuple[str, ...]]:
    """The records of a study with their times as instants, and what is doubtful about these."""
    placed: dict[str, tuple[Record, ...]] = {}
    warnings: list[str] = []
    for modality, records in parts.items():
        read = [_in_zone(record, position, zone) for position, record in enumerate(records)]
        placed[modality] = tuple(record for record, _ in read)
        warnings += [doubt for _, doubts in read for doubt in doubts]
    return placed, tuple(warnings)


def _in_zone(record: Record, position: int, zone: TimeZone) -> tuple[Record, tuple[str, ...]]:
    time, doubts = file_time(record.time, f"{record.field}[{position}].{record.time_field}", zone)
    return record if record.time is None else record.with_time(time), doubts
