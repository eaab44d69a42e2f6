"""Volume: one CT or MR volume of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from consilium.domain.study import Patient, Record, Sex
from consilium.modalities.volume.faults import SENTENCES, Fault
from consilium.modalities.volume.files.grid import Grid

NO_VOXELS: npt.NDArray[Any] = np.zeros((0, 0, 0), np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Volume(Record):
    """One volume.

    Attributes
    ----------
    voxels : ndarray [Z, Y, X]
        Slices, rows and columns as they are stored: uint8, int16, uint16 or float32; empty where `condensed_to` is not.
    slope, intercept : float
        ``voxels * slope + intercept`` are the values: Hounsfield units of a CT, of no unit otherwise.
    grid : Grid
        Where the voxels lie in the patient.
    digest : str
        SHA-256 of the bytes received, in hex.
    source : str
        ``dicom`` or ``nifti``.
    modality : str
        ``CT``, ``MR``, or empty where the file does not say.
    scale : (float, float)
        1st and 99th percentile of the values.
    stored_type : str
        Numpy's name of the type of a stored voxel.
    thickness : float or None
        Of a slice as the file states it, millimetres.
    chosen : str
        Why this volume of those that were sent; empty where there was one.
    faults : tuple of Fault
    time : datetime or None
        When it was taken. In a Study it has an offset from UTC; as it was read, only where the file states one.
    warnings : tuple of str
        What else the reader has to know of how the files were read, without their values.
    names : tuple of str
        Names and identifiers in the header, for the masking of notes; never written, shown nor compared.
    condensed_to : mapping or None
        What converters made of the voxels, by their keys, in place of these.
    shown : uint8 [Z, H, W] or None
        The slices as pictures of at most 256 pixels a side, in place of the voxels.
    """

    voxels: npt.NDArray[Any]
    slope: float
    intercept: float
    grid: Grid
    digest: str
    source: str
    modality: str = ""
    scale: tuple[float, float] = (0.0, 1.0)
    stored_type: str = ""
    thickness: float | None = None
    chosen: str = ""
    faults: tuple[Fault, ...] = ()
    time: datetime | None = None
    warnings: tuple[str, ...] = ()
    patient: Patient = dataclass_field(default_factory=Patient)
    patient_digest: str | None = None
    study_digest: str | None = None
    accession_digest: str | None = None
    device_digest: str | None = None
    site_digest: str | None = None
    names: tuple[str, ...] = dataclass_field(default=(), repr=False)
    condensed_to: Mapping[str, npt.NDArray[Any]] | None = dataclass_field(default=None, repr=False)
    shown: npt.NDArray[np.uint8] | None = dataclass_field(default=None, repr=False)

    field: ClassVar[str] = "volumes"
    guessable: ClassVar[bool] = False

    @property
    def description(self) -> str:
        return "volume"

    @property
    def kind_name(self) -> str:
        return self.modality or "unknown"

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(f"volumes: {SENTENCES[fault]}" for fault in self.faults)

    def values(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """The values of the slices from `first` to before `last`, float32."""
        stored = self.voxels[first:last]
        if self.slope == 1 and self.intercept == 0:
            return stored.astype(np.float32)
        return stored * np.float32(self.slope) + np.float32(self.intercept)

    def condensed(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """With `arrays` and small pictures of the slices in place of the voxels."""
        from consilium.modalities.volume.slice_pictures import pictures

        return replace(self, voxels=NO_VOXELS, condensed_to=arrays, shown=pictures(self))

    def deidentified(self, names: Sequence[str], move: Callable[[datetime | None], datetime | None]) -> Self:
        del names
        moved = self.with_time(move(self.time))
        nowhere: Any = dict.fromkeys(
            ("patient_digest", "study_digest", "accession_digest", "device_digest", "site_digest"), None
        )
        return replace(moved, **nowhere, patient=self.patient.deidentified, names=())

    def facts(self) -> dict[str, Any]:
        """All but the voxels and the names, as JSON holds it."""
        return {
            "slope": self.slope,
            "intercept": self.intercept,
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
            "source": self.source,
            "modality": self.modality,
            "scale": list(self.scale),
            "stored_type": self.stored_type,
            "thickness": self.thickness,
            "chosen": self.chosen,
            "faults": [fault.value for fault in self.faults],
            "time": None if self.time is None else self.time.isoformat(),
            "warnings": list(self.warnings),
            "patient": [self.patient.age, self.patient.sex.value],
            "digests": [self.patient_digest, self.study_digest],
        }

    @classmethod
    def of_facts(cls, digest: str, facts: Mapping[str, Any]) -> Volume:
        """The volume that `facts` were taken from, with voxels that take no memory and show nothing."""
        (age, sex), (patient, study) = facts["patient"], facts["digests"]
        slices, rows, columns = facts["shape"]
        low, high = facts["scale"]
        return cls(
            voxels=np.broadcast_to(np.int16(0), (slices, rows, columns)),
            slope=facts["slope"],
            intercept=facts["intercept"],
            grid=Grid((slices, rows, columns), np.array(facts["affine"])),
            digest=digest,
            source=facts["source"],
            modality=facts["modality"],
            scale=(low, high),
            stored_type=facts["stored_type"],
            thickness=facts["thickness"],
            chosen=facts["chosen"],
            faults=tuple(Fault(fault) for fault in facts["faults"]),
            time=None if facts["time"] is None else datetime.fromisoformat(facts["time"]),
            warnings=tuple(facts["warnings"]),
            patient=Patient(age, Sex(sex)),
            patient_digest=patient,
            study_digest=study,
        )


def volume_warnings(volumes: Sequence[Volume]) -> list[str]:
    """What the reader of a diagnosis has to know of the volumes of one study."""
    found, seen = [], set[str]()
    for position, volume in enumerate(volumes):
        own = [volume.chosen] if volume.chosen else []
        own += [SENTENCES[fault] for fault in volume.faults]
        own += volume.warnings
        own += ["the same file as another"] if volume.digest in seen else []
        found += [f"volumes[{position}]: {one}" for one in own]
        seen.add(volume.digest)
    return found
