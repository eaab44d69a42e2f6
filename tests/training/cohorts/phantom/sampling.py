"""Many records drawn at once, as the oracle reads them: what would take `draw_study` minutes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from consilium.modalities.registry import modality_names
from training.cohorts.phantom.evidence import load_evidence
from training.cohorts.phantom.oracle import Witnesses
from training.cohorts.phantom.state import load_states


def sample(studies: int, seed: int) -> tuple[npt.NDArray[np.int64], Witnesses]:
    """State index of each study, and its evidence; no modality is missing."""
    rng = np.random.default_rng(seed)
    table, model = load_states(), load_evidence()
    band, sex = np.divmod(rng.choice(table.demographics.size, size=studies, p=table.demographics.ravel()), 2)
    below = table.states[band, sex].cumsum(axis=1)
    state = (rng.random((studies, 1)) > below).sum(axis=1)
    witnesses = Witnesses(
        image=rng.normal(model.image_means[state]),
        grades=model.grades(rng.normal(model.text_means[state])),
        observations=rng.normal(model.observation_means[state]),
        measured=rng.random((studies, model.missing.shape[1])) >= model.missing[state],
        age=table.edges[band] + 1,
        sex=sex,
        present=np.ones((studies, len(modality_names())), dtype=bool),
    )
    return state, witnesses
