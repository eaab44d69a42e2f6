"""Where the evidence of a phantom's images lies, and the images without one piece of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import TrainingError
from consilium.explain.case import Case
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.saliency_maps import image_saliency
from training.cohorts.phantom.image.lesions import IMAGE_CHANNELS
from training.cohorts.phantom.image.masks import load_masks
from training.cohorts.phantom.image.radiograph import BITS
from training.evaluation.faithfulness.phantom_truth import ModalityTruth, Remade, neutral
from training.evaluation.faithfulness.truth import Mask, Twin

_VISIBLE = 0.02
"""A pixel changed where it did by more than this share of the display range."""
_ROUNDING = 1 / 1000
"""Pixels of a square may differ from the cohort's own by this share of the full range."""
_WHITE = 65535


class ImageTruth(ModalityTruth):
    """Evidence shows in the pixels of the first image."""

    name = "image"

    def view(self, case: Case, weights: npt.NDArray) -> npt.NDArray:
        part = case.prepared.parts[self.name]
        return np.asarray(image_saliency(weights, part.letterboxes)[0].values)

    def masks(self, study_id: str) -> Mapping[str, Mask]:
        return load_masks(self.root, study_id)

    def twins(self, remade: Remade) -> Iterator[Twin]:
        evidence = remade.drawn.evidence.parts[self.name]
        prepared, preprocessing = remade.case.prepared, remade.case.preprocessing
        first: Image = prepared.study.parts[self.name][0]
        own = remade.render(self.name, evidence).pixels
        convert = preprocessing.preparations[self.name].convert
        square = convert(_as_image(own, first))
        if np.abs(square.astype(float) - prepared.parts[self.name].arrays["images"][0]).max() > _ROUNDING * _WHITE:
            raise TrainingError("this version renders the phantom's images otherwise; write the cohort anew")
        for channel, finding in enumerate(IMAGE_CHANNELS):
            changed = evidence.copy()
            changed[channel] = neutral(self.name, finding, finding)
            pixels = remade.render(self.name, changed).pixels
            where = np.abs(pixels.astype(float) - own) > _VISIBLE * (2**BITS - 1)
            if where.any():
                squares = {self.name: [convert(_as_image(pixels, first))]}
                fall = remade.fall(self.name, changed[None], finding)
                yield Twin(self.name, finding, preprocessing.prepare(prepared.study, squares), fall, where)


def _as_image(pixels: npt.NDArray[np.uint16], like: Image) -> Image:
    """A rendered radiograph as ingest would read it."""
    shown = np.rint(pixels * (_WHITE / (2**BITS - 1))).astype(np.uint16)
    return replace(like, pixels=shown)
