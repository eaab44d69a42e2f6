"""Masks: where the evidence of each finding shows in a radiograph; truth, which no cohort is read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from training.cohorts.phantom.image.lesions import IMAGE_CHANNELS

MASKS_FOLDER = "truth/masks"


def write_masks(root: Path, study_id: str, masks: npt.NDArray[np.bool_]) -> None:
    """Store lesion masks, bool [C, H, W]."""
    np.savez_compressed(root / MASKS_FOLDER / f"{study_id}.npz", masks=_bits(masks))


def load_masks(root: Path, study_id: str, channels: Sequence[str] = IMAGE_CHANNELS) -> dict[str, npt.NDArray[np.bool_]]:
    """Lesion masks of one study by channel, which is a finding unless given, bool [H, W] in the pixels of its image.

    Raises
    ------
    InputError
        The study has no image, or is not in this cohort.
    """
    file = root / MASKS_FOLDER / f"{study_id}.npz"
    if not file.is_file():
        raise InputError("study", study_id, "must be a phantom study with an image")
    with np.load(file, allow_pickle=False) as stored:
        bits = stored["masks"]
    return {name: (bits >> k & 1).astype(bool) for k, name in enumerate(channels)}


def _bits(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Masks [C, H, W] as one bit field [H, W], channel k in bit k."""
    weights = (1 << np.arange(len(masks), dtype=np.uint8))[:, None, None]
    bits: npt.NDArray[np.uint8] = (masks * weights).sum(axis=0, dtype=np.uint8)
    return bits
