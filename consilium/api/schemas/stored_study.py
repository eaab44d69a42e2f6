"""The wire types of `/v1/studies`: studies that are stored for readers, and what these decide.

What is sent is the body of `POST /v1/explain`. How the records are shown, the modalities declare.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, create_model

from consilium.api.schemas.answers import ProblemAnswer
from consilium.api.schemas.audit_entry import FindingState
from consilium.api.schemas.requests import FindingName
from consilium.domain.study import Sex
from consilium.domain.wire import Wire
from consilium.modalities.presentation import file_viewings, record_viewings

StudyState = Literal["queued", "running", "answered", "stored", "refused"]
ReadKind = Literal["first", "revised"]
AnswerPolicy = Literal["after_first_read", "on_demand", "at_once"]
FlagReason = Literal["model_error", "disagreement", "wrong_patient", "image_quality"]
StudySort = Literal["created", "studied", "priority"]
StudyFilter = Literal["waiting", "read", "referred", "refused"]

MAX_SEARCH = 200
MAX_LINES = 200
"""Studies of one page of the worklist."""

SEARCH_STUDIES_EXAMPLE: dict[str, JsonValue] = {"search": "roe", "state": "waiting"}
READ_EXAMPLE: dict[str, JsonValue] = {"kind": "first", "findings": {"pneumonia": "present", "effusion": "absent"}}
FLAG_EXAMPLE: dict[str, JsonValue] = {"reason": "disagreement", "finding": "pneumonia"}


class StudyAnswer(Wire):
    """The answer of `POST /v1/studies`."""

    study_id: UUID
    state: StudyState = Field(
        description="`answered`: it has an answer. `stored`: it is shown beside another study and gets none. "
        "`refused`: it never gets one, `problem` says why."
    )
    created: datetime = Field(description="UTC.")
    expires: datetime = Field(description="When the study is deleted.")
    problem: ProblemAnswer | None = None


class PatientView(Wire):
    """Who the study is about, for those who may read it."""

    label: str | None = Field(description="Name and id as the files have them; null where none has one.")
    age: float | None = Field(description="Years.")
    sex: Sex


class StudySummary(StudyAnswer):
    """A line of the worklist."""

    studied: datetime | None = Field(description="When the study was made: the reference time, or its first image's.")
    patient: PatientView | None = Field(description="Null until the study was decoded.")
    modalities: tuple[str, ...] = Field(description="Of its records.")
    image_count: int
    referred: bool = Field(
        description="A physician must assess it without the model, or a finding of it. Of findings only where the "
        "caller may see the answer."
    )
    refer_reasons: tuple[str, ...] = Field(description="Likewise.")
    read: ReadKind | None = Field(description="The latest read of anybody; null: nobody has read it.")
    called: tuple[str, ...] | None = Field(
        description="Names of the findings that were called, as readers know them; null until the caller may see it."
    )
    priority: float | None = Field(description="Null unless the service is set to give one, and until it is answered.")


class StudyList(Wire):
    """The answer of `GET /v1/studies`."""

    studies: tuple[StudySummary, ...]
    next: str | None = Field(description="What `after` has to be for the next ones; null: there are none.")
    total: int = Field(description="Studies that the filter lets through.")
    searched: int | None = Field(
        default=None, description="Of a search: how many of the latest studies were looked at; null: all."
    )


class StudySearch(Wire):
    """The body of `POST /v1/studies/search`: what is searched for stands in no address, as it may name a patient."""

    search: Annotated[str, StringConstraints(max_length=MAX_SEARCH)] = Field(
        default="",
        description="A part of the patient's label or of the study's id, in any case, among the latest studies; or "
        "one of these ids whole, among all.",
    )
    patient_id: Annotated[str, StringConstraints(max_length=MAX_SEARCH)] = Field(
        default="", description="Only studies of the patient with this DICOM Patient ID, whoever issued it."
    )
    beside: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = Field(
        default="",
        description="Instead of studies, the priors that this caller handed over to be shown with the study of which "
        "this is the SHA-256 of the Study Instance UID, in lower-case hex.",
    )
    result_id: UUID | None = Field(
        default=None, description="Only what this caller handed over and this is the answer to."
    )
    state: StudyFilter | None = None
    sort: StudySort = "created"
    after: UUID | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=50, ge=1, le=MAX_LINES, strict=True)

    model_config = ConfigDict(json_schema_extra={"examples": [SEARCH_STUDIES_EXAMPLE]})


class ReadRequest(Wire):
    """The body of `POST /v1/studies/{study_id}/reads`: what a reader decided. No free text."""

    kind: ReadKind = Field(
        description="`first`: before the reader saw the model's answer, where the service is set so. `revised`: later."
    )
    findings: Annotated[dict[FindingName, FindingState], Field(min_length=1)]

    model_config = ConfigDict(json_schema_extra={"examples": [READ_EXAMPLE]})


class ReadAnswer(Wire):
    """A read as it was recorded. Reads are never changed: a later one stands beside an earlier one."""

    read_id: UUID
    study_id: UUID
    kind: ReadKind
    findings: dict[str, FindingState]
    influenced: bool = Field(description="The reader had seen the model's answer before.")
    time: datetime = Field(description="UTC.")
    caller: str = Field(description="Who read it.")
    result_id: UUID | None = Field(description="The answer that it is about; null while there is none.")


class FlagRequest(Wire):
    """The body of `POST /v1/studies/{study_id}/flags`."""

    reason: FlagReason
    finding: FindingName | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [FLAG_EXAMPLE]})


class FlagAnswer(Wire):
    """A flag as it was recorded."""

    flag_id: UUID
    study_id: UUID
    reason: FlagReason
    finding: str | None
    time: datetime
    caller: str


class ViewAnswer(Wire):
    """One view of a study: who saw what of it, and when."""

    study_id: UUID
    what: str = Field(description="`images[0]`, `answer`, `detail`.")
    time: datetime
    caller: str


class ReadableFinding(Wire):
    """A finding that a read may name."""

    name: str
    display: str


class ReadingState(Wire):
    """What the caller may see of the answer, and what was read."""

    policy: AnswerPolicy = Field(description="When readers see the answer; a setting of the service.")
    may_see_answer: bool = Field(description="`on_demand`: asking for the answer reveals it, which is recorded.")
    revealed: datetime | None = Field(description="When the caller first saw the answer.")
    findings: tuple[ReadableFinding, ...] = Field(description="What a read may name: those of the answer.")
    first_read: ReadAnswer | None = Field(description="The caller's own, the latest.")
    revised_read: ReadAnswer | None
    others: tuple[ReadAnswer, ...] = Field(description="Reads of others; empty until the caller may see the answer.")
    flags: tuple[FlagAnswer, ...]


class PriorStudy(Wire):
    """An earlier study of the same patient, of the same reading group."""

    study_id: UUID
    studied: datetime | None
    image_count: int


class StudyDetailBase(StudySummary):
    """The answer of `GET /v1/studies/{study_id}`, the records aside."""

    warnings: tuple[str, ...] = Field(description="What is doubtful about the records.")
    left_out: tuple[str, ...] = Field(description="What of the records is not read by the model, and why.")
    priors: tuple[PriorStudy, ...] = Field(description="Latest first.")
    superseded_by: UUID | None = Field(
        default=None,
        description="The study with the latest answer to the same DICOM study, where the same caller has handed that "
        "over again for the same readers since.",
    )
    reading: ReadingState


def _views() -> dict[str, Any]:
    declared = {**file_viewings(), **record_viewings()}
    described = "As they are shown; empty until the study was decoded."
    return {
        name: (tuple[one.wire, ...], Field(default=(), description=described))  # type: ignore[name-defined]
        for name, one in declared.items()
    }


if TYPE_CHECKING:

    class StudyDetail(StudyDetailBase):
        """The answer of `GET /v1/studies/{study_id}`."""

else:
    StudyDetail = create_model(
        "StudyDetail", __base__=StudyDetailBase, __doc__="The answer of `GET /v1/studies/{study_id}`.", **_views()
    )
