"""Diagnosis and Explanation: what comes out.

Each field is declared here once: the same classes are filled by the model, sent by the service and read by its client.
What goes over the wire is described by the docstrings below the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import PrivateAttr

from consilium.domain.wire import Share, Wire, WireValue


@dataclass(frozen=True, slots=True)
class Estimate(WireValue):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OperatingPoint(WireValue):
    """The probability from which a finding is called, and what that costs on the calibration split."""

    threshold: float
    """A finding is called where its probability is at least this."""
    target_sensitivity: float
    """What the recipe asked for."""
    sensitivity: Estimate
    """On the calibration split, at `threshold`."""
    specificity: Estimate
    """On the calibration split, at `threshold`."""


ABSENT: Literal["absent"] = "absent"
PRESENT: Literal["present"] = "present"
"""The two answers that a prediction set may hold."""
Answer = Literal["absent", "present"]


@dataclass(frozen=True, slots=True)
class FindingResult(WireValue):
    """The answer for one finding."""

    finding: str
    """Its name."""
    display: str
    code: str | None
    """SNOMED CT concept, where there is one."""
    probability: Share
    """Calibrated, of all modalities that are present."""
    call: bool
    """The probability reaches the operating point."""
    operating_point: OperatingPoint
    unimodal_probabilities: dict[str, Share]
    """Calibrated probability from each present modality alone."""
    interval: tuple[Share, Share]
    """Of the probability (Venn-Abers): what it would be were this study in the calibration split, with the finding
    absent and with it present."""
    prediction_set: tuple[Answer, ...]
    """What cannot be ruled out at the coverage that the model was calibrated for. Both: the answer is undetermined.
    None: neither answer fits."""
    refer_reasons: tuple[str, ...]
    """Why a physician must assess this finding without the model; empty: there is no reason to refer it."""


@dataclass(frozen=True, slots=True)
class GradeProbability(WireValue):
    """How likely one grade is."""

    grade: str
    probability: Share


@dataclass(frozen=True, slots=True)
class GradeResult(WireValue):
    """The answer for one ordered target: its grades from the least."""

    target: str
    """Its name."""
    display: str
    grade: str
    """The median: the least grade that is, with all below it, at least as likely as not."""
    expected: float
    """Mean position of the grade, the least being 0."""
    probabilities: tuple[GradeProbability, ...]
    """Calibrated, of all modalities that are present; they add up to 1."""


@dataclass(frozen=True, slots=True)
class SurvivalProbability(WireValue):
    """How likely it is that the event has not happened by a time."""

    time: float
    probability: Share


@dataclass(frozen=True, slots=True)
class SurvivalResult(WireValue):
    """The answer for one time to an event, counted from the study."""

    target: str
    """Its name."""
    display: str
    unit: str
    """Of the times."""
    without_event: tuple[SurvivalProbability, ...]
    """At each horizon of the model, calibrated, of all modalities that are present; never rising."""


@dataclass(frozen=True, slots=True)
class OutOfDistributionScore(WireValue):
    """How far one part of the study is from the training data."""

    part: str
    """A modality, or `fused`: all of them together."""
    score: float
    """Higher is farther; comparable between studies of one model and part only."""
    p_value: Share
    """Share of calibration studies that are at least as far from the training data (conformal, so never 0)."""
    out_of_distribution: bool
    """`p_value` is below the rate that the model's recipe allows."""


Verdict = Literal["sound", "suspect", "unusable", "not audited"]


@dataclass(frozen=True, slots=True)
class AuditVerdict(WireValue):
    """What the audit found in the cohort that the model was trained on."""

    verdict: Verdict = "not audited"
    reasons: tuple[str, ...] = ()
    """One sentence each; empty where the cohort is sound."""


@dataclass(frozen=True, slots=True)
class ModelIdentity(WireValue):
    """Which model answered."""

    name: str
    version: str
    manifest_digest: str
    """SHA-256 of the artifact's manifest."""


class Diagnosis(Wire):
    """The answer for one study."""

    findings: tuple[FindingResult, ...]
    exclusive: bool
    """The findings exclude each other; their probabilities add up to 1."""
    modalities: tuple[str, ...]
    """What the answer is based on: the modalities that the model reads and the study has."""
    absent: tuple[str, ...]
    """The modalities that the model reads and the study lacks."""
    model: ModelIdentity
    input_digests: dict[str, str]
    """SHA-256 of every record received, by position."""
    warnings: tuple[str, ...]
    """What the reader must know of the input: implausible value, unknown view, record outside the window, note cut
    off."""
    out_of_distribution: tuple[OutOfDistributionScore, ...]
    """For each modality that is present, and for all together; empty where the model does not measure it."""
    refer_reasons: tuple[str, ...]
    """Why a physician must assess this study without the model; empty: there is no reason to refer it, apart from
    findings with reasons of their own."""
    audit: AuditVerdict
    """Of the cohort that the model was trained on."""
    grades: tuple[GradeResult, ...] = ()
    """Ordered targets that the model answers beside the findings."""
    survival: tuple[SurvivalResult, ...] = ()
    """Times to an event that the model answers beside the findings."""
    _projections: dict[str, tuple[float, ...]] = PrivateAttr(default_factory=dict)

    def with_projections(self, projections: Mapping[str, tuple[float, ...]]) -> Self:
        """The same answer with its `projections`."""
        found = self.model_copy()
        found._projections = dict(projections)
        return found

    @property
    def projections(self) -> Mapping[str, tuple[float, ...]]:
        """By part, what monitoring keeps of the study's features; no part of the answer that is sent."""
        return self._projections

    def __getitem__(self, name: str) -> FindingResult:
        return next(result for result in self.findings if result.finding == name)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON's types."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, slots=True, eq=False)
class FindingExplanation(WireValue):
    """The evidence for and against one finding, in calibrated log-odds."""

    finding: str
    """Its name."""
    display: str
    log_odds: float
    """Of the answer."""
    prior_log_odds: float
    """Of a study of which nothing is known."""
    modalities: dict[str, float]
    """Exact Shapley value per present modality; with `prior_log_odds` they add up to `log_odds`."""
    methods: dict[str, str]
    """Which method weighed each modality: `{"image": "gradient_x_activation", ...}`."""
    parts: dict[str, tuple[Any, ...]]
    """Per explained modality, what in it is evidence, in the coordinates of what was sent."""


@dataclass(frozen=True, slots=True)
class Neighbour(WireValue):
    """A training study that the model represents much like this one."""

    pseudonym: str
    """Names the study to those who hold the cohort, and to nobody else."""
    similarity: float
    """Cosine of the fused states, -1 to 1."""
    labels: dict[str, bool | None]
    """Each finding of that study; null: not known."""
    modalities: tuple[str, ...]
    """What that study had."""


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A diagnosis, the evidence for each finding asked for, and the nearest training cases, most similar first."""

    diagnosis: Diagnosis
    findings: tuple[FindingExplanation, ...]
    neighbours: tuple[Neighbour, ...] = ()
