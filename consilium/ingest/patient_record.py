"""What is sent of the patient beside the records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from consilium.domain.study import Patient
from consilium.domain.wire import Wire
from consilium.formats.demographics import read_age, read_sex
from consilium.formats.sent_records import Number, checked_record

ShortName = Annotated[str, StringConstraints(max_length=200)]


class PatientRecord(Wire):
    """What is known of the patient beside the records. No date of birth; names only to be taken out of the notes."""

    age: Number | None = Field(
        default=None,
        description="Years from 0 to 130, or text such as `067Y`, `18 months`, `90+`, `> 89`.",
        examples=[67, "18 months"],
    )
    sex: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None,
        description="DICOM Patient's Sex (0010,0040), FHIR administrative gender or HL7 v2, in any case.",
        examples=["F", "female"],
    )
    names: Annotated[tuple[ShortName, ...], Field(max_length=32)] | None = Field(
        default=None,
        description="Names and identifiers of the patient, plain or as DICOM writes them, which are taken out of the "
        "notes before the model reads them, as those in the images' headers are. Never kept, logged nor answered.",
    )


def read_patient(
    raw: PatientRecord | Mapping[str, object] | None, *, field: str = "patient"
) -> tuple[Patient, tuple[str, ...], tuple[str, ...]]:
    """Age and sex as `read_age` and `read_sex` read them, the patient's names, and what of the writing is doubtful.

    Raises
    ------
    InputError
    """
    record = checked_record(PatientRecord, {} if raw is None else raw, field)
    age, warnings = read_age(record.age, f"{field}.age")
    return Patient(age, read_sex(record.sex, f"{field}.sex")), record.names or (), warnings
