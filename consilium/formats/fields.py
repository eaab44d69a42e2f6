"""Numbers as records give them."""

from __future__ import annotations

import math
from numbers import Real

from consilium.domain.errors import InputError
from consilium.formats.decimals import read_decimal


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
