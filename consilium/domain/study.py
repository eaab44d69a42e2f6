"""Study: one patient's records around one question, the records of any modality absent.

What comes in is made by `consilium.ingest`; what goes out is read by `consilium.preprocessing`. This module must stay
cheap to import in a decoding worker.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from consilium.domain.errors import InputError

OLDEST_AGE = 130
"""Years; beyond them an age is a mistake."""
_YEARS_APART = 2.0
"""Ages that differ by as much contradict each other."""


class Sex(StrEnum):
    """DICOM Patient's Sex (0010,0040)."""

    FEMALE = "F"
    MALE = "M"
    OTHER = "O"
    UNKNOWN = "U"


OLDEST_KEPT_AGE = 90.0
"""Years; a cohort keeps no higher age, which would identify a patient."""


def require_age(years: float, field: str, given: object, rule: str) -> None:
    """`InputError` with `field`, the value as it was `given` and `rule`, unless `years` is an age; NaN is none."""
    if not 0 <= years <= OLDEST_AGE:
        raise InputError(field, given, rule)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is known of the patient beside the records: age in years and sex. No identity."""

    age: float | None = None
    sex: Sex = Sex.UNKNOWN

    def __post_init__(self) -> None:
        if self.age is not None:
            require_age(self.age, "patient.age", self.age, f"must lie between 0 and {OLDEST_AGE} years")

    @property
    def deidentified(self) -> Patient:
        """With no age above `OLDEST_KEPT_AGE`."""
        return replace(self, age=None if self.age is None else min(self.age, OLDEST_KEPT_AGE))


class Record:
    """One record of a study. Each modality derives its own, a frozen dataclass.

    Attributes
    ----------
    field : str
        Name of the records of this kind in requests, warnings and digests: ``images``.
    time : datetime or None
        When it was made. In a Study it has an offset from UTC.
    time_field : str
        Name of that time in warnings: ``acquired``.
    digest : str
        SHA-256 of what was received, in hex.
    sets_reference : bool
        A study's reference time is that of its earliest record of this kind, unless it is given.
    in_window : bool
        Records of this kind are left out where they lie outside the time window.
    guessable : bool
        It is so short that its digest tells it, to whoever tries what it may say; the audit log keys such digests.
    description : str
        What it is, for the warning that it is left out: ``note (history)``.
    usable : bool
        A model may read it; a study needs one record that is.
    kind_name : str
        Which of its modality's kinds it is, as a cohort's check counts them: ``history``; empty where there are none.
    remarks : tuple of str
        What a cohort's check counts, without the record's position: ``images of unknown view``.
    patient : Patient
        Age and sex as the record itself gives them.
    patient_digest, study_digest, accession_digest : str or None
        SHA-256 of the identifiers of patient, study and order that the record itself names.
    device_digest, site_digest : str or None
        SHA-256 of what the record itself names as what made it, and where.
    categories : mapping of str to str
        What monitoring groups studies by: ``unit:crp`` → ``mg/dL``. Nothing that names a patient.
    names : tuple of str
        Names and identifiers that the record itself gives, for masking; never written, shown nor compared.
    """

    __slots__ = ()

    field: ClassVar[str]
    time_field: ClassVar[str] = "time"
    sets_reference: ClassVar[bool] = False
    in_window: ClassVar[bool] = True
    guessable: ClassVar[bool] = True

    if TYPE_CHECKING:  # A property here would be the default of a dataclass's field.

        @property
        def digest(self) -> str: ...

    @property
    def time(self) -> datetime | None:
        return None

    @property
    def usable(self) -> bool:
        return True

    @property
    def kind_name(self) -> str:
        return ""

    @property
    def remarks(self) -> tuple[str, ...]:
        return ()

    @property
    def patient(self) -> Patient:
        return Patient()

    @property
    def patient_digest(self) -> str | None:
        return None

    @property
    def study_digest(self) -> str | None:
        return None

    @property
    def accession_digest(self) -> str | None:
        return None

    @property
    def device_digest(self) -> str | None:
        return None

    @property
    def site_digest(self) -> str | None:
        return None

    @property
    def categories(self) -> Mapping[str, str]:
        return {}

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    def with_time(self, time: datetime | None) -> Self:
        """The record as made at another time; one that has no time stays as it is.

        Raises
        ------
        TypeError
            Where the record has a time that is no field of the name `time_field`: its class must say how to change it.
        """
        changes: Any = {self.time_field: time}
        if self.time_field in getattr(self, "__dataclass_fields__", {}):
            return replace(cast(Any, self), **changes)
        if self.time is not None:
            raise TypeError(f"{type(self).__name__} must derive with_time: its time is no field {self.time_field}")
        return self

    def deidentified(self, names: Sequence[str], move: Callable[[datetime | None], datetime | None]) -> Self:
        """The record as a cohort may keep it: without `names` and identifiers, its times moved by `move`."""
        del names
        return self.with_time(move(self.time))

    def condensed(self, arrays: Mapping[str, Any]) -> Self:
        """The record with `arrays` in place of what takes memory: what converters made of it, by their keys.

        One of a class that holds nothing large, or does not derive this, stays as it is.
        """
        del arrays
        return self

    @property
    def description(self) -> str:
        return f"record of {self.field}"

    def sent(self) -> dict[str, Any] | None:
        """The record in the JSON of a request, in the list `field`; None where only its file can be sent."""
        return None

    @classmethod
    def digests(cls, records: Sequence[Self]) -> dict[str, str]:
        """SHA-256 of what was received, in hex, by where it stood: ``images[0]``."""
        return {f"{cls.field}[{position}]": record.digest for position, record in enumerate(records)}


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A record on disk, with what its cohort knows of it beside the file (a PNG says nothing about itself).

    Attributes
    ----------
    field : str
        As which its modality reads it, the name of a `consilium.modalities.modality.FileInput`: ``images``.
    path : Path
    known : mapping of str to object
        Attributes of the record that the cohort knows better than the file. Times have an offset from UTC.
    """

    field: str
    path: Path
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def listed(self, record: Any) -> Any:
        """`record`, which the file was read as, with what the cohort knows."""
        return replace(record, **self.known) if self.known else record


