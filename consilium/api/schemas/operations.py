"""The wire type of `GET /v1/operations`: figures for those who run the service, of nobody in particular."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from consilium.api.schemas.answers import DeploymentInformation
from consilium.domain.wire import Share, Wire


class VersionFigure(Wire):
    """Answers that one version of a model gave."""

    model: str
    version: str
    role: str = Field(description="`serving`, `canary` or `shadow`.")
    answers: int
    first: datetime
    last: datetime


class DayFigures(Wire):
    """The answers of one day, UTC, those of the shadow aside."""

    day: date
    answers: int
    referred: Share | None = Field(description="Null where monitoring kept nothing of them (`CONSILIUM_MONITORING`).")
    out_of_distribution: Share | None = Field(
        description="With a part of which less than 5 % of the calibration studies are as far from the training data."
    )


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


class OperationsAnswer(Wire):
    """The answer of `GET /v1/operations`, of the last 30 days."""

    deployment: DeploymentInformation
    queue: QueueFigures
    versions: tuple[VersionFigure, ...] = Field(description="Latest first.")
    days: tuple[DayFigures, ...] = Field(description="Earliest first; days without an answer are left out.")
    stages: tuple[StageFigure, ...] = Field(description="Of the latest answers.")
    agreement: tuple[AgreementFigure, ...]
    answers_looked_at: int = Field(description="The latest ones: of more the figures take too long.")
