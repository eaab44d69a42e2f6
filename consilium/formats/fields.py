"""The shape of records in JSON: lists of objects with known keys."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real

from consilium.domain.errors import InputError, TooLarge
from consilium.formats.decimals import read_decimal


def check_list(raw: object, field: str, most: int) -> Sequence[object]:
    """`raw`, where it is a list of at most `most` entries."""
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise InputError(field, type(raw).__name__, "must be a list")
    if len(raw) > most:
        raise TooLarge(field, f"{len(raw)} entries", f"must be at most {most}")
    return raw


def check_object(
    raw: object, field: str, keys: Collection[str], required: Collection[str] = ()
) -> Mapping[str, object]:
    """`raw`, where it is an object with these keys; an unknown key is an error that names the nearest known one."""
    if not isinstance(raw, Mapping):
        raise InputError(field, type(raw).__name__, "must be an object")
    for key in raw:
        if key not in keys:
            near = get_close_matches(str(key), keys, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(field, str(key), f"is no known key, must be one of {', '.join(keys)}{hint}")
    for key in required:
        if raw.get(key) is None:
            raise InputError(f"{field}.{key}", None, "must be given")
    return raw


def read_number(raw: object, field: str) -> tuple[float, tuple[str, ...]]:
    """A finite number, given as one or as text that is one as a whole, and what a reader has to know of its writing.

    Raises
    ------
    InputError
        A truth value, something else, or text that `read_decimal` refuses.
    """
    if isinstance(raw, str):
        return read_decimal(raw, field)
    if isinstance(raw, bool) or not isinstance(raw, Real):
        raise InputError(field, raw if isinstance(raw, bool) else type(raw).__name__, "must be a number")
    try:
        number = float(raw)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(field, str(number), "must be a finite number")
    return number, ()
