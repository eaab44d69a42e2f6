"""Ecg: one resting or ambulatory recording of the heart's voltage."""

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
    """What is wrong with a recording, as the checks of `consilium.modalities.ecg.lead_checks` found it."""

    GAINS = "gains"
    NO_GAINS = "no_gains"
    LIMB_LEADS = "limb_leads"
    REVERSED = "reversed"
    CLIPPED = "clipped"
    FLAT = "flat"
    MAINS = "mains"


SENTENCES: Mapping[Fault, str] = {
    Fault.GAINS: "the gains of the file are wrong: its integers obey III = II - I, its millivolts do not; "
    "voltages are not known",
    Fault.NO_GAINS: "the file does not state the gains; voltages are not known",
    Fault.LIMB_LEADS: "the limb leads contradict each other (III = II - I does not hold)",
    Fault.REVERSED: "the electrodes of the right arm and of another limb seem to be swapped",
    Fault.CLIPPED: "a lead is clipped",
    Fault.FLAT: "a lead is flat",
    Fault.MAINS: "mains hum of 50 or 60 Hz is strong",
}


UNKNOWN_VOLTAGES = (Fault.GAINS, Fault.NO_GAINS)


@dataclass(frozen=True, slots=True, eq=False)
class Ecg(Record):
    """One recording.

    Attributes
    ----------
    samples : float32 [12, T]
        Millivolts, of the leads in the order of `consilium.modalities.ecg.files.signals.LEADS`; NaN where there is no
        lead or no sample. Where the file's gains are wrong, thousandths of the stored integers, which keep the ratios
        of the leads and no voltage.
    rate : float
        Samples a second.
    digest : str
        SHA-256 of the bytes received, in hex.
    source : str
        ``wfdb``, ``dicom`` or ``csv``.
    derived : tuple of str
        Limb leads that were computed from two others.
    faults : tuple of Fault
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
    derived: tuple[str, ...] = ()
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

    field: ClassVar[str] = "ecgs"
    guessable: ClassVar[bool] = False

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(self.samples.shape[1] / self.rate)

    @property
    def description(self) -> str:
        return "ECG"

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(f"ECGs: {SENTENCES[fault]}" for fault in self.faults)

    def condensed(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """With `arrays` beside the samples, which are small, and drawn on the report."""
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
            "samples": int(self.samples.shape[1]),
            "rate": self.rate,
            "source": self.source,
            "derived": list(self.derived),
            "faults": [fault.value for fault in self.faults],
            "time": None if self.time is None else self.time.isoformat(),
            "warnings": list(self.warnings),
            "patient": [self.patient.age, self.patient.sex.value],
            "digests": [self.patient_digest, self.study_digest],
        }

    @classmethod
    def of_facts(cls, digest: str, facts: Mapping[str, Any]) -> Ecg:
        """The recording that `facts` were taken from, with samples that take no memory and say nothing."""
        (age, sex), (patient, study) = facts["patient"], facts["digests"]
        return cls(
            samples=np.broadcast_to(np.float32(np.nan), (12, facts["samples"])),
            rate=facts["rate"],
            digest=digest,
            source=facts["source"],
            derived=tuple(facts["derived"]),
            faults=tuple(Fault(fault) for fault in facts["faults"]),
            time=None if facts["time"] is None else datetime.fromisoformat(facts["time"]),
            warnings=tuple(facts["warnings"]),
            patient=Patient(age, Sex(sex)),
            patient_digest=patient,
            study_digest=study,
        )


def ecg_warnings(ecgs: Sequence[Ecg]) -> list[str]:
    """What the reader of a diagnosis has to know of the recordings of one study."""
    found, seen = [], set[str]()
    for position, ecg in enumerate(ecgs):
        found += [f"ecgs[{position}]: {SENTENCES[fault]}" for fault in ecg.faults]
        found += [f"ecgs[{position}]: {warning}" for warning in ecg.warnings]
        found += [f"ecgs[{position}]: the same file as another"] if ecg.digest in seen else []
        seen.add(ecg.digest)
    return found
