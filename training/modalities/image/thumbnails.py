"""One small grey image a study, for methods that need no more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from training.data.cached_cohort import CachedCohort

SIDE = 64


def thumbnails(cached: CachedCohort) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The first image of each study, float32 [N, 64, 64] in [0, 1] (0 where there is none), and who has one, [N]."""
    images = np.zeros((len(cached.studies), SIDE, SIDE), np.float32)
    records = [study.parts["image"] for study in cached.studies]
    has_image = np.array([len(own) > 0 for own in records])
    for row in np.flatnonzero(has_image):
        square = cached.array("image", records[row][0])
        small = Pillow.fromarray(square.astype(np.float32)).resize((SIDE, SIDE), Pillow.Resampling.BOX)
        images[row] = np.asarray(small) / np.iinfo(np.uint16).max
    return images, has_image
