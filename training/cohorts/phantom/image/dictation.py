"""Dictation: the report, findings and impression, dictated after the image was read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.image.lesions import IMAGE_CHANNELS
from training.cohorts.phantom.state import FINDINGS
from training.cohorts.phantom.tables import table


def render_report(image: npt.ArrayLike, probabilities: npt.ArrayLike, rng: np.random.Generator) -> tuple[str, str]:
    """Findings and impression, as dictated after the image was read: they give the answer away.

    Parameters
    ----------
    image : float [len(IMAGE_CHANNELS)]
        Evidence of the image: what the findings describe.
    probabilities : float [len(FINDINGS)]
        P(finding | the whole record): what the impression concludes.
    """
    stored = table("report")
    levels = np.searchsorted(stored["evidence_thresholds"], np.asarray(image), side="left")
    sentences = []
    for channel, level in zip(IMAGE_CHANNELS, levels, strict=True):
        bank = stored["findings"][channel][int(level)]
        sentences.append(bank[int(rng.integers(len(bank)))])
    order = rng.permutation(len(sentences))
    conclusions = [
        stored["impression"][int(level)].format(finding=name.replace("_", " "))
        for name, level in zip(
            FINDINGS, np.searchsorted(stored["impression_thresholds"], np.asarray(probabilities)), strict=True
        )
    ]
    conclusions = [conclusions[k] for k in rng.permutation(len(conclusions))]
    return " ".join(sentences[k] for k in order), " ".join(text[0].upper() + text[1:] for text in conclusions)
