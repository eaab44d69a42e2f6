"""The wire types of `/v1/jobs`: studies that are handed over, answered while nobody waits, and fetched.

What is handed over is a worklist's body (`worklist.py`), and what is fetched are its lines.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from consilium.api.schemas.answers import ExplanationAnswer
from consilium.api.schemas.worklist import Position
from consilium.domain.wire import Wire

JobKind = Literal["diagnose", "explain"]
MAX_GROUP = 200
"""Characters of a reading group's name."""
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class JobAnswer(Wire):
    """The answer of `POST /v1/jobs`, and of `GET` and `DELETE /v1/jobs/{job_id}`."""

    job_id: UUID
    kind: JobKind = Field(description="What is asked of each study.")
    state: JobState = Field(
        description="`done`: every study has its answer, or the problem that kept it from having one. `failed`: the "
        "service was ended too often amid it. Answers that were given stay in either case, and in a cancelled job."
    )
    studies: int
    answered: int
    refused: int = Field(description="Studies that have a problem instead of an answer.")
    submitted: datetime = Field(description="UTC.")
    ended: datetime | None = Field(default=None, description="Null while the job is under way.")
    expires: datetime = Field(description="When the job and its answers are deleted.")


class ExplanationLine(Wire):
    """A line of an `explain` job: one study's answer, that of `POST /v1/explain`."""

    study: Position
    answer: ExplanationAnswer
