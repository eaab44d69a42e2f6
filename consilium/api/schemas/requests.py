"""What is sent to the service.

Requests are checked here for their shape only; units, codes and plausibility are `consilium.ingest`'s. A request with a
key that is not known is refused with the nearest key named.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    PlainValidator,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)

from consilium.domain.encoded_text import foreign_encoding, without_mark
from consilium.domain.errors import InputError, MalformedRequest
from consilium.domain.wire import Wire
from consilium.modalities.text.note import NoteKind

MAX_CALLER_REFERENCE = 200
"""Characters of a caller's own reference that are echoed."""

MAX_SIMILAR = 50
"""Training cases that one answer may show."""

Moment = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40),
    Field(description="ISO 8601 date and time; without an offset it is meant in the site's time zone."),
]
"""Read by `consilium.formats.times`, which knows what a record's time must say."""


def _number_or_text(value: object, longest: int = 64) -> float | int | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number, or text that is one")
    if isinstance(value, str) and len(value) > longest:
        raise ValueError(f"must have at most {longest} characters")
    return value


Number = Annotated[float | int | str, PlainValidator(_number_or_text, json_schema_input_type=float | str)]
"""Read by `consilium.ingest`, which knows what text is a number."""

ShortName = Annotated[str, StringConstraints(max_length=200)]


def _value(value: object) -> float | int | str | bool:
    return value if isinstance(value, bool) else _number_or_text(value, _LONGEST_COMMENT)


_LONGEST_COMMENT = 1000
"""Laboratories send comments in the place of a value or unit; ingest leaves these out, and the study stays."""


Value = Annotated[float | int | str | bool, PlainValidator(_value, json_schema_input_type=float | str | bool)]
"""A number, text that is one, a limit, or a category; likewise."""

FindingName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("must not name a finding twice")
    return names


DIAGNOSE_EXAMPLE: dict[str, JsonValue] = {
    "notes": [
        {
            "kind": "indication",
            "text": "Fever and productive cough for three days. Crackles right base.",
            "time": "2024-03-05T08:10:00",
        }
    ],
    "observations": [
        {"code": "1988-5", "value": 112.0, "unit": "mg/L", "time": "2024-03-05T08:20:00"},
        {"code": "8867-4", "value": 104, "unit": "/min", "time": "2024-03-05T08:05:00"},
    ],
    "patient": {"age": 67, "sex": "F"},
    "reference_time": "2024-03-05T09:00:00",
    "caller_reference": "worklist-4711",
}
SIMILAR_EXAMPLE: dict[str, JsonValue] = DIAGNOSE_EXAMPLE | {"count": 3}
EXPLAIN_EXAMPLE: dict[str, JsonValue] = DIAGNOSE_EXAMPLE | {"findings": ["pneumonia"], "level": "fast"}


class NoteRecord(Wire):
    """A passage of clinical text. Which kinds the model reads is part of its recipe (`GET /v1/model`)."""

    kind: NoteKind
    text: str
    time: Moment | None = None


class ObservationRecord(Wire):
    """One laboratory value or vital sign."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="LOINC code, or a local one of the cohort that the model learned from; others are left out."
    )
    value: Value | None = Field(
        description="A number, text that is one as a whole, a limit such as `<0.3`, or a category such as `negative`; "
        "null of a result that is pending, which is left out.",
        examples=[112, "<0.3", "trace"],
    )
    comparator: Literal["<", "<=", ">=", ">"] | None = Field(
        default=None, description="FHIR's Quantity.comparator, where the value is a limit and does not say so itself."
    )
    unit: Annotated[
        str,
        StringConstraints(max_length=_LONGEST_COMMENT),
        BeforeValidator(lambda unit: "" if unit is None else unit, json_schema_input_type=str | None),
    ] = Field(
        default="", description="UCUM unit, or as laboratories write it: `K/uL`, `gm/dL`; empty where there is none."
    )
    time: Moment | None = None

    @model_serializer(mode="wrap")
    def _with_value(self, others: SerializerFunctionWrapHandler) -> dict[str, object]:
        """The client leaves out what is None; a pending result's value must be written."""
        return {"value": None} | others(self)


