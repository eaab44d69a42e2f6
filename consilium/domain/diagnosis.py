"""Diagnosis and Explanation: what comes out.

Both are plain values without a model behind them: `to_json` gives what the command line, the service and the MLflow
artifacts show. Arrays stay out of the JSON; the report and the service render them as pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.findings import Finding


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, data: dict[str, float]) -> Estimate:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The probability from which a finding is called, and what that costs on the calibration split.

    Attributes
    ----------
    threshold : float
        A finding is called where its probability is at least this.
    target_sensitivity : float
        What the recipe asked for.
    sensitivity, specificity : Estimate
        On the calibration split at `threshold`.
    """

    threshold: float
    target_sensitivity: float
    sensitivity: Estimate
    specificity: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "target_sensitivity": self.target_sensitivity,
            "sensitivity": self.sensitivity.to_json(),
            "specificity": self.specificity.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> OperatingPoint:
        return cls(
            data["threshold"],
            data["target_sensitivity"],
            Estimate.from_json(data["sensitivity"]),
            Estimate.from_json(data["specificity"]),
        )


ABSENT, PRESENT = "absent", "present"
"""The two answers that a prediction set may hold."""


@dataclass(frozen=True, slots=True)
class FindingResult:
    """What the council says of one finding.

    Attributes
    ----------
    probability : float
        Calibrated, of the fused model, given the modalities that were present.
    call : bool
        `probability` reaches the operating point.
    opinions : dict
        Calibrated probability that each present modality gives alone.
    interval : (float, float)
        Of the probability (Venn-Abers): what it would be had this very study been in the calibration split, with the
        finding absent and with it present.
    prediction_set : tuple of str
        Which of `ABSENT` and `PRESENT` cannot be ruled out at the coverage that the model was calibrated for.
    refer : tuple of str
        Why a human must judge this finding; empty where the model may be heard on it.
    """

    finding: Finding
    probability: float
    call: bool
    operating_point: OperatingPoint
    opinions: dict[str, float]
    interval: tuple[float, float] = (0.0, 1.0)
    prediction_set: tuple[str, ...] = (ABSENT, PRESENT)
    refer: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "finding": self.finding.name,
            "display": self.finding.display,
            "code": self.finding.code,
            "probability": self.probability,
            "call": self.call,
            "operating_point": self.operating_point.to_json(),
            "opinions": dict(self.opinions),
            "interval": list(self.interval),
            "prediction_set": list(self.prediction_set),
            "refer": list(self.refer),
        }


@dataclass(frozen=True, slots=True)
class Novelty:
    """How unlike the training data one part of a study is.

    Attributes
    ----------
    part : str
        A modality, or ``fused``.
    score : float
        Higher is stranger; comparable between studies of one model and part only.
    p_value : float
        Share of ordinary studies that are at least as strange (conformal, so it is never 0).
    novel : bool
        `p_value` is below the rate that the recipe allows.
    """

    part: str
    score: float
    p_value: float
    novel: bool

    def to_json(self) -> dict[str, Any]:
        return {"part": self.part, "score": self.score, "p_value": self.p_value, "novel": self.novel}


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What the audit found of the cohort that the model learned from.

    Attributes
    ----------
    verdict : str
        ``sound``, ``suspect``, ``unusable``, or ``not audited``.
    reasons : tuple of str
        One sentence each; empty where it is sound.
    """

    verdict: str = "not audited"
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AuditVerdict:
        return cls(data["verdict"], tuple(data["reasons"]))


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answered. `manifest_digest` is the SHA-256 of the artifact's manifest."""

    name: str
    version: str
    manifest_digest: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "manifest_digest": self.manifest_digest}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The answer for one study.

    Attributes
    ----------
    exclusive : bool
        The findings exclude each other; their probabilities add up to 1.
    modalities : tuple of str
        What the model had to go by.
    input_digests : dict of str
        SHA-256 of every record that was sent, by position.
    warnings : tuple of str
        What the reader must know of the input: implausible value, unknown view, record outside the window, note cut
        off.
    novelty : tuple of Novelty
        For each modality that is present, and for the fused state.
    refer : tuple of str
        Why a human must judge this study as a whole; empty where the model may be heard, but for findings with a
        reason of their own.
    audit : AuditVerdict
        Of the cohort that the model learned from.
    """

    findings: tuple[FindingResult, ...]
    exclusive: bool
    modalities: tuple[str, ...]
    model: ModelIdentity
    input_digests: dict[str, str]
    warnings: tuple[str, ...] = ()
    study_id: str = ""
    novelty: tuple[Novelty, ...] = ()
    refer: tuple[str, ...] = ()
    audit: AuditVerdict = AuditVerdict()

    def __getitem__(self, name: str) -> FindingResult:
        return next(result for result in self.findings if result.finding.name == name)

    def to_json(self) -> dict[str, Any]:
        return {
            "findings": [result.to_json() for result in self.findings],
            "exclusive": self.exclusive,
            "modalities": list(self.modalities),
            "model": self.model.to_json(),
            "input_digests": dict(self.input_digests),
            "warnings": list(self.warnings),
            "novelty": [part.to_json() for part in self.novelty],
            "refer": list(self.refer),
            "audit": self.audit.to_json(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class ImageSaliency:
    """Where in an image the evidence lies.

    Attributes
    ----------
    image : int
        Position among the study's images.
    values : float32 [H, W]
        In the pixel grid of the original file, log-odds per feature-map cell: positive speaks for the finding, negative
        against it. NaN where the model did not look.
    cells : (int, int)
        Rows and columns of the feature map that was read.
    """

    image: int
    values: npt.NDArray[np.float32]
    cells: tuple[int, int]


@dataclass(frozen=True, slots=True)
class WordWeight:
    """What one word of a note spoke for, in log-odds. `start` and `end` count characters of that note's text."""

    note: int
    start: int
    end: int
    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A value beside its reference interval, both in the variable's own unit."""

    value: float
    low: float
    high: float
    unit: str
    log_scale: bool = False


