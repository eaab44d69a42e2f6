"""A baseline of sounds: how loud each band is on average, and how much that varies."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.training_side import Baseline, Readable, Source

_NAME = "audio"


def _sound_source(readable: Readable) -> Source:
    """Of each study's first sound, as the model reads it."""
    cached = readable.cached
    firsts = [next(iter(study.parts[_NAME]), None) for study in cached.studies]
    bands = next((len(cached.array(_NAME, first)) for first in firsts if first is not None), 1)
    features = np.zeros((len(firsts), 2 * bands), np.float32)
    for row, first in enumerate(firsts):
        if first is not None:
            spectra = cached.array(_NAME, first)
            features[row] = np.concatenate([np.nanmean(spectra, axis=1), np.nanstd(spectra, axis=1)])

    def classifier() -> Pipeline:
        return make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=2000))

    return Source(features, np.array([first is not None for first in firsts], bool), classifier)


BASELINE = Baseline("sound_spectra", _sound_source, averaged=True)
