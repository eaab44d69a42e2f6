"""ECGs → samples, the places of their beats, and their rhythm."""

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
from consilium.modalities.ecg.beats import MOST_BEATS, RHYTHM, read_beats
from consilium.modalities.ecg.ecg_converter import SAMPLES, EcgConverter
from consilium.modalities.ecg.ecg_record import Fault
from consilium.modalities.ecg.presentation import EcgInformation
from consilium.modalities.ecg.section import EcgSection
from consilium.modalities.part import Part, Preparation

PEAKS, RHYTHM_ARRAY, THERE = "peaks", "rhythm", "there"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EcgPart(Part):
    """The recordings of one study, R of them.

    Attributes
    ----------
    arrays : mapping
        ``samples`` float32 [R, 12, T], NaN where there is nothing; ``peaks`` int64 [R, K] and ``rhythm`` float32
        [R, 8], as `read_beats` gives them.
    starts : tuple of float
        When what is read of each begins, in seconds of the recording.
    faults : tuple of tuples of Fault
        Of each, but for wrong gains where the recipe says what the integers are.
    """

    starts: tuple[float, ...]
    faults: tuple[tuple[Fault, ...], ...]


class EcgPreparation(Preparation[EcgPart]):
    """Fits nothing: voltages and rhythms are on scales of their own."""

    def __init__(self, section: EcgSection) -> None:
        self.convert = EcgConverter(section)
        self.key = self.convert.key

    @classmethod
    def fit(cls, section: EcgSection, studies: Sequence[Study], variables: VariableTable) -> EcgPreparation:
        del studies, variables
        return cls(section)

    @classmethod
    def converter(cls, section: EcgSection) -> EcgConverter:
        return EcgConverter(section)

    def prepare(
        self, study: Study, received: Study, converted: Sequence[npt.NDArray[np.float32]] | None = None
    ) -> EcgPart:
        del received
        records = study.parts["ecg"]
        samples = [self.convert(record) for record in records] if converted is None else list(converted)
        beats = [read_beats(one, self.convert.rate) for one in samples]
        known = {Fault.GAINS} if self.convert.wrong_gains == "microvolts" else set()
        return EcgPart(
            arrays={
                SAMPLES: self.convert.joined(samples),
                PEAKS: np.array([peaks for peaks, _ in beats], np.int64).reshape(-1, MOST_BEATS),
                RHYTHM_ARRAY: np.array([rhythm for _, rhythm in beats], np.float32).reshape(-1, len(RHYTHM)),
            },
            starts=tuple(self.convert.start(record) for record in records),
            faults=tuple(tuple(fault for fault in record.faults if fault not in known) for record in records),
        )

    def collate(self, parts: Sequence[EcgPart]) -> dict[str, Tensor]:
        """As of any modality, the samples with zeros for NaN, and ``there`` bool [B, R, 12]: which leads there are."""
        tensors = super().collate(parts)
        samples = tensors[SAMPLES]
        there = samples.isfinite().any(dim=-1) & (samples.nan_to_num() != 0).any(dim=-1)
        return {**tensors, SAMPLES: samples.nan_to_num(), THERE: there}

    def information(self, section: EcgSection) -> EcgInformation:
        del section
        return EcgInformation(
            rate=self.convert.rate, seconds=self.convert.seconds, wrong_gains=self.convert.wrong_gains
        )

    def save(self, folder: Path) -> None:
        (folder / "ecg.json").write_text(json.dumps(self.key), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, section: EcgSection, variables: VariableTable) -> EcgPreparation:
        del folder, variables
        return cls(section)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()
