"""Referral: what a human must judge instead of the model. One rule, in the recipe's section ``refer``.

A finding is referred where its prediction set is not a single answer. A study is referred as a whole where it is
novel, lacks a modality that is required, has an image that shows nothing, is of another patient or of something else
than the model was trained on by what its file says, where the audit says so, or where no finding
is left that the model can tell. Each part gives its reasons; what has none may be answered for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.configuration.recipe import ReferRecipe
from consilium.domain.diagnosis import AuditVerdict, FindingResult, OutOfDistributionScore
from consilium.modalities.image.letterbox import Letterbox
from consilium.network.diagnosis_model import FUSED
from consilium.preprocessing.batch import Prepared

PARTS = ("both", "novelty", "required", "image_quality", "contradictions", "unknown_origin", "audit")
"""The parts of the rule, as the recipe calls them."""

FLAT = 0.95
"""An image is blank where one of its 256 grey levels holds this share of its pixels."""
WHITE, BLACK = 0.25, 0.75
"""An image is saturated where this share of its pixels is purely white, or purely black.

Of 247 public radiographs the most had 3 % white, 46 % black and 49 % of one grey level.
"""
LEAST_SCALE = 0.5
"""An image is too small where its longer side has less than this share of the pixels of the model's square."""

_SUSPICIOUS = ("suspect", "unusable")
_NOTHING_TOLD = "There is no finding that the model can tell."
_RECORDS = {"image": "image", "text": "note", "observations": "observation"}
_PARTS_OF_A_STUDY: dict[str, str] = {
    "image": "The image is",
    "text": "The text of the notes is",
    "observations": "What was observed is",
    FUSED: "The study as a whole is",
}


@dataclass(frozen=True, slots=True, eq=False)
class Grounds:
    """Everything that the rule looks at, of one study.

    Attributes
    ----------
    item : Prepared
    modalities : tuple of str
        What the model had to go by.
    findings : tuple of FindingResult
    novelty : tuple of OutOfDistributionScore
    audit : AuditVerdict
    """

    item: Prepared
    modalities: tuple[str, ...]
    findings: tuple[FindingResult, ...]
    novelty: tuple[OutOfDistributionScore, ...]
    audit: AuditVerdict


def refer_finding(rule: ReferRecipe, prediction_set: Sequence[str], coverage: float) -> tuple[str, ...]:
    """Why a human must judge this finding; empty where the model may be heard on it.

    Parameters
    ----------
    prediction_set : sequence of str
        Of `ABSENT` and `PRESENT`.
    coverage : float
        At which it holds.
    """
    if not rule.both or len(prediction_set) == 1:
        return ()
    if prediction_set:
        return (f"The model cannot tell: neither answer can be ruled out at {coverage:.0%} coverage.",)
    return (f"The study is unlike either: neither answer fits at {coverage:.0%} coverage.",)


def refer(rule: ReferRecipe, grounds: Grounds) -> tuple[str, ...]:
    """Why a human must judge this study, a sentence each; empty where the model may be heard on some finding."""
    return tuple(reason for part in refer_by_part(rule, grounds).values() for reason in part)


def refer_by_part(rule: ReferRecipe, grounds: Grounds) -> dict[str, tuple[str, ...]]:
    """The same by part of the rule, one of `PARTS`; a part that the recipe switches off has no reasons."""
    return {
        "both": (_NOTHING_TOLD,) if all(result.refer_reasons for result in grounds.findings) else (),
        "novelty": _novel(grounds.novelty) if rule.novelty is not None else (),
        "required": tuple(
            f"There is no {_RECORDS[modality]}, and this model must not answer without."
            for modality in rule.required
            if modality not in grounds.modalities
        ),
        "image_quality": _image_quality(grounds.item) if rule.image_quality else (),
        "contradictions": _sentences(grounds.item.study.contradictions) if rule.contradictions else (),
        "unknown_origin": _unknown_origin(grounds.item) if rule.unknown_origin else (),
        "audit": _audited(grounds.audit) if rule.audit else (),
    }


def _image_quality(item: Prepared) -> tuple[str, ...]:
    part = item.parts.get("image")
    return () if part is None else image_faults(part.arrays["images"], part.letterboxes)


def _unknown_origin(item: Prepared) -> tuple[str, ...]:
    part = item.parts.get("image")
    return () if part is None else _sentences(part.unknown_origin)


def image_faults(squares: Iterable[npt.NDArray[np.uint16]], boxes: Sequence[Letterbox]) -> tuple[str, ...]:
    """What is wrong with the images of a study, judged on the model's squares [S, S] without their margins."""
    faults = []
    for number, (square, box) in enumerate(zip(squares, boxes, strict=True), start=1):
        fault = _fault(square, box)
        if fault:
            faults.append(f"{'The image' if len(boxes) == 1 else f'Image {number}'} {fault}.")
    return tuple(faults)


def _fault(square: npt.NDArray[np.uint16], box: Letterbox) -> str:
    (top, left), (height, width) = box.offset, box.inner
    levels = np.bincount((square[top : top + height, left : left + width] >> 8).ravel(), minlength=256)
    shares = levels / levels.sum()
    if shares.max() >= FLAT:
        return "is blank"
    if shares[-1] >= WHITE or shares[0] >= BLACK:
        return f"is saturated: {'white' if shares[-1] >= WHITE else 'black'} where it should show something"
    if max(box.rows, box.columns) < LEAST_SCALE * box.side:
        return f"is too small: {box.rows} by {box.columns} pixels, the model looks at {box.side}"
    return ""


def _novel(novelty: Sequence[OutOfDistributionScore]) -> tuple[str, ...]:
    return tuple(
        f"{_PARTS_OF_A_STUDY[part.part]} unlike the training data (p = {part.p_value:.2g})."
        for part in novelty
        if part.out_of_distribution
    )


def _sentences(remarks: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{remark}." for remark in remarks)


def _audited(audit: AuditVerdict) -> tuple[str, ...]:
    if audit.verdict not in _SUSPICIOUS:
        return ()
    return (f"The audit calls the cohort that this model learned from {audit.verdict}.",)
