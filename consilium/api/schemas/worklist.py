"""The wire types of `POST /v1/diagnose/batch`: a worklist of studies goes in, one line per study and a count come out.

The lines come as the studies are answered, in no order; `study` says which one a line is about.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from consilium.api.schemas.answers import DiagnosisAnswer, ProblemAnswer
from consilium.api.schemas.requests import DIAGNOSE_EXAMPLE, refuse_other_encodings, refuse_repeated_keys
from consilium.domain.encoded_text import without_mark
from consilium.domain.errors import InputError, MalformedRequest, TooLarge
from consilium.domain.wire import Wire
from consilium.formats.sent_records import broken_at

Position = Annotated[int, Field(ge=0, description="Of the study in the form field `requests`, from 0.")]

WORKLIST_EXAMPLE: list[JsonValue] = [
    DIAGNOSE_EXAMPLE,
    {"notes": [{"kind": "history", "text": "Cough for two weeks."}], "caller_reference": "worklist-4712"},
]


class WorklistAnswer(Wire):
    """A line: one study's answer, that of `POST /v1/diagnose`."""

    study: Position
    answer: DiagnosisAnswer


class WorklistProblem(Wire):
    """A line: why one study has no answer. The others have theirs."""

    study: Position
    problem: ProblemAnswer


class WorklistCount(Wire):
    """The last line. Where it is missing, the answer was cut off."""

    studies: int
    answered: int
    refused: int


_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue, config=ConfigDict(ser_json_inf_nan="constants"))

WorklistLine: TypeAlias = WorklistAnswer | WorklistProblem | WorklistCount


def split_worklist(data: bytes, most: int) -> list[bytes]:
    """The JSON of each study's request, itself not looked at.

    Raises
    ------
    MalformedRequest
        Where `data` is not JSON in UTF-8, with or without a byte order mark.
    InputError
        Where it is not an array, or an empty one, or an object in it has a key twice.
    TooLarge
        Where it has more than `most` elements.
    """
    data = without_mark(data)
    try:
        studies = _JSON.validate_json(data)
    except ValidationError as error:
        refuse_other_encodings(data, "requests")
        rule = f"must be JSON in UTF-8 ({broken_at(error.errors(include_input=False)[0]['msg'])})"
        raise MalformedRequest("requests", "a text that is no JSON", rule) from None
    if not isinstance(studies, list) or not studies:
        raise InputError("requests", studies, "must be an array of at least one study's request")
    refuse_repeated_keys(data, "requests")
    if len(studies) > most:
        raise TooLarge("requests", f"{len(studies)} studies", f"must be at most {most} studies")
    return [_JSON.dump_json(study) for study in studies]
