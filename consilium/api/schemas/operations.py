"""The wire type of `GET /v1/operations`: figures for those who run the service, of nobody in particular."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from consilium.api.schemas.answers import DeploymentInformation
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.wire import Share, Wire


class VersionFigure(Wire):
    """Answers that one version of a model gave."""

    model: str
    version: str
    role: str = Field(description="`serving`, `canary` or `shadow`.")
    answers: int
    first: datetime
    last: datetime
    referred: Share | None = Field(default=None, description="Of the latest of these that monitoring knows.")
    out_of_distribution: Share | None = Field(default=None, description="Likewise.")
    compared: int | None = Field(
        default=None,
        description="Of a shadow: of its latest answers those beside which the serving or canary model's answer to the "
        "same records lies.",
    )
    agreeing: int | None = Field(default=None, description="Of these, as that one calls every finding.")


class RateFigures(Wire):
    """The answers of some time, those of the shadow aside."""

    answers: int
    referred: Share | None = Field(description="Null where monitoring kept nothing of them (`CONSILIUM_MONITORING`).")
    out_of_distribution: Share | None = Field(
        description="With a part of which less than 5 % of the calibration studies are as far from the training data."
    )
    refused: Share | None = Field(
        default=None,
        description="Of the stored studies that were sent in this time and are answered or refused, those refused; "
        "null where there is none. Studies that were deleted are not counted.",
    )
    median_ms: float | None = Field(default=None, description="Of an answer all stages together, milliseconds.")
    p95_ms: float | None = Field(default=None, description="Likewise.")


class DayFigures(RateFigures):
    """Those of one day, UTC."""

    day: date


class HourFigures(RateFigures):
    """Those of one hour."""

    hour: datetime = Field(description="When it begins, UTC.")


class StageFigure(Wire):
    """How long one stage of the answers took, milliseconds."""

    stage: str
    median: float
    p95: float


class AgreementFigure(Wire):
    """How reads agree with the answers, of one finding; of reads by who had not seen the answer."""

    finding: str
    reads: int = Field(description="That say present or absent.")
    agree: int = Field(description="Of these, as the answer called it.")


class QueueFigures(Wire):
    """What waits now."""

    diagnoses: int
    explanations: int
    studies: int = Field(description="Stored ones, those under way among them.")
    jobs: int = Field(description="Likewise.")


class DeploymentEvent(Wire):
    """A model was loaded, let go of without another in its place, or refused, by a process of the service."""

    time: datetime = Field(description="UTC.")
    role: str = Field(description="`serving`, `canary` or `shadow`.")
    event: Literal["loaded", "removed", "refused"]
    model: ModelIdentity
    reason: str | None = Field(description="Of a refusal, in a word: `findings`, `digest`, ...")
    detail: str | None = Field(description="Likewise, in a sentence.")


class CalibrationPoint(Wire):
    """Answers of about the same probability beside what was confirmed after them."""

    predicted: Share = Field(description="Mean probability.")
    observed: Share = Field(description="Share of the outcomes in which the finding was present.")
    observed_low: Share = Field(description="Of an interval of 95 % (Wilson).")
    observed_high: Share
    outcomes: int


class FindingCalibration(Wire):
    """The probabilities of one finding that the serving model gave here, beside what was confirmed."""

    finding: str
    outcomes: int = Field(
        description="Answers of which it was confirmed, by reads or feedback, whether the finding was present; without "
        "those by who had seen the answer before."
    )
    points: tuple[CalibrationPoint, ...] = Field(
        description="At most ten of equal mass, by rising probability; none of fewer than 20 outcomes."
    )


class ModelHistoryAnswer(Wire):
    """The answer of `GET /v1/model/history`: what the service itself recorded of its models."""

    events: tuple[DeploymentEvent, ...] = Field(description="The latest 50, latest first, of all processes.")
    calibration: tuple[FindingCalibration, ...] = Field(
        description="Of the model that serves. Outcomes are those that somebody confirmed, and may be a selection."
    )


class OperationsAnswer(Wire):
    """The answer of `GET /v1/operations`, of the last 30 days."""

    deployment: DeploymentInformation
    queue: QueueFigures
    versions: tuple[VersionFigure, ...] = Field(description="Latest first.")
    days: tuple[DayFigures, ...] = Field(description="Earliest first; days without anything are left out.")
    hours: tuple[HourFigures, ...] = Field(default=(), description="Of the last 48 hours, likewise.")
    stages: tuple[StageFigure, ...] = Field(description="Of the latest answers.")
    agreement: tuple[AgreementFigure, ...]
    answers_looked_at: int = Field(description="The latest ones: of more the figures take too long.")