class ByModality(dict[str, tuple[Any, ...]]):
    """What there is of each modality, by its name; of one that is not named, nothing: ``study.parts["image"]``."""

    def __missing__(self, name: str) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Window:
    """How far from the reference time a record may lie, hours. Later records leak the outcome."""

    before_hours: float = 72.0
    after_hours: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One patient's records; those of any modality may be absent.

    Attributes
    ----------
    parts : mapping of str to tuple of Record
        The records of each modality that has some, in the order in which they were sent; none of any other. Not to be
        changed.
    patient : Patient
        What was not given is taken from the records, where these agree.
    study_id, patient_id : str
        Pseudonyms. Training keeps a patient's studies in one split by `patient_id`.
    reference_time : datetime or None
        The moment for which the question is asked; see `Record.sets_reference`.
        Every time of a study has an offset from UTC, so that times are compared as instants.
    warnings : tuple of str
        What ingest wants the reader to know; ends in `Diagnosis.warnings`.
    names : tuple of str
        What the sender gives as the patient's names and identifiers; used as `Record.names` are.
    """

    parts: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    patient: Patient = field(default_factory=Patient)
    reference_time: datetime | None = None
    study_id: str = ""
    patient_id: str = ""
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        parts = {modality: tuple(records) for modality, records in self.parts.items() if len(records)}
        object.__setattr__(self, "parts", ByModality(parts))
        self._check_one("patient_digest", "patient", self.records)
        # An ECG is of a DICOM study and an order of its own, whatever images it is sent with.
        self._check_one("study_digest", "study", [record for record in self.records if record.sets_reference])
        times = [self.reference_time, *(record.time for record in self.records)]
        if any(time is not None and time.tzinfo is None for time in times):
            raise ValueError("every time of a study must have an offset from UTC: see consilium.formats.times")
        if self.reference_time is None:
            known = [record.time for record in self.records if record.sets_reference and record.time is not None]
            object.__setattr__(self, "reference_time", min(known, default=None))
        object.__setattr__(self, "patient", self._completed_patient())

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record, modality by modality."""
        return tuple(record for records in self.parts.values() for record in records)

    def with_parts(self, **parts: Sequence[Record]) -> Study:
        """The study with other records of the modalities that are named; none where a sequence is empty."""
        return replace(self, parts={**self.parts, **{name: tuple(records) for name, records in parts.items()}})

    @property
    def known_names(self) -> tuple[str, ...]:
        """Everything that is known to name the patient, for `consilium.masking`."""
        known = [*self.names, *(name for record in self.records for name in record.names)]
        return tuple(dict.fromkeys(name for name in (*known, self.study_id, self.patient_id) if name))

    def _check_one(self, name: str, kind: str, records: Sequence[Record]) -> None:
        """Raise where `records` name several patients or several studies."""
        seen = {digest: record.field for record in records if (digest := getattr(record, name)) is not None}
        if len(seen) > 1:
            first = next(iter(seen.values()))
            raise InputError(first, f"{len(seen)} different {kind} ids", f"must all be of one {kind}")

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Where records give another age or sex than the study's own, or than each other."""
        found = []
        for name in ("age", "sex"):
            (first, value), *others = self._given(name) or [("", None)]
            found += [
                f"{where} gives the patient's {name} as {_shown(other)}, {first} as {_shown(value)}"
                for where, other in others
                if _differ(value, other)
            ]
        return tuple(found)

    def _given(self, name: str) -> list[tuple[str, Any]]:
        """The patient's age or sex and who gives it: the study's own first, then its records'."""
        everyone = [("the record", self.patient)]
        for records in self.parts.values():
            everyone += [(f"{record.field}[{position}]", record.patient) for position, record in enumerate(records)]
        given = [(where, getattr(patient, name)) for where, patient in everyone]
        return [(where, value) for where, value in given if value not in (None, Sex.UNKNOWN)]

    def _completed_patient(self) -> Patient:
        agreed: dict[str, Any] = {"age": self.patient.age, "sex": self.patient.sex}
        for name, own in agreed.items():
            given = self._given(name)
            if own in (None, Sex.UNKNOWN) and given and not any(_differ(given[0][1], value) for _, value in given):
                agreed[name] = given[0][1]
        return Patient(**agreed)

    def within(self, window: Window) -> Study:
        """The study without records outside `window`; each one left out adds a warning.

        A record without a time, or a study without a reference time, is kept: nothing says that it is late.
        """
        if self.reference_time is None:
            return self
        warnings: list[str] = []
        parts: dict[str, tuple[Any, ...]] = {}
        for modality, records in self.parts.items():
            lateness = [_lateness(record, self.reference_time, window) for record in records]
            warnings += [
                f"{record.description} left out: recorded {when} the window around the reference time"
                for record, when in zip(records, lateness, strict=True)
                if when
            ]
            parts[modality] = tuple(record for record, when in zip(records, lateness, strict=True) if not when)
        return replace(self, parts=parts, warnings=(*self.warnings, *warnings))

    def input_digests(self) -> dict[str, str]:
        """SHA-256 of what was received, by where it stood: ``images[0]`` → hex."""
        digests: dict[str, str] = {}
        for records in self.parts.values():
            digests |= type(records[0]).digests(records)
        return digests


