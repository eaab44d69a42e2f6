"""Image: one picture of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from consilium.domain.study import Patient, Record, Sex
from consilium.formats.dicom.origin import Origin
from consilium.formats.square_pixels import is_constant

_NO_PIXELS = np.zeros((0, 0), np.uint16)


class ViewPosition(StrEnum):
    """How the X-ray beam crossed the patient; DICOM View Position (0018,5101), PS3.3 C.8.11.5."""

    PA = "PA"
    AP = "AP"
    AP_SUPINE = "AP_SUPINE"
    LATERAL = "LL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, eq=False)
class Condensed:
    """What is left of an image's pixels where only models read it.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns that there were.
    blank : bool
    arrays : mapping of str to ndarray
        What converters made of the pixels, by their keys.
    """

    shape: tuple[int, int]
    blank: bool
    arrays: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Image(Record):
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
    accession_digest, device_digest, site_digest : str or None
        SHA-256 of accession number and issuer, of what made the image, and of the institution, as the file names them.
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
    condensed_to : Condensed or None
        In place of `pixels`, which are then empty.
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
    patient: Patient = dataclass_field(default_factory=Patient)
    origin: Origin = dataclass_field(default_factory=Origin)
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = dataclass_field(default=(), repr=False)
    accession_digest: str | None = None
    device_digest: str | None = None
    site_digest: str | None = None
    condensed_to: Condensed | None = None

    field: ClassVar[str] = "images"
    time_field: ClassVar[str] = "acquired"
    sets_reference: ClassVar[bool] = True
    in_window: ClassVar[bool] = False
    guessable: ClassVar[bool] = False

    @property
    def time(self) -> datetime | None:
        """`acquired`."""
        return self.acquired

    def deidentified(self, names: Sequence[str], move: Callable[[datetime | None], datetime | None]) -> Self:
        del names
        # Identifiers are few enough to be guessed through a plain digest.
        moved = self.with_time(move(self.acquired))
        nowhere: Any = dict.fromkeys(
            ("patient_digest", "study_digest", "accession_digest", "device_digest", "site_digest"), None
        )
        return replace(moved, **nowhere, patient=self.patient.deidentified, names=())

    def condensed(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        return replace(self, pixels=_NO_PIXELS, condensed_to=Condensed(self.shape, self.blank, arrays))

    @property
    def remarks(self) -> tuple[str, ...]:
        unknown = ("images of unknown view",) if self.view is ViewPosition.UNKNOWN else ()
        processing = ("images FOR PROCESSING",) if self.origin.for_processing else ()
        return (*unknown, *processing, *(f"images[*].{warning}" for warning in self.warnings))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        if self.condensed_to is not None:
            return self.condensed_to.shape
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def blank(self) -> bool:
        """Whether every pixel is alike."""
        return is_constant(self.pixels) if self.condensed_to is None else self.condensed_to.blank

    def facts(self) -> dict[str, Any]:
        """All but the pixels, the names, the order and where it was made, as JSON holds it."""
        return {
            "shape": list(self.shape),
            "source": self.source,
            "view": self.view.value,
            "laterality": self.laterality,
            "pixel_spacing": list(self.pixel_spacing) if self.pixel_spacing is not None else None,
            "acquired": self.acquired.isoformat() if self.acquired is not None else None,
            "patient_digest": self.patient_digest,
            "study_digest": self.study_digest,
            "burned_in": self.burned_in,
            "warnings": list(self.warnings),
            "grid": list(self.grid) if self.grid is not None else None,
            "patient": [self.patient.age, self.patient.sex.value],
            "origin": [self.origin.modality, self.origin.body_part, self.origin.for_processing],
        }

    @classmethod
    def of_facts(cls, digest: str, facts: Mapping[str, Any]) -> Image:
        """The image that `facts` were taken from, with pixels that have its shape, take no memory and show nothing."""
        spacing, acquired, grid = facts["pixel_spacing"], facts["acquired"], facts["grid"]
        age, sex = facts["patient"]
        return cls(
            pixels=np.broadcast_to(np.uint16(0), tuple(facts["shape"])),
            digest=digest,
            source=facts["source"],
            view=ViewPosition(facts["view"]),
            laterality=facts["laterality"],
            pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
            acquired=None if acquired is None else datetime.fromisoformat(acquired),
            patient_digest=facts["patient_digest"],
            study_digest=facts["study_digest"],
            burned_in=facts["burned_in"],
            warnings=tuple(facts["warnings"]),
            grid=None if grid is None else (grid[0], grid[1]),
            patient=Patient(age, Sex(sex)),
            origin=Origin(*facts["origin"]),
        )


def image_warnings(images: Sequence[Image]) -> list[str]:
    """What the reader of a diagnosis has to know of the images of one study."""
    warnings = []
    seen: dict[str, int] = {}
    for i, image in enumerate(images):
        if image.view is ViewPosition.UNKNOWN:
            warnings.append(f"images[{i}]: view position unknown")
        if image.burned_in:
            warnings.append(f"images[{i}]: the file says that text is burned into the image")
        if image.blank:
            warnings.append(f"images[{i}]: the image is blank")
        warnings += [f"images[{i}].{warning}" for warning in image.warnings]
        if image.digest in seen:
            warnings.append(f"images[{i}]: the same file as images[{seen[image.digest]}]")
        seen.setdefault(image.digest, i)
    return warnings
