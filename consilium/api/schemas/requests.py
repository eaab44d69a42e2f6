"""What is sent to the service.

Requests are checked here for their shape only; units, codes and plausibility are read by the modalities. The records of
each are declared by it (`consilium.modalities`). A request with a key that is not known is refused with the nearest key
named.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    create_model,
)

from consilium.domain.diagnosis import Answer
from consilium.domain.encoded_text import foreign_encoding, without_mark
from consilium.domain.errors import InputError, MalformedRequest
from consilium.domain.wire import Wire
from consilium.formats.sent_records import Moment, input_error
from consilium.ingest.patient_record import PatientRecord
from consilium.modalities.registry import json_inputs
from consilium.system.installed import load

MAX_CALLER_REFERENCE = 200
"""Characters of a caller's own reference that are echoed."""

MAX_SIMILAR = 50
"""Cases that one answer may show."""

FindingName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("must not name a finding twice")
    return names


DIAGNOSE_EXAMPLE: dict[str, JsonValue] = {
    **{given.name: [dict(record) for record in given.example] for given in json_inputs().values() if given.example},
    "patient": {"age": 67, "sex": "F"},
    "reference_time": "2024-03-05T09:00:00",
    "caller_reference": "worklist-4711",
}
SIMILAR_EXAMPLE: dict[str, JsonValue] = DIAGNOSE_EXAMPLE | {"count": 3}
SEARCH_EXAMPLE: dict[str, JsonValue] = SIMILAR_EXAMPLE | {"labels": {"pneumonia": "present"}}
DRAFT_EXAMPLE: dict[str, JsonValue] = DIAGNOSE_EXAMPLE | {"language": "en"}
EXPLAIN_EXAMPLE: dict[str, JsonValue] = DIAGNOSE_EXAMPLE | {"findings": ["pneumonia"], "level": "fast"}


def _records_of(kind: Any) -> Any:
    return Annotated[tuple[kind, ...], FailFast()]


def _record_fields() -> dict[str, Any]:
    # Only the first broken record is reported: reporting a megabyte of them would take seconds.
    return {
        given.name: (
            _records_of(load(given.schema)),
            Field(default=(), description=given.description or None),
        )
        for given in json_inputs().values()
    }


if TYPE_CHECKING:

    class Records(Wire):
        """The records of every modality that takes some in a request's JSON."""

else:
    Records = create_model("Records", __base__=Wire, **_record_fields())


class DiagnoseRequest(Records):
    """The form field `request` of `POST /v1/diagnose`. Every part may be absent, as long as some modality is there."""

    patient: PatientRecord | None = None
    reference_time: Moment | None = Field(
        default=None, description="The moment for which the question is asked; the earliest image's unless given."
    )
    caller_reference: Annotated[str, StringConstraints(max_length=MAX_CALLER_REFERENCE)] | None = Field(
        default=None,
        description="Echoed in the answer, kept as a keyed digest only. Must not identify the patient.",
    )

    model_config = ConfigDict(json_schema_extra={"examples": [DIAGNOSE_EXAMPLE]})

    @property
    def records(self) -> dict[str, Any]:
        """What `consilium.ingest.study_records.study_from_records` takes, the files aside."""
        sent = {name: getattr(self, name) for name in json_inputs()}
        return sent | {"patient": self.patient, "reference_time": self.reference_time}


class ExplainRequest(DiagnoseRequest):
    """The form field `request` of `POST /v1/explain`."""

    findings: Annotated[tuple[FindingName, ...], Field(min_length=1), AfterValidator(_each_once)] | None = Field(
        default=None, description="Which findings to explain; all unless given."
    )
    level: Literal["fast", "thorough"] = "fast"
    maps: Literal["pictures", "cells"] = Field(
        default="pictures",
        description="How saliency maps are sent: as a picture in the grid of the file, or as the cells of the feature "
        "map with where they lie, which is a hundredth of it.",
    )

    model_config = ConfigDict(json_schema_extra={"examples": [EXPLAIN_EXAMPLE]})


class DraftRequest(DiagnoseRequest):
    """The form field `request` of `POST /v1/draft`."""

    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = Field(
        default="en", description="BCP 47: `en`, `de`, or that of the phrases that the service was given."
    )
    level: Literal["fast", "thorough"] = Field(default="fast", description="How much an explanation may cost.")

    model_config = ConfigDict(json_schema_extra={"examples": [DRAFT_EXAMPLE]})


class SimilarRequest(DiagnoseRequest):
    """The form field `request` of `POST /v1/similar`."""

    count: int = Field(default=5, ge=1, le=MAX_SIMILAR, strict=True, description="Most cases in the answer.")

    model_config = ConfigDict(json_schema_extra={"examples": [SIMILAR_EXAMPLE]})


class SearchRequest(DiagnoseRequest):
    """The form field `request` of `POST /v1/search`."""

    count: int = Field(default=5, ge=1, le=MAX_SIMILAR, strict=True, description="Most cases, and most sentences.")
    labels: dict[FindingName, Answer] = Field(
        default_factory=dict, description="Only among cases that are known to have, or not to have, these findings."
    )
    having: tuple[str, ...] = Field(default=(), description="Only among cases that have all of these modalities.")

    model_config = ConfigDict(json_schema_extra={"examples": [SEARCH_EXAMPLE]})


Request = TypeVar("Request", bound=BaseModel)


def parse_request(model: type[Request], data: bytes) -> Request:
    """Read the JSON of one request.

    Raises
    ------
    MalformedRequest
        Where `data` is not a JSON object in UTF-8, with or without a byte order mark.
    InputError
        Where a key is unknown (the nearest one is named), missing, twice there, or its value breaks a rule. The error's
        field names known keys and positions only: what the caller wrote stands in its value.
    """
    data = without_mark(data)
    try:
        request = model.model_validate_json(data)
    except ValidationError as error:
        refuse_other_encodings(data)
        raise input_error(model, error) from None
    refuse_repeated_keys(data)
    return request


def refuse_other_encodings(data: bytes, field: str = "request") -> None:
    """Raise `MalformedRequest` where `data`, which was no JSON, is text in another encoding than UTF-8."""
    if (encoding := foreign_encoding(data)) is not None:
        raise MalformedRequest(field, encoding, "must be JSON in UTF-8")


def refuse_repeated_keys(data: bytes, field: str = "request") -> None:
    """Raise `InputError` where an object in `data`, which is JSON, has a key twice.

    One parser takes the first, another the last: two systems would read two studies out of one request. `data` must
    have been parsed before, by a parser that limits its depth.
    """

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InputError(field, key, "must come once in an object")
            seen.add(key)

    # Numbers stay text: Python's own reading of a long one is slow, or refused.
    json.loads(data, object_pairs_hook=once, parse_int=str, parse_float=str)
