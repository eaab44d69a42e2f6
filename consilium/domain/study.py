"""Study: one patient's records around one question, any of them absent.

What comes in is made by `consilium.ingest`; what goes out is read by `consilium.preprocessing.collate`. NumPy only:
this module must stay cheap to import in a decoding worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError

OLDEST_AGE = 130
"""Years; beyond them an age is a mistake."""
_FEW = 1000
_YEARS_APART = 2.0
"""Ages that differ by as much contradict each other."""


class ViewPosition(StrEnum):
    """How the X-ray beam crossed the patient; DICOM View Position (0018,5101), PS3.3 C.8.11.5."""

    PA = "PA"
    AP = "AP"
    AP_SUPINE = "AP_SUPINE"
    LATERAL = "LL"
    UNKNOWN = "UNKNOWN"


class Sex(StrEnum):
    """DICOM Patient's Sex (0010,0040)."""

    FEMALE = "F"
    MALE = "M"
    OTHER = "O"
    UNKNOWN = "U"


class Comparator(StrEnum):
    """A value that is only known to lie beyond a limit; FHIR's ``Quantity.comparator``."""

    BELOW = "<"
    AT_MOST = "<="
    AT_LEAST = ">="
    ABOVE = ">"


class NoteKind(StrEnum):
    """Which part of the record a note is. Findings and impression are written after the image was read."""

    HISTORY = "history"
    INDICATION = "indication"
    FINDINGS = "findings"
    IMPRESSION = "impression"


