"""Images, where a model is trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.modalities.converter import Array
from consilium.modalities.image.image_record import ViewPosition
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.modalities.image.hog_baseline import BASELINE
from training.modalities.image.image_origins import GROUPS, image_origins
from training.modalities.image.near_images import Fingerprints, fingerprint, near_images
from training.training_side import Baseline, Copies, Indices, Names, Row, TrainingSide

NAME = "image"
NOISE = 0.01
"""Standard deviation of the noise on pixels, of the full range."""
_WHITE = 65535
_CELLS = (16, 16)
_VIEWS = {ViewPosition.AP_SUPINE: "AP supine", ViewPosition.LATERAL: "lateral", ViewPosition.UNKNOWN: "unknown"}


class ImageTraining(TrainingSide):
    """Copies by their low frequencies, origins by their headers, a baseline by its edges."""

    origin_groups = GROUPS
    ambiguous_groups = ("compression", "view")
    unit_shape = _CELLS

    def copies(
        self, cohort: Cohort, cached: CachedCohort | None, scope: Scope, patients: Indices, seed: int
    ) -> Copies | None:
        del cohort, scope
        if cached is None:
            return None
        holders: dict[str, list[int]] = defaultdict(list)
        prints: dict[str, Fingerprints] = {}
        for row, study in enumerate(cached.studies):
            for image in study.parts[NAME]:
                if image.digest not in holders:
                    taken = fingerprint(cached.array(NAME, image), image)
                    # Blank images are alike without being copies.
                    if taken is None:
                        continue
                    prints[image.digest] = taken
                holders[image.digest].append(row)
        if not holders:
            return Copies((), np.zeros((0, 2), np.int64), "")
        owners = np.array([patients[rows[0]] for rows in holders.values()])
        pairs, correlation = near_images(np.stack(list(prints.values())), owners, seed)
        return Copies(list(holders.values()), pairs, f"correlation of at least {correlation:.2f}")

    def origins(self, cached: CachedCohort, scope: Scope) -> Mapping[str, Sequence[Row]]:
        del scope
        return image_origins(cached)

    def subgroups(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Names]:
        """The view of the first image."""
        del variables
        return {"view": np.array([_view(study) for study in studies])}

    def baseline(self) -> Baseline:
        return BASELINE

    def out_of_distribution_kinds(self) -> tuple[Any, ...]:
        from training.modalities.image.odd_images import KINDS

        return KINDS

    def noisy(self, arrays: Mapping[str, Array], generator: np.random.Generator) -> Mapping[str, Array]:
        images = arrays["images"]
        pixels = images + generator.normal(0, NOISE * _WHITE, images.shape)
        return MappingProxyType({"images": np.clip(np.rint(pixels), 0, _WHITE).astype(np.uint16)})


def _view(study: Study) -> str:
    for image in study.parts[NAME]:
        return _VIEWS.get(image.view, image.view.value)
    return "no image"