@dataclass(frozen=True, slots=True)
class ObservationWeight:
    """What one observation spoke for, in log-odds.

    `variable` is a key of `consilium.domain.variables` or one of the cohort's own, ``age`` or ``sex``; `value` and
    `unit` are as given by the caller. `aspect` tells what of the variable was weighed: its last ``value``, the ``age``
    of that in hours, or its ``change`` per day.
    """

    variable: str
    display: str
    value: str
    unit: str
    weight: float
    aspect: str = "value"
    reference: Reference | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FindingExplanation:
    """What spoke for and against one finding.

    Attributes
    ----------
    log_odds : float
        Calibrated log-odds of the answer.
    prior_log_odds : float
        Calibrated log-odds before any modality was heard.
    modalities : dict
        Exact Shapley value per present modality; with `prior_log_odds` they add up to `log_odds`.
    methods : dict of str
        Which method weighed each modality: ``{"image": "gradient_x_activation", ...}``.
    parts : dict of str to tuple
        Per explained modality of the study, its attributions, in the coordinates of what was sent.
    """

    finding: Finding
    log_odds: float
    prior_log_odds: float
    modalities: dict[str, float]
    methods: dict[str, str]
    parts: dict[str, tuple[Any, ...]]

    def to_json(self) -> dict[str, Any]:
        """Everything but the saliency arrays, of which only the place of the strongest cell is given."""
        return {
            "finding": self.finding.name,
            "log_odds": self.log_odds,
            "prior_log_odds": self.prior_log_odds,
            "modalities": dict(self.modalities),
            "images": [_peak(saliency) for saliency in self.parts.get("image", ())],
            "words": [asdict(word) for word in self.parts.get("text", ())],
            "observations": [asdict(observation) for observation in self.parts.get("observations", ())],
            "methods": dict(self.methods),
        }


def _peak(saliency: ImageSaliency) -> dict[str, Any]:
    """Where the finding has most support; None where nothing of the image was looked at."""
    peak = None
    if np.isfinite(saliency.values).any():
        row, column = np.unravel_index(int(np.nanargmax(saliency.values)), saliency.values.shape)
        peak = {"row": int(row), "column": int(column), "value": float(saliency.values[row, column])}
    return {"image": saliency.image, "cells": list(saliency.cells), "peak": peak}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A study of the training data that the model sees as like this one.

    Attributes
    ----------
    pseudonym : str
        Names the study to those who hold the cohort, and to nobody else.
    similarity : float
        Cosine of the fused states, -1 ... 1.
    labels : dict of str to bool or None
        Each finding; None: not known.
    modalities : tuple of str
        What that study had.
    """

    pseudonym: str
    similarity: float
    labels: dict[str, bool | None]
    modalities: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "pseudonym": self.pseudonym,
            "similarity": self.similarity,
            "labels": dict(self.labels),
            "modalities": list(self.modalities),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A diagnosis and what spoke for it, per finding asked for, with the nearest training cases."""

    diagnosis: Diagnosis
    findings: tuple[FindingExplanation, ...]
    neighbours: tuple[Neighbour, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return self.diagnosis.to_json() | {
            "explanations": [finding.to_json() for finding in self.findings],
            "neighbours": [neighbour.to_json() for neighbour in self.neighbours],
        }
