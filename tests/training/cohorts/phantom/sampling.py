"""Many records drawn at once, as the oracle reads them: what would take `draw_study` minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.observations.phantom import ValueReading
from training.cohorts.phantom.oracle import Readings, log_likelihoods
from training.cohorts.phantom.record import Design

DESIGN = Design(seed=0, size=64)


def sample(studies: int, seed: int, design: Design = DESIGN) -> tuple[npt.NDArray[np.int64], Readings]:
    """State index of each study, and what is read of it; no modality is missing."""
    rng = np.random.default_rng(seed)
    table = design.states()
    phantoms: Mapping[str, Any] = design.evidence().phantoms
    image, text, values = (phantoms[name] for name in ("image", "text", "observations"))
    band, sex = np.divmod(rng.choice(table.demographics.size, size=studies, p=table.demographics.ravel()), 2)
    below = table.states[band, sex].cumsum(axis=1)
    state = (rng.random((studies, 1)) > below).sum(axis=1)
    return state, {
        "image": rng.normal(image.means[state]),
        "text": text.wording.grades(rng.normal(text.means[state])),
        "observations": ValueReading(
            written=rng.normal(values.means[state]),
            measured=rng.random((studies, values.missing_values.shape[1])) >= values.missing_values[state],
            age=table.edges[band] + 1,
            sex=sex,
        ),
    }


def likelihoods_of(
    readings: Readings, present: tuple[bool, ...] = (True, True, True), design: Design = DESIGN
) -> npt.NDArray[np.float64]:
    """Log-likelihoods [N, 3, S] of records that all have the modalities `present`."""
    has = np.tile(present, (len(readings["image"]), 1))
    return log_likelihoods(design.states(), design.evidence(), readings, has)
