"""Volumes → windows as channels, in the box that the recipe says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.modalities.part import MASK, Part, Preparation
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.presentation import VolumeInformation
from consilium.modalities.volume.section import VolumeSection
from consilium.modalities.volume.volume_converter import HIGHEST, LOWEST, OUTSIDE, VOLUMES, VolumeConverter
from consilium.modalities.volume.volume_record import Volume

_NO_HOUNSFIELD = -200.0
"""Values of a CT reach below this: air is at -1000, and fat at -100."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VolumePart(Part):
    """The volumes of one study, V of them that are read.

    Attributes
    ----------
    arrays : mapping
        ``volumes`` uint8 [V, C, D, H, W], as the converter gives them.
    records : tuple of (int, ndarray [3, 4], (int, int, int))
        Of each its position among those that were sent, the way from what is read to its own voxels, and its shape.
    faults : tuple of tuples of Fault
        Of each.
    """

    records: tuple[tuple[int, npt.NDArray[np.float64], tuple[int, int, int]], ...]
    faults: tuple[tuple[Fault, ...], ...]


class VolumePreparation(Preparation[VolumePart]):
    """Nothing is fitted.

    Attributes
    ----------
    convert : VolumeConverter
    """

    def __init__(self, section: VolumeSection) -> None:
        self.section = section
        self.convert = VolumeConverter(section)
        self.key = self.convert.key

    @classmethod
    def fit(cls, section: VolumeSection, studies: Sequence[Study], variables: VariableTable) -> VolumePreparation:
        del studies, variables
        return cls(section)

    @classmethod
    def converter(cls, section: VolumeSection) -> VolumeConverter:
        return VolumeConverter(section)

    def prepare(
        self, study: Study, received: Study, converted: Sequence[npt.NDArray[np.uint8]] | None = None
    ) -> VolumePart:
        every: Sequence[Volume] = study.parts["volume"]
        kept = [number for number, one in enumerate(every) if self.section.reads(one)]
        records = [every[number] for number in kept]
        arrays = [self.convert(one) for one in records] if converted is None else [converted[number] for number in kept]
        sent = {id(one): position for position, one in enumerate(received.parts["volume"])}
        places = [sent.get(id(one), number) for number, one in zip(kept, records, strict=True)]
        left_out = len(every) - len(kept)
        kind = "a volume was" if left_out == 1 else f"{left_out} volumes were"
        return VolumePart(
            arrays={VOLUMES: self.convert.joined(arrays)},
            warnings=(f"{kind} left out: of another kind than the model reads",) if left_out else (),
            records=tuple(
                (place, self.convert.to_voxels(one.grid), one.grid.shape)
                for place, one in zip(places, records, strict=True)
            ),
            faults=tuple(self._faults(one) for one in records),
        )

    def _faults(self, record: Volume) -> tuple[Fault, ...]:
        """Units do not matter where every volume is scaled by its own percentiles."""
        if not self.convert.windows:
            return tuple(fault for fault in record.faults if fault is not Fault.UNITS)
        unlike = record.modality != "CT" and record.scale[0] > _NO_HOUNSFIELD
        known = Fault.UNITS in record.faults
        return (*record.faults, Fault.UNITS) if (unlike or record.modality == "MR") and not known else record.faults

    def collate(self, parts: Sequence[VolumePart]) -> dict[str, Tensor]:
        """``volumes`` float32 [B, V, C + 1, D, H, W] and ``mask`` bool [B, V].

        Windows in [0, 1], and last whether there is a voxel.
        """
        most = max(1, *(len(part.arrays[VOLUMES]) for part in parts))
        channels, *size = self.convert.shape
        volumes = np.zeros((len(parts), most, channels + 1, *size), np.float32)
        mask = np.zeros((len(parts), most), bool)
        for row, part in enumerate(parts):
            for place, array in enumerate(part.arrays[VOLUMES]):
                volumes[row, place, :channels] = np.maximum(array, LOWEST) - np.float32(LOWEST)
                volumes[row, place, channels] = array[0] != OUTSIDE
                mask[row, place] = True
        volumes[:, :, :channels] /= HIGHEST - LOWEST
        return {VOLUMES: torch.from_numpy(volumes), MASK: torch.from_numpy(mask)}

    def information(self, section: VolumeSection) -> VolumeInformation:
        return VolumeInformation(
            spacing=section.spacing,
            size=section.size,
            intensities=section.intensities,
            windows=self.convert.windows,
            modality=section.modality,
            plane=section.plane,
            least_slices=section.least_slices,
            thickest=section.thickest,
        )

    def save(self, folder: Path) -> None:
        (folder / "volume.json").write_text(json.dumps(self.key), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, section: VolumeSection, variables: VariableTable) -> VolumePreparation:
        del folder, variables
        return cls(section)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()