@dataclass(frozen=True, slots=True)
class Patient:
    """What is known of the patient beside the records: age in years and sex. No identity."""

    age: float | None = None
    sex: Sex = Sex.UNKNOWN

    def __post_init__(self) -> None:
        if self.age is not None and not 0 <= self.age <= OLDEST_AGE:
            raise InputError("patient.age", self.age, f"must lie between 0 and {OLDEST_AGE} years")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image's file says that it shows; empty where it says nothing.

    Attributes
    ----------
    modality : str
        DICOM Modality (0008,0060): ``DX``.
    body_part : str
        Body Part Examined (0018,0015): ``CHEST``.
    for_processing : bool
        Presentation Intent Type (0008,0068) is FOR PROCESSING: detector values, not a picture to be read.
    """

    modality: str = ""
    body_part: str = ""
    for_processing: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One single-frame two-dimensional image, as a viewer would first display it.

    Attributes
    ----------
    pixels : uint16 [H, W]
        Display values after modality and VOI transformation, 0 black to 65535 white (air is dark), of square pixels.
    digest : str
        SHA-256 of the bytes received, in hex.
    source : str
        ``dicom``, ``png``, ``jpeg`` or ``tiff``.
    pixel_spacing : (float, float) or None
        Distance between rows and between columns of the file, mm.
    acquired : datetime or None
        When the image was taken. In a Study it has an offset from UTC; as it was read, only where the file states one.
    patient_digest, study_digest : str or None
        SHA-256 of Patient ID and Study Instance UID: enough to see that two images belong together, and no name.
    burned_in : bool or None
        Burned In Annotation (0028,0301) where the file says so.
    grid : (int, int) or None
        Rows and columns of the file, as viewers turn it, where `pixels` were resampled to square ones; None: the same.
    patient : Patient
        Age and sex as the file gives them.
    origin : Origin
    warnings : tuple of str
        What the reader has to know of how the file was read, by attribute, without its values.
    names : tuple of str
        Names and identifiers in the file's header, for the masking of notes; never written, shown nor compared.
    """

    pixels: npt.NDArray[np.uint16]
    digest: str
    source: str
    view: ViewPosition = ViewPosition.UNKNOWN
    laterality: str | None = None
    pixel_spacing: tuple[float, float] | None = None
    acquired: datetime | None = None
    patient_digest: str | None = None
    study_digest: str | None = None
    burned_in: bool | None = None
    grid: tuple[int, int] | None = None
    patient: Patient = Patient()
    origin: Origin = Origin()
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def is_constant(pixels: npt.NDArray[np.uint16]) -> bool:
    """Whether every pixel is alike. A few settle it for nearly every picture, without a pass over all of them."""
    flat = pixels.reshape(-1)
    few = flat[:: max(1, len(flat) // _FEW)]
    return bool(few.min() == few.max() and flat.min() == flat.max())


@dataclass(frozen=True, slots=True)
class Note:
    """A passage of clinical text, written at `time` (None: not known), which has an offset from UTC."""

    kind: NoteKind
    text: str
    time: datetime | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of kind and text, in hex."""
        return hashlib.sha256(f"{self.kind.value}\n{self.text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Observation:
    """One laboratory value or vital sign, in the unit the variable table is kept in.

    Attributes
    ----------
    variable : str
        Name in a `consilium.domain.variables.VariableTable`: ``crp``, ``heart_rate``.
    code : str
        Code as received.
    value : float
        In the variable's own unit; of a category its position among the variable's categories, from 0 on.
    given_value, given_unit : float, str
        What was received (UCUM), a number without its comparator; of a category its position again.
    implausible : bool
        Outside the range in which a living patient's value can lie; never shown to a model.
    comparator : Comparator or None
        Where `value` is a limit: the true value is below or above it.
    category : str or None
        One of the variable's categories.
    """

    variable: str
    code: str
    value: float
    given_value: float
    given_unit: str
    time: datetime | None = None
    implausible: bool = False
    comparator: Comparator | None = None
    category: str | None = None

    @property
    def given_text(self) -> str:
        """What was received, without its unit: ``112``, ``<0.3``, ``trace``."""
        return self.category or f"{self.comparator or ''}{self.given_value:.12g}"


@dataclass(frozen=True, slots=True)
class Window:
    """How far from the reference time a record may lie, hours. Later records leak the outcome."""

    before_hours: float = 72.0
    after_hours: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One patient's records; every part may be absent.

    Attributes
    ----------
    patient : Patient
        What was not given is taken from the images' files, where these agree.
    study_id, patient_id : str
        Pseudonyms. Training keeps a patient's studies in one split by `patient_id`.
    reference_time : datetime or None
        The moment for which the question is asked: the earliest image's unless given.
        Every time of a study has an offset from UTC, so that times are compared as instants.
    warnings : tuple of str
        What ingest wants the reader to know; ends in `Diagnosis.warnings`.
    names : tuple of str
        What the sender says are the patient's names and identifiers; used as those of `Image.names`.
    """

    images: tuple[Image, ...] = ()
    notes: tuple[Note, ...] = ()
    observations: tuple[Observation, ...] = ()
    patient: Patient = field(default_factory=Patient)
    reference_time: datetime | None = None
    study_id: str = ""
    patient_id: str = ""
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def known_names(self) -> tuple[str, ...]:
        """Everything that is known to name the patient, for `consilium.masking`."""
        told = [*self.names, *(name for image in self.images for name in image.names), self.study_id, self.patient_id]
        return tuple(dict.fromkeys(name for name in told if name))

    def __post_init__(self) -> None:
        for name in ("patient_digest", "study_digest"):
            seen = {getattr(image, name) for image in self.images} - {None}
            if len(seen) > 1:
                what = "patient" if name == "patient_digest" else "study"
                raise InputError("images", f"{len(seen)} different {what} ids", f"must all be of one {what}")
        moments = [image.acquired for image in self.images] + [note.time for note in self.notes]
        moments += [o.time for o in self.observations] + [self.reference_time]
        if any(moment is not None and moment.tzinfo is None for moment in moments):
            raise ValueError("every time of a study must have an offset from UTC: see consilium.formats.times")
        if self.reference_time is None:
            times = [image.acquired for image in self.images if image.acquired is not None]
            if times:
                object.__setattr__(self, "reference_time", min(times))
        object.__setattr__(self, "patient", self._completed_patient())

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Where the files of the images give another age or sex than the record, or than each other."""
        found = []
        for name in ("age", "sex"):
            (first, value), *others = self._told(name) or [("", None)]
            found += [
                f"{where} gives the patient's {name} as {_shown(other)}, {first} as {_shown(value)}"
                for where, other in others
                if _differ(value, other)
            ]
        return tuple(found)

    def _told(self, name: str) -> list[tuple[str, Any]]:
        """Who tells the patient's age or sex, and what: the record first, then the images."""
        everyone = [
            ("the record", self.patient),
            *((f"images[{i}]", image.patient) for i, image in enumerate(self.images)),
        ]
        told = [(where, getattr(patient, name)) for where, patient in everyone]
        return [(where, value) for where, value in told if value not in (None, Sex.UNKNOWN)]

    def _completed_patient(self) -> Patient:
        agreed: dict[str, Any] = {"age": self.patient.age, "sex": self.patient.sex}
        for name, given in agreed.items():
            told = self._told(name)
            if given in (None, Sex.UNKNOWN) and told and not any(_differ(told[0][1], value) for _, value in told):
                agreed[name] = told[0][1]
        return Patient(**agreed)

    def within(self, window: Window) -> Study:
        """The study without notes and observations outside `window`; each one left out adds a warning.

        A record without a time, or a study without a reference time, is kept: nothing says that it is late.
        """
        if self.reference_time is None:
            return self
        reference = self.reference_time
        before, after = timedelta(hours=window.before_hours), timedelta(hours=window.after_hours)
        warnings = list(self.warnings)

        def inside(time: datetime | None, what: str) -> bool:
            if time is None or -before <= time - reference <= after:
                return True
            when = "after" if time - reference > after else "before"
            warnings.append(f"{what} left out: recorded {when} the window around the reference time")
            return False

        return replace(
            self,
            notes=tuple(note for note in self.notes if inside(note.time, f"note ({note.kind.value})")),
            observations=tuple(o for o in self.observations if inside(o.time, f"observation ({o.variable})")),
            warnings=tuple(warnings),
        )

    def input_digests(self) -> dict[str, str]:
        """SHA-256 of every image and note received, by position: ``images[0]`` → hex."""
        digests = {f"images[{i}]": image.digest for i, image in enumerate(self.images)}
        digests |= {f"notes[{i}]": note.digest for i, note in enumerate(self.notes)}
        if self.observations:
            lines = [
                f"{o.code} {o.comparator or ''}{o.category or repr(o.given_value)} {o.given_unit} {instant}"
                for o, instant in ((o, instant_text(o.time)) for o in self.observations)
            ]
            digests["observations"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return digests


def _differ(one: Any, other: Any) -> bool:
    """Whether two ages or sexes cannot be one patient's: a file's age may be rounded, or some months old."""
    return bool(one != other if isinstance(one, str) else abs(one - other) >= _YEARS_APART)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def instant_text(time: datetime | None) -> str:
    """`time` in UTC, for digests: the same text for the same instant, by whatever clock; empty where not known."""
    return "" if time is None else time.astimezone(UTC).isoformat()