def _lateness(record: Record, reference: datetime, window: Window) -> str:
    """``before`` or ``after`` where the record lies outside `window`, else empty."""
    if not record.in_window or record.time is None:
        return ""
    distance = record.time - reference
    if distance > timedelta(hours=window.after_hours):
        return "after"
    return "before" if distance < -timedelta(hours=window.before_hours) else ""


def _differ(one: Any, other: Any) -> bool:
    """Whether two ages or sexes cannot be one patient's: a file's age may be rounded, or some months old."""
    return bool(one != other if isinstance(one, str) else abs(one - other) >= _YEARS_APART)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def identifier_digest(identifier: str) -> str | None:
    """SHA-256 of a Patient ID or a Study Instance UID, without the blanks around it; None of an empty one."""
    stripped = identifier.strip()
    return hashlib.sha256(stripped.encode("utf-8", "surrogateescape")).hexdigest() if stripped else None


def accession_digest(number: str, issuer: str = "") -> str | None:
    """SHA-256 of an accession number with who issued it, without the blanks around them; None without a number."""
    return identifier_digest(f"{number.strip()}\0{issuer.strip()}") if number.strip() else None


def iso_text(time: datetime | None) -> str | None:
    """`time` as requests have it; None where not known."""
    return None if time is None else time.isoformat()


def instant_text(time: datetime | None) -> str:
    """`time` in UTC, for digests: the same text for the same instant, by whatever clock; empty where not known."""
    return "" if time is None else time.astimezone(UTC).isoformat()
