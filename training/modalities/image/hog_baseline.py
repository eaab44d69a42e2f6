"""A baseline of images: the histogram of oriented gradients of a small grey one."""

from __future__ import annotations

import numpy as np
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.modalities.image.thumbnails import thumbnails
from training.training_side import Baseline, Readable, Source

_HOG_CELLS = 8


def _image_source(readable: Readable) -> Source:
    images, has_image = thumbnails(readable.cached)
    cell = images.shape[1] // _HOG_CELLS
    size = cell * _HOG_CELLS
    length = 8 * 4 * (_HOG_CELLS - 1) ** 2
    features = np.zeros((len(images), length), np.float32)
    for row in np.flatnonzero(has_image):
        features[row] = hog(
            images[row, :size, :size], orientations=8, pixels_per_cell=(cell, cell), cells_per_block=(2, 2)
        )

    def classifier() -> Pipeline:
        return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))

    return Source(features, has_image, classifier)


BASELINE = Baseline("image_hog", _image_source, averaged=True)
