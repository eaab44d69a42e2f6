"""The wire types of the audit log: the entry of an answer, and what was confirmed of it afterwards."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue

from consilium.api.schemas.requests import FindingName
from consilium.domain.diagnosis import GradeResult, ModelIdentity, SurvivalResult
from consilium.domain.wire import Share, Wire
from consilium.formats.sent_records import Moment

FindingState = Literal["present", "absent", "unknown"]
OutcomeSource = Literal["feedback", "import"]

FEEDBACK_EXAMPLE: dict[str, JsonValue] = {
    "result_id": "7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1",
    "findings": {"pneumonia": "present", "effusion": "unknown"},
    "influenced": True,
}


class FeedbackRequest(Wire):
    """The body of `POST /v1/feedback`: what was confirmed after an answer. No free text."""

    result_id: UUID = Field(description="Of the answer.")
    findings: Annotated[dict[FindingName, FindingState], Field(min_length=1)] = Field(
        description="What each finding turned out to be; `unknown` where that was not settled."
    )
    influenced: bool | None = Field(
        default=None,
        description="Whoever confirmed it had seen the model's answer before; null or left out: that is not known. A "
        "judgement so made says less of the model.",
    )
    time: Moment | None = Field(
        default=None,
        description="When it became known; now unless given. Without an offset from UTC, by the site's clock.",
    )

    model_config = ConfigDict(json_schema_extra={"examples": [FEEDBACK_EXAMPLE]})


class FeedbackAnswer(Wire):
    """The answer of `POST /v1/feedback`."""

    feedback_id: UUID
    result_id: UUID
    time: datetime = Field(description="When it became known (UTC): as it was given, or when it was recorded.")


class RecordedFinding(Wire):
    """What was answered of one finding."""

    finding: str
    probability: Share
    interval: tuple[Share, Share]
    call: bool
    threshold: float = Field(description="Of the operating point, at the time.")
    prediction_set: tuple[Literal["absent", "present"], ...]


class RecordedFeedback(Wire):
    """What somebody confirmed of one finding, and when."""

    feedback_id: UUID
    finding: str
    state: FindingState
    time: datetime = Field(description="When it became known (UTC).")
    caller: str
    source: OutcomeSource = Field(
        default="feedback", description="`feedback` of a caller, or `import` by `consilium outcomes import`."
    )
    influenced: bool | None = Field(
        default=None, description="Whether whoever confirmed it had seen the answer; null: not known."
    )


class Pseudonyms(Wire):
    """HMAC-SHA256 of what identifies patient, study, order and the caller's reference, by the key `key_id`."""

    key_id: str
    patient: str | None = Field(description="Of the DICOM Patient ID.")
    study: str | None = Field(description="Of the DICOM Study Instance UID.")
    accession: str | None = Field(
        default=None, description="Of the DICOM Accession Number, with its issuer where that is named."
    )
    caller_reference: str | None


class ResultAnswer(Wire):
    """The answer of `GET /v1/results/{result_id}`: what was recorded of an answer before it was sent."""

    result_id: UUID
    time: datetime = Field(description="When it was made (UTC).")
    endpoint: str = Field(description="What was asked for: `diagnose`, `explain`, `draft`, `similar` or `search`.")
    role: str = Field(description="Of the model that answered: `serving`, or that of one whose answers nobody gets.")
    request_id: str = Field(description="A keyed digest where the caller gave the request a name of its own.")
    caller: str
    model: ModelIdentity
    pseudonyms: Pseudonyms
    input_digests: dict[str, str] = Field(
        description="`sha256:…` of every image received; `hmac-sha256:KEY_ID:…` of the SHA-256 of everything else."
    )
    findings: tuple[RecordedFinding, ...]
    grades: tuple[GradeResult, ...] = ()
    survival: tuple[SurvivalResult, ...] = ()
    refer_reasons: tuple[str, ...]
    latencies_ms: dict[str, float] = Field(description="Of each stage before the answer was recorded.")
    feedback: tuple[RecordedFeedback, ...] = Field(description="Oldest first.")

    @property
    def confirmed(self) -> dict[str, bool]:
        """Whether each finding of which that is known was there, by what was confirmed last."""
        states = {line.finding: line.state for line in self.feedback}
        return {finding: state == "present" for finding, state in states.items() if state != "unknown"}

    @property
    def wrong_calls(self) -> tuple[str, ...]:
        """The findings whose call what was confirmed contradicts."""
        truth = self.confirmed
        return tuple(one.finding for one in self.findings if truth.get(one.finding, one.call) != one.call)
