"""Sound: one recording of what a body sounds like."""

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


class Fault(StrEnum):
    """What is wrong with a sound."""

    CLIPPED = "clipped"
    COARSE = "coarse"
    DROPOUTS = "dropouts"
    NARROW = "narrow"


SENTENCES: Mapping[Fault, str] = {
    Fault.CLIPPED: "it is clipped",
    Fault.COARSE: "it was recorded so quietly that it has few different values",
    Fault.DROPOUTS: "more than a tenth of it is digital silence",
    Fault.NARROW: "it was recorded at a rate too low for the frequencies that the model reads",
}


@dataclass(frozen=True, slots=True, eq=False)
class Sound(Record):
    """One recording of one channel.

    Attributes
    ----------
    samples : float32 [T]
        Full scale is 1; without its mean.
    rate : float
        Samples a second.
    digest : str
        SHA-256 of the bytes received, in hex.
    source : str
        ``wav``, ``flac`` or ``dicom``.
    faults : tuple of Fault
        But `Fault.NARROW`, which depends on what a model reads.
    time : datetime or None
        When it begins. In a Study it has an offset from UTC; as it was read, only where the file states one.
    warnings : tuple of str
        What else the reader has to know of how the file was read, without its values.
    names : tuple of str
        Names and identifiers in the file's header, for the masking of notes; never written, shown nor compared.
    converted : mapping of str to ndarray
        What converters made of the samples where the file was decoded, by their keys.
    """

    samples: npt.NDArray[np.float32]
    rate: float
    digest: str
    source: str
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
    converted: Mapping[str, npt.NDArray[Any]] = dataclass_field(default_factory=dict, repr=False)

    field: ClassVar[str] = "sounds"
    guessable: ClassVar[bool] = False

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(len(self.samples) / self.rate)

    @property
    def description(self) -> str:
        return "sound"

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(f"sounds: {SENTENCES[fault]}" for fault in self.faults)

    def condensed(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """With `arrays` beside the samples, which the report draws and plays."""
        return replace(self, converted=arrays)

    def deidentified(self, names: Sequence[str], move: Callable[[datetime | None], datetime | None]) -> Self:
        del names
        moved = self.with_time(move(self.time))
        nowhere: Any = dict.fromkeys(
            ("patient_digest", "study_digest", "accession_digest", "device_digest", "site_digest"), None
        )
        return replace(moved, **nowhere, patient=self.patient.deidentified, names=())

    def facts(self) -> dict[str, Any]:
        """All but the samples and the names, as JSON holds it."""
        return {
            "samples": len(self.samples),
            "rate": self.rate,
            "source": self.source,
            "faults": [fault.value for fault in self.faults],
            "time": None if self.time is None else self.time.isoformat(),
            "warnings": list(self.warnings),
            "patient": [self.patient.age, self.patient.sex.value],
            "digests": [self.patient_digest, self.study_digest],
        }

    @classmethod
    def of_facts(cls, digest: str, facts: Mapping[str, Any]) -> Sound:
        """The sound that `facts` were taken from, with samples that take no memory and say nothing."""
        (age, sex), (patient, study) = facts["patient"], facts["digests"]
        return cls(
            samples=np.broadcast_to(np.float32(np.nan), facts["samples"]),
            rate=facts["rate"],
            digest=digest,
            source=facts["source"],
            faults=tuple(Fault(fault) for fault in facts["faults"]),
            time=None if facts["time"] is None else datetime.fromisoformat(facts["time"]),
            warnings=tuple(facts["warnings"]),
            patient=Patient(age, Sex(sex)),
            patient_digest=patient,
            study_digest=study,
        )


def sound_warnings(sounds: Sequence[Sound]) -> list[str]:
    """What the reader of a diagnosis has to know of the sounds of one study."""
    found, seen = [], set[str]()
    for position, sound in enumerate(sounds):
        found += [f"sounds[{position}]: {SENTENCES[fault]}" for fault in sound.faults]
        found += [f"sounds[{position}]: {warning}" for warning in sound.warnings]
        found += [f"sounds[{position}]: the same file as another"] if sound.digest in seen else []
        seen.add(sound.digest)
    return found