class PatientRecord(Wire):
    """What is known of the patient beside the records. No date of birth; names only to be taken out of the notes."""

    age: Number | None = Field(
        default=None,
        description="Years from 0 to 130, or text such as `067Y`, `18 months`, `90+`, `> 89`.",
        examples=[67, "18 months"],
    )
    sex: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None,
        description="DICOM Patient's Sex (0010,0040), FHIR administrative gender or HL7 v2, in any case.",
        examples=["F", "female"],
    )
    names: Annotated[tuple[ShortName, ...], Field(max_length=32)] | None = Field(
        default=None,
        description="Names and identifiers of the patient, plain or as DICOM writes them, which are taken out of the "
        "notes before the model reads them, as those in the images' headers are. Never kept, logged nor answered.",
    )


class DiagnoseRequest(Wire):
    """The form field `request` of `POST /v1/diagnose`. Every part may be absent, as long as some modality is there."""

    # The first broken record is all that is told: a megabyte of them would take seconds to be told of.
    notes: Annotated[tuple[NoteRecord, ...], FailFast()] = ()
    observations: Annotated[tuple[ObservationRecord, ...], FailFast()] = ()
    patient: PatientRecord | None = None
    reference_time: Moment | None = Field(
        default=None, description="The moment for which the question is asked; the earliest image's unless given."
    )
    caller_reference: Annotated[str, StringConstraints(max_length=MAX_CALLER_REFERENCE)] | None = Field(
        default=None,
        description="Echoed in the answer, kept as a keyed digest only. Must not identify the patient.",
    )

    model_config = ConfigDict(json_schema_extra={"examples": [DIAGNOSE_EXAMPLE]})


class ExplainRequest(DiagnoseRequest):
    """The form field `request` of `POST /v1/explain`."""

    findings: Annotated[tuple[FindingName, ...], Field(min_length=1), AfterValidator(_each_once)] | None = Field(
        default=None, description="Which findings to explain; all unless given."
    )
    level: Literal["fast", "thorough"] = "fast"

    model_config = ConfigDict(json_schema_extra={"examples": [EXPLAIN_EXAMPLE]})


class SimilarRequest(DiagnoseRequest):
    """The form field `request` of `POST /v1/similar`."""

    count: int = Field(default=5, ge=1, le=MAX_SIMILAR, strict=True, description="Most cases in the answer.")

    model_config = ConfigDict(json_schema_extra={"examples": [SIMILAR_EXAMPLE]})


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
        raise _input_error(model, error) from None
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


def nearest_key(key: str, known: Sequence[str]) -> str:
    """The one of `known` that is most like `key`."""
    return difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)[0]


def _input_error(model: type[BaseModel], error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    where, kind, rule = first["loc"], first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return MalformedRequest("request", "a text that is no JSON", f"must be JSON in UTF-8 ({broken_at(rule)})")
    if kind == "extra_forbidden":
        known = _keys(model, where[:-1])
        rule = f"is no known key; the nearest is {nearest_key(str(where[-1]), known)!r}"
        return InputError(_path(where[:-1]), where[-1], rule)
    if kind == "missing":
        return InputError(_path(where), None, "is required")
    return InputError(_path(where), first["input"], _lower_first(rule))


def broken_at(message: str) -> str:
    """Where a text stopped being JSON, and nothing else: the parser's `message` may quote what the caller wrote."""
    _, found, place = message.rpartition(" at line ")
    return f"not at line {place}" if found else "it cannot be parsed"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _path(parts: Sequence[str | int]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "request"


def _keys(model: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    for parent in parents:
        if isinstance(parent, str):
            model = _model_within(model.model_fields[parent].annotation)
    return list(model.model_fields)


def _model_within(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_model_within(inner) for inner in get_args(annotation) if inner not in (None, type(None), Ellipsis))
