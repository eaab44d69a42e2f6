"""The description of the routes of stored studies."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from consilium.api.schemas import (
    EXPLAIN_EXAMPLE,
    FLAG_EXAMPLE,
    MAX_LINES,
    READ_EXAMPLE,
    SEARCH_STUDIES_EXAMPLE,
    ExplainRequest,
    ExplanationAnswer,
    FlagAnswer,
    FlagRequest,
    ModelHistoryAnswer,
    OperationsAnswer,
    ReadAnswer,
    ReadRequest,
    StudyAnswer,
    StudyDetail,
    StudyFilter,
    StudyList,
    StudySearch,
    StudySort,
    ViewAnswer,
)
from service.app import openapi_examples as examples
from service.app import openapi_parts as parts
from service.app import study_examples

BODIES: tuple[type[BaseModel], ...] = (ReadRequest, FlagRequest, StudySearch)
LINES_SENT: tuple[type[BaseModel], ...] = (ReadAnswer, ViewAnswer)

_TAGS = ["reading"]
_OFF = "This service stores no studies: `CONSILIUM_STUDIES` is off."
_NO_STUDY = parts.problem(
    404, (f"This caller's reading group has no study of this id, or it has expired. Or: {_OFF}", "no-such-study")
)
_NOT_OFFERED = parts.problem(404, (_OFF, "not-found"))
_HIDDEN = parts.problem(
    409,
    ("The study has no answer yet, or this caller has to record a first read before it is shown.", "not-yet-readable"),
)
_STUDY_ID = {
    "name": "study_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "example": study_examples.STUDY["study_id"],
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Drawn by the caller for one study and sent again with every new attempt: the same body gets the "
    "same study; another body 422; 409 with `Retry-After` while the first attempt is being received.",
}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_FOR_WHOM = (
    _query("reading_group", "Whose readers see it, in place of the caller's first group.", type="string", minLength=1),
    _query(
        "beside",
        "Of a prior: SHA-256 of the Study Instance UID of the study that it is shown with, in lower-case hex. It is "
        "on no worklist and gets no answer.",
        type="string",
        pattern="^[0-9a-f]{64}$",
    ),
)
_AFTER = _query("after", "What the page before says that comes next.", type="string", format="uuid")
_OF_READERS: dict[int | str, Any] = {status: parts.problem(status) for status in (*parts.OF_AUTHENTICATION, 422, 503)}
_OF_A_STUDY = _OF_READERS | {404: _NO_STUDY}
_OF_WORDS = _OF_A_STUDY | {
    409: parts.problem(
        409, ("What the archive has is not the image that the model read, or is another patient's.", "other-pixels")
    ),
    502: parts.problem(502, ("The archive cannot be asked for this image.", "archive-unavailable")),
    504: parts.problem(504, ("The archive took too long to send this image.", "archive-timeout")),
}
_OF_A_BODY = [400, *parts.OF_AUTHENTICATION, 408, 413, 415, 422, 503]


def _created(model: type[BaseModel], example: dict[str, Any]) -> dict[int | str, Any]:
    found = parts.answers(model, example, _OF_A_BODY)
    return {201 if status == 200 else status: answer for status, answer in found.items()} | {404: _NO_STUDY}


SUBMIT: dict[str, Any] = {
    "summary": "A study stored for readers, and explained while nobody waits",
    "operation_id": "submit_study",
    "tags": _TAGS,
    "status_code": 202,
    "responses": {status: parts.problem(status) for status in (*_OF_A_BODY, 409)}
    | {
        404: _NOT_OFFERED,
        202: {
            "model": StudyAnswer,
            "description": "The study is on the disk, encrypted, and will be answered.",
            "content": {"application/json": {"example": study_examples.STUDY}},
            "headers": {"Location": {"description": "Relative to this path.", "schema": {"type": "string"}}},
        },
    },
    "openapi_extra": parts.multipart(ExplainRequest, EXPLAIN_EXAMPLE) | {"parameters": [_KEY, *_FOR_WHOM]},
}
WORKLIST: dict[str, Any] = {
    "summary": "The studies of the caller's reading groups, latest first",
    "operation_id": "studies",
    "tags": _TAGS,
    "responses": parts.answers(StudyList, study_examples.LIST, []) | _OF_READERS | {404: _NOT_OFFERED},
    "openapi_extra": {
        "parameters": [
            _query("state", "Only these.", type="string", enum=list(get_args(StudyFilter))),
            _query("sort", "Latest, or highest, first.", type="string", enum=list(get_args(StudySort))),
            _AFTER,
            _query("limit", "Most studies.", type="integer", minimum=1, maximum=MAX_LINES, default=50),
        ]
    },
}
SEARCH: dict[str, Any] = {
    "summary": "Studies whose patient's label or id holds a text, or of one patient",
    "operation_id": "search_studies",
    "tags": _TAGS,
    "responses": parts.answers(StudyList, study_examples.LIST, _OF_A_BODY) | {404: _NOT_OFFERED},
    "openapi_extra": parts.json_body(StudySearch, SEARCH_STUDIES_EXAMPLE),
}
DETAIL: dict[str, Any] = {
    "summary": "One study: its records as they are shown, what was read of it, earlier ones of the same patient",
    "operation_id": "study",
    "tags": _TAGS,
    "responses": parts.answers(StudyDetail, study_examples.DETAIL, []) | _OF_A_STUDY,
    "openapi_extra": {"parameters": [_STUDY_ID]},
}
DELETE: dict[str, Any] = {
    "summary": "Delete a study; its reads, flags and views stay, and the audit log's entry",
    "operation_id": "delete_study",
    "tags": _TAGS,
    "status_code": 204,
    "responses": _OF_A_STUDY | {204: {"description": "It is deleted."}},
    "openapi_extra": {"parameters": [_STUDY_ID]},
}
ANSWER: dict[str, Any] = {
    "summary": "The answer, with maps as cells. That the caller has seen it is recorded",
    "operation_id": "study_answer",
    "tags": _TAGS,
    "responses": parts.answers(ExplanationAnswer, examples.EXPLANATION, []) | _OF_A_STUDY | {409: _HIDDEN},
    "openapi_extra": {"parameters": [_STUDY_ID]},
}
ADD_READ: dict[str, Any] = {
    "summary": "Record what a reader decided; it is also kept as feedback about the answer",
    "operation_id": "add_read",
    "tags": _TAGS,
    "status_code": 201,
    "responses": _created(ReadAnswer, study_examples.READ),
    "openapi_extra": parts.json_body(ReadRequest, READ_EXAMPLE) | {"parameters": [_STUDY_ID]},
}
ADD_FLAG: dict[str, Any] = {
    "summary": "Record that a study is to be looked at again",
    "operation_id": "add_flag",
    "tags": _TAGS,
    "status_code": 201,
    "responses": _created(FlagAnswer, study_examples.FLAG),
    "openapi_extra": parts.json_body(FlagRequest, FLAG_EXAMPLE) | {"parameters": [_STUDY_ID]},
}
READS: dict[str, Any] = {
    "summary": "The reads of all readers, oldest first, a line each",
    "operation_id": "reads",
    "tags": _TAGS,
    "responses": _OF_READERS
    | {404: _NOT_OFFERED, 200: parts.lines("A line for each read", ReadAnswer, example=[study_examples.READ])},
    "openapi_extra": {
        "parameters": [
            _query("after", "The read_id of the last line of the page before.", type="string", format="uuid"),
            _query("limit", "Most lines.", type="integer", minimum=1, maximum=1000, default=1000),
        ]
    },
}
VIEWS: dict[str, Any] = {
    "summary": "Who saw what of a study, latest first, a line each; also of one that was deleted",
    "operation_id": "study_views",
    "tags": _TAGS,
    "responses": _OF_READERS
    | {404: _NOT_OFFERED, 200: parts.lines("A line for each view", ViewAnswer, example=[study_examples.VIEW])},
    "openapi_extra": {"parameters": [_STUDY_ID]},
}


OPERATIONS: dict[str, Any] = {
    "summary": "Figures for those who run the service: versions, queues, referrals, agreement with readers",
    "operation_id": "operations",
    "tags": ["model"],
    "responses": parts.answers(OperationsAnswer, study_examples.OPERATIONS, [*parts.OF_AUTHENTICATION, 503]),
}


MODEL_HISTORY: dict[str, Any] = {
    "summary": "Which models were loaded and refused here, and how the serving one's probabilities met outcomes",
    "operation_id": "model_history",
    "tags": ["model"],
    "responses": parts.answers(ModelHistoryAnswer, study_examples.MODEL_HISTORY, [*parts.OF_AUTHENTICATION, 503]),
}


def words(name: str) -> dict[str, Any]:
    """The description of the words of the files called `name`."""
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    headers = {
        "Content-Digest": {"description": "RFC 9530, SHA-256 of the bytes sent.", "schema": {"type": "string"}},
        "Consilium-Encoding": {
            "description": "`raw`; `delta`: each word is its difference from its left neighbour, the first of a row "
            "from 0, and `Content-Encoding` is gzip.",
            "schema": {"type": "string", "enum": ["raw", "delta"]},
        },
    }
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    described = "Little endian, row by row, 8 or 16 bits a word, as `GET /v1/studies/{study_id}` says."
    return {
        "summary": f"The words of one of the {name}. That the caller has seen it is recorded",
        "operation_id": f"study_{name}",
        "tags": _TAGS,
        "responses": _OF_WORDS | {200: {"description": described, "headers": headers, "content": content}},
        "openapi_extra": {"parameters": [_STUDY_ID, number]},
    }
