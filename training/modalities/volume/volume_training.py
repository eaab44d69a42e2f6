"""Volumes, where a model is trained."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.configuration.recipe import Recipe
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.modalities.converter import Array
from consilium.modalities.volume.volume_converter import HIGHEST, LOWEST, OUTSIDE, VOLUMES
from consilium.modalities.volume.volume_record import Volume
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.training_side import CheckTable, Copies, Indices, Names, Row, TrainingSide

NAME = "volume"
_NOISE = 0.02
"""Standard deviation of the noise on voxels, of a window."""
_APART = 4.0
"""Factor between the ranges of values of two volumes from which on they are of different scales."""


class VolumeTraining(TrainingSide):
    """Copies by their bytes, origins by format, grid and scale of the values, groups by modality."""

    origin_groups = MappingProxyType(
        {
            "volume_format": "the file format of the volume",
            "volume_size": "the volume's size and spacing",
            "volume_scale": "the scale of the volume's values",
        }
    )

    def check_tables(self, cohort: Cohort, studies: Sequence[Study]) -> Mapping[str, CheckTable]:
        del cohort
        volumes: list[Volume] = [volume for study in studies for volume in study.parts[NAME]]
        faults = Counter(fault.value for volume in volumes for fault in volume.faults)
        lines = [{"fault": name, "volumes": count} for name, count in faults.most_common()]
        return {
            "volume_faults": CheckTable("Faults of volumes", pd.DataFrame(lines, columns=["fault", "volumes"])),
            "volume_scales": CheckTable("Scales of volumes' values", _scales(volumes)),
        }

    def copies(
        self, cohort: Cohort, cached: CachedCohort | None, scope: Scope, patients: Indices, seed: int
    ) -> Copies | None:
        del cohort, scope, patients, seed
        if cached is None:
            return None
        holders: dict[str, list[int]] = defaultdict(list)
        for row, study in enumerate(cached.studies):
            for volume in study.parts[NAME]:
                holders[volume.digest].append(row)
        return Copies(list(holders.values()), np.zeros((0, 2), np.int64), "")

    def origins(self, cached: CachedCohort, scope: Scope) -> Mapping[str, Sequence[Row]]:
        """Of a study with several volumes, the first one speaks."""
        rows = {name: list[Row]() for name in ("missingness", *self.origin_groups)}
        for study, common in zip(cached.studies, super().origins(cached, scope)["missingness"], strict=True):
            first: Volume | None = next(iter(study.parts[NAME]), None)
            rows["missingness"].append(common)
            rows["volume_format"].append({"source": first and first.source, "stored_type": first and first.stored_type})
            rows["volume_size"].append(_size(first))
            rows["volume_scale"].append({"range": first and math.log10(max(first.scale[1] - first.scale[0], 1e-9))})
        return rows

    def subgroups(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Names]:
        del variables
        kinds = [study.parts[NAME][0].kind_name if study.parts[NAME] else "no volume" for study in studies]
        return {"volume": np.array(kinds)}

    def noisy(self, arrays: Mapping[str, Array], generator: np.random.Generator) -> Mapping[str, Array]:
        volumes = arrays[VOLUMES]
        moved = np.rint(volumes + generator.normal(0, _NOISE * (HIGHEST - LOWEST), volumes.shape))
        return {VOLUMES: np.where(volumes == OUTSIDE, OUTSIDE, np.clip(moved, LOWEST, HIGHEST)).astype(np.uint8)}

    def card_sentences(self, recipe: Recipe) -> Sequence[str]:
        section: Any = recipe.modalities[NAME]
        box = " x ".join(f"{side * step:g}" for side, step in zip(section.size, section.spacing, strict=True))
        how = {"hounsfield": "by windows of Hounsfield units", "percentiles": "by the percentiles of each volume"}
        return (f"Of a volume it reads the middle {box} mm, {how[section.intensities]}.",)


def _size(volume: Volume | None) -> Row:
    names = ("slices", "rows", "columns", "between", "row_spacing", "column_spacing")
    values: Sequence[float | None] = [None] * 6
    if volume is not None:
        values = [float(side) for side in volume.grid.shape] + list(volume.grid.spacing)
    return dict(zip(names, values, strict=True))


def _scales(volumes: Sequence[Volume]) -> pd.DataFrame:
    """How many volumes there are of each stored type and scale; none where all are of one.

    Scales are groups of ranges, from the 1st to the 99th percentile, that lie within a factor of each other.
    """
    groups: Counter[tuple[str, str, str, int]] = Counter()
    for volume in volumes:
        size = math.floor(math.log(max(volume.scale[1] - volume.scale[0], 1e-9), _APART))
        shown = f"{_APART**size:.3g} to {_APART ** (size + 1):.3g}"
        groups[volume.source, volume.stored_type, shown, size] += 1
    columns = ["source", "stored_type", "range", "volumes"]
    if len({size for *_, size in groups}) < 2:
        return pd.DataFrame(columns=columns)
    ordered = sorted(groups.items(), key=lambda item: item[0][3])
    return pd.DataFrame([(*key[:3], count) for key, count in ordered], columns=columns)
