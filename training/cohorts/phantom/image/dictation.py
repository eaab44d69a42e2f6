"""Dictation: the report, findings and impression, dictated after the image was read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.state import FINDINGS
from training.cohorts.phantom.tables import table


def render_report(
    image: npt.ArrayLike, probabilities: npt.ArrayLike, rng: np.random.Generator, name: str = "report"
) -> tuple[str, str]:
    """Findings and impression, as dictated after the image was read: they give the answer away.

    Parameters
    ----------
    image : float [C]
        Evidence of the image: what the findings describe, channel by channel as the stored table `name` has them.
    probabilities : float [len(FINDINGS)]
        P(finding | the whole record): what the impression concludes.
    """
    stored = table(name)
    levels = evidence_grades(image, name)
    sentences = []
    for described, level in zip(stored["findings"].values(), levels, strict=True):
        bank = described[int(level)]
        sentences.append(bank[int(rng.integers(len(bank)))])
    order = rng.permutation(len(sentences))
    conclusions = [
        stored["impression"][int(level)].format(finding=finding.replace("_", " "))
        for finding, level in zip(FINDINGS, impression_levels(probabilities, name), strict=True)
    ]
    conclusions = [conclusions[k] for k in rng.permutation(len(conclusions))]
    return " ".join(sentences[k] for k in order), " ".join(text[0].upper() + text[1:] for text in conclusions)


def evidence_grades(image: npt.ArrayLike, name: str = "report") -> npt.NDArray[np.int64]:
    """The row of findings of the stored table `name` that describes each channel's evidence, int64 of its shape."""
    return np.searchsorted(table(name)["evidence_thresholds"], np.asarray(image), side="left")


def impression_levels(probabilities: npt.ArrayLike, name: str = "report") -> npt.NDArray[np.int64]:
    """The row of impressions that concludes from each probability, int64 of their shape."""
    return np.searchsorted(table(name)["impression_thresholds"], np.asarray(probabilities))


def site_prompts(name: str = "report") -> dict[str, dict[str, list[str]]]:
    """Of each finding that reports describe, the sentences for its being there and for its not being there."""
    stored = table(name)["findings"]
    return {
        finding: {"present": [*stored[finding][-2], *stored[finding][-1]], "absent": list(stored[finding][0])}
        for finding in FINDINGS
        if finding in stored
    }
