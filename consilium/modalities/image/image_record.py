"""Image: one picture of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from consilium.domain.study import Patient, Record
from consilium.formats.dicom.origin import Origin


class ViewPosition(StrEnum):
    """How the X-ray beam crossed the patient; DICOM View Position (0018,5101), PS3.3 C.8.11.5."""

    PA = "PA"
    AP = "AP"
    AP_SUPINE = "AP_SUPINE"
    LATERAL = "LL"
    UNKNOWN = "UNKNOWN"


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
    patient: Patient = dataclass_field(default_factory=Patient)
    origin: Origin = dataclass_field(default_factory=Origin)
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = dataclass_field(default=(), repr=False)

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
        return replace(moved, patient_digest=None, study_digest=None, patient=self.patient.deidentified, names=())

    @property
    def remarks(self) -> tuple[str, ...]:
        unknown = ("images of unknown view",) if self.view is ViewPosition.UNKNOWN else ()
        processing = ("images FOR PROCESSING",) if self.origin.for_processing else ()
        return (*unknown, *processing, *(f"images[*].{warning}" for warning in self.warnings))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])
