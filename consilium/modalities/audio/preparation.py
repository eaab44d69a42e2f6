"""Sounds → spectrograms, and what repeats in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.modalities.audio.cycle import CYCLE, read_cycle
from consilium.modalities.audio.presentation import AudioInformation
from consilium.modalities.audio.section import AudioSection
from consilium.modalities.audio.sound_converter import SPECTRA, SoundConverter
from consilium.modalities.audio.sound_record import Fault
from consilium.modalities.part import Part, Preparation

CYCLE_ARRAY, THERE = "cycle", "there"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AudioPart(Part):
    """The sounds of one study, R of them.

    Attributes
    ----------
    arrays : mapping
        ``spectra`` float32 [R, bands, frames], NaN where a sound has ended; ``cycle`` float32 [R, 4], as `read_cycle`
        gives it.
    starts : tuple of float
        When what is read of each begins, in seconds of the sound.
    faults : tuple of tuples of Fault
        Of each.
    """

    starts: tuple[float, ...]
    faults: tuple[tuple[Fault, ...], ...]


class AudioPreparation(Preparation[AudioPart]):
    """Fits nothing: each sound is brought to a scale of its own."""

    def __init__(self, section: AudioSection) -> None:
        self.convert = SoundConverter(section)
        self.key = self.convert.key

    @classmethod
    def fit(cls, section: AudioSection, studies: Sequence[Study], variables: VariableTable) -> AudioPreparation:
        del studies, variables
        return cls(section)

    @classmethod
    def converter(cls, section: AudioSection) -> SoundConverter:
        return SoundConverter(section)

    def prepare(
        self, study: Study, received: Study, converted: Sequence[npt.NDArray[np.float32]] | None = None
    ) -> AudioPart:
        del received
        records = study.parts["audio"]
        spectra = [self.convert(record) for record in records] if converted is None else list(converted)
        cycles = [read_cycle(one, self.convert.step) for one in spectra]
        narrow = [(Fault.NARROW,) if self.convert.narrow(record) else () for record in records]
        return AudioPart(
            arrays={
                SPECTRA: self.convert.joined(spectra),
                CYCLE_ARRAY: np.array(cycles, np.float32).reshape(-1, len(CYCLE)),
            },
            starts=tuple(self.convert.start(record) for record in records),
            faults=tuple((*record.faults, *more) for record, more in zip(records, narrow, strict=True)),
        )

    def collate(self, parts: Sequence[AudioPart]) -> dict[str, Tensor]:
        """As of any modality, spectra with zeros for NaN, and ``there`` bool [B, R, frames]: where there is sound."""
        tensors = super().collate(parts)
        spectra = tensors[SPECTRA]
        there = spectra.isfinite().all(dim=2) & (spectra.nan_to_num() != 0).any(dim=2)
        return {**tensors, SPECTRA: spectra.nan_to_num(), THERE: there}

    def information(self, section: AudioSection) -> AudioInformation:
        return AudioInformation(
            rate=section.rate, seconds=section.seconds, low_hz=section.low_hz, high_hz=section.high_hz
        )

    def save(self, folder: Path) -> None:
        (folder / "audio.json").write_text(json.dumps(self.key), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, section: AudioSection, variables: VariableTable) -> AudioPreparation:
        del folder, variables
        return cls(section)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()
