"""Of sounds the audit knows how they were recorded, and what a simple baseline finds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Study
from consilium.modalities.audio.sound_record import Sound
from tests.training.audit.made import made_cohort
from training.data.cached_cohort import CachedCohort
from training.evaluation.baselines import baseline_predictions
from training.training_side import training_side

LABELS = [1, 0] * 60


class _Spectra:
    """A cache in memory: sounds of positives are louder in the fourth of eight bands."""

    def array(self, digest: str) -> npt.NDArray[np.float32]:
        number = int(digest, 16)
        spectra = np.random.default_rng(number).normal(size=(8, 50)).astype(np.float32)
        spectra[3] += 2 * LABELS[number]
        spectra[:, 40:] = np.nan
        return spectra


def _cached() -> CachedCohort:
    sounds = [
        Sound(np.zeros(8000, np.float32), 2000 + 2000 * (number % 2), f"{number:064x}", "flac") for number in range(120)
    ]
    studies = tuple(Study({} if number == 7 else {"audio": (sound,)}) for number, sound in enumerate(sounds))
    return CachedCohort(made_cohort(LABELS), {"audio": _Spectra()}, studies, {})  # type: ignore[dict-item]


def test_the_baseline_reads_how_loud_bands_are() -> None:
    rows = np.arange(120)
    found = baseline_predictions(_cached(), [(rows[60:], rows[:60]), (rows[:60], rows[60:])])["sound_spectra"][:, 0]
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]
    there = np.isfinite(found)
    assert roc_auc_score(np.array(LABELS)[there], found[there]) > 0.9


def test_how_a_sound_was_recorded_is_known() -> None:
    rows = training_side("audio").origins(_cached(), Scope())["recording"]
    assert rows[0] == {"source": "flac", "rate": 2000, "seconds": 4}
    assert rows[1] == {"source": "flac", "rate": 4000, "seconds": 2}
    assert rows[7] == {"source": None, "rate": None, "seconds": None}
