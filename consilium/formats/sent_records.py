"""Records as they are sent: pydantic types that several share, and pydantic's errors as `InputError`s."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, StringConstraints, ValidationError

from consilium.domain.errors import InputError, MalformedRequest, TooLarge
from consilium.formats.times import RULE as TIME_RULE

_SUBJECT = re.compile(r"^(?:Input|String|Tuple|List|Value|Data|Dictionary|Set|Frozenset) should ")
_VALID_TEXT = "Input should be a valid string"

Model = TypeVar("Model", bound=BaseModel)


def _text_of_a_time(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(TIME_RULE)
    return value


Moment = Annotated[
    str,
    BeforeValidator(_text_of_a_time, json_schema_input_type=str),
    StringConstraints(min_length=1, max_length=40),
    Field(description="ISO 8601 date and time; without an offset it is meant in the site's time zone."),
]
"""Read by `consilium.formats.times`, which knows what a record's time must say."""


def number_or_text(value: object, longest: int = 64) -> Any:
    """`value` where it is a number or a short text; else `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, Real | str):
        raise ValueError("must be a number, or text that is one")
    if isinstance(value, str) and len(value) > longest:
        raise ValueError(f"must have at most {longest} characters")
    return value


Number = Annotated[float | int | str, PlainValidator(number_or_text, json_schema_input_type=float | str)]
"""Read by whoever knows what text is a number."""


def checked_records(kind: type[Model], raw: object, field: str, most: int) -> tuple[Model, ...]:
    """`raw` as at most `most` records of one `kind`; those that are such records already are not checked again.

    Raises
    ------
    InputError
        Names the first record that breaks a rule, its key, the value and the rule.
    TooLarge
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise InputError(field, type(raw).__name__, "must be a list")
    if len(raw) > most:
        raise TooLarge(field, f"{len(raw)} entries", f"must be at most {most}")
    return tuple(checked_record(kind, one, f"{field}[{position}]") for position, one in enumerate(raw))


def checked_record(kind: type[Model], raw: object, field: str) -> Model:
    """`raw` as a record of one `kind`.

    Raises
    ------
    InputError
        Names the key below `field`, the value and the rule.
    """
    if isinstance(raw, kind):
        return raw
    if not isinstance(raw, Mapping):
        raise InputError(field, type(raw).__name__, "must be an object")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise input_error(kind, error, field) from None


def input_error(model: type[BaseModel], error: ValidationError, base: str = "") -> InputError:
    """The first error of pydantic as an `InputError`, whose field names known keys and positions below `base` only."""
    first = error.errors(include_url=False)[0]
    where, kind, rule = first["loc"], first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return MalformedRequest("request", "a text that is no JSON", f"must be JSON in UTF-8 ({broken_at(rule)})")
    if kind == "extra_forbidden":
        known = _keys(model, where[:-1])
        rule = f"is no known key; the nearest is {nearest_key(str(where[-1]), known)!r}"
        return InputError(_path(where[:-1], base), where[-1], rule)
    if kind == "missing":
        return InputError(_path(where, base), None, "is required")
    if kind in ("too_long", "string_too_long"):
        return _too_long(_path(where, base), first["input"], first["ctx"])
    if kind == "string_unicode":
        return InputError(_path(where, base), "lone surrogate", "must be valid Unicode text")
    if kind in ("enum", "literal_error"):
        rule = f"must be one of {first['ctx']['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    return InputError(_path(where, base), first["input"], _as_rule(rule))


def _too_long(field: str, given: object, bound: Mapping[str, Any]) -> InputError:
    """A text that is too long breaks a rule; too many records are too large a request."""
    if isinstance(given, str):
        return InputError(field, given, f"must have at most {bound['max_length']} characters")
    return TooLarge(field, f"{bound['actual_length']} entries", f"must be at most {bound['max_length']}")


def broken_at(message: str) -> str:
    """Where a text stopped being JSON, and nothing else: the parser's `message` may quote what the caller wrote."""
    _, found, place = message.rpartition(" at line ")
    return f"not at line {place}" if found else "it cannot be parsed"


def nearest_key(key: str, known: Sequence[str]) -> str:
    """The one of `known` that is most like `key`."""
    return difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)[0]


def _as_rule(message: str) -> str:
    """Pydantic's `message` as this project words a rule: ``must be ...``."""
    if message.startswith(_VALID_TEXT):
        return "must be text"
    rule = _SUBJECT.sub("must ", message).replace(" after validation", "")
    return rule[:1].lower() + rule[1:]


def _path(parts: Sequence[str | int], base: str) -> str:
    path = base
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
