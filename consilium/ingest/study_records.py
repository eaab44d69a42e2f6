"""Records become a Study: the one way that the service, the command line and the cohorts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from consilium.domain.errors import InputError, with_reasons
from consilium.domain.study import Record, Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.limits import Limits
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import file_time, read_time
from consilium.ingest.patient_record import PatientRecord, read_patient
from consilium.modalities.modality import JsonInput, Modality, ReadingContext
from consilium.modalities.registry import (
    any_record,
    default_context,
    default_limits,
    file_inputs,
    json_inputs,
    modalities,
)
from consilium.system.installed import load


def study_from_records(
    *,
    patient: PatientRecord | Mapping[str, object] | None = None,
    reference_time: str | datetime | None = None,
    study_id: str = "",
    patient_id: str = "",
    variables: VariableTable = BUILT_IN,
    limits: Limits | None = None,
    zone: TimeZone | None = None,
    **sent: Sequence[Any],
) -> Study:
    """Build a Study of decoded files and of records as parsed JSON.

    Parameters
    ----------
    patient : PatientRecord, mapping or None
        As `read_patient` takes it.
    reference_time : str, datetime or None
        The moment of the question; the earliest image's where it is not given.
    variables : VariableTable
        Whose codes observations may have.
    limits : Limits or None
        What is refused as too large; `consilium.modalities.registry.default_limits` unless given.
    zone : TimeZone or None
        In which times without an offset are meant; the site's unless given.
    **sent
        By the names of the modalities' inputs: of files the decoded records, such as ``images``, from a `DecodePool`;
        else records as the input's reader takes them, such as ``notes``.

    Raises
    ------
    InputError
        What the readers refuse; records of several patients or studies; nothing that a model could read.
    TypeError
        For a name that no modality declares.
    """
    unknown = sorted(set(sent) - set(json_inputs()) - set(file_inputs()))
    if unknown:
        raise TypeError(f"no modality declares {', '.join(unknown)}")
    context = default_context(variables, limits, zone)
    parts, warnings = _read_parts(sent, context)
    if not any(record.usable for records in parts.values() for record in records):
        rule = f"must hold {any_record()} that can be read"
        raise InputError("study", "no usable record", with_reasons(rule, warnings))
    person, names, doubts = read_patient(patient)
    placed, moved = in_zone(parts, context.zone)
    reference, late = read_time(reference_time, "reference_time", context.zone)
    study = Study(
        placed,
        patient=person,
        reference_time=reference,
        study_id=study_id,
        patient_id=patient_id,
        warnings=(*_part_warnings(parts), *warnings, *doubts, *moved, *late),
        names=names,
    )
    if study.reference_time is None and any(record.in_window and record.time for record in study.records):
        rule = "no reference time: records made after the question was asked cannot be recognised and are kept"
        return replace(study, warnings=(*study.warnings, rule))
    return study


def read_files(files: Mapping[str, Sequence[bytes]], limits: Limits | None = None) -> dict[str, Any]:
    """The records of trusted files, by the name under which they are sent, read in this process.

    Raises
    ------
    InputError
        Names the file.
    """
    return {
        name: [
            load(file_inputs()[name].read)(data, field=f"{name}[{number}]", limits=limits or default_limits())
            for number, data in enumerate(contents)
        ]
        for name, contents in files.items()
    }


def _read_parts(
    sent: Mapping[str, Sequence[Any]], context: ReadingContext
) -> tuple[dict[str, tuple[Record, ...]], list[str]]:
    """The records of each modality, and the warnings of their readers."""
    parts: dict[str, tuple[Record, ...]] = {}
    warnings: list[str] = []
    for modality in modalities().values():
        records: list[Record] = []
        for given in modality.inputs:
            if isinstance(given, JsonInput):
                read, doubts = load(given.read)(sent.get(given.name, ()), field=given.name, context=context)
                warnings += doubts
            else:
                read = sent.get(given.name, ())
            records += read
        parts[modality.name] = tuple(records)
    return parts, warnings


def _part_warnings(parts: Mapping[str, Sequence[Record]]) -> list[str]:
    warnings: list[str] = []
    for name, records in parts.items():
        modality: Modality = modalities()[name]
        if modality.warnings and records:
            warnings += load(modality.warnings)(records)
    return warnings


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
