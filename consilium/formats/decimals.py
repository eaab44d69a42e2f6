"""Numbers written as text: the whole text is one number, or it is refused.

Python's own reading is too generous for records: ``float`` takes ``1_000``, ``nan``, ``infinity`` and the digits of
every script. Here a number is written in the digits 0 to 9 with a decimal point, as in DICOM (DS, IS: PS3.5 6.2) and
JSON. One decimal comma, which devices and tables with a European locale write, is read as the point and warned of.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from consilium.domain.errors import InputError

RULE = "must be one finite number in the digits 0 to 9, such as 12.5"
AMBIGUOUS = (
    "must be written with a decimal point or without a comma: before three digits it may also divide the thousands"
)

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+|[0-9]+,[0-9]+)(?:[eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")


class Decimal(NamedTuple):
    """A finite number, and whether it was written with a decimal comma."""

    value: float
    comma: bool


def parse_decimal(text: str) -> Decimal | None:
    """The number that `text`, blanks around it aside, consists of; None where it is no finite number."""
    written = text.strip()
    if not _NUMBER.fullmatch(written):
        return None
    value = float(written.replace(",", "."))
    return Decimal(value, "," in written) if math.isfinite(value) else None


def may_divide_thousands(text: str) -> bool:
    """Whether the comma of a number may be meant as the thousands' divider: ``250,000``, but not ``0,250``."""
    return bool(_THOUSANDS.fullmatch(text.strip()))


def read_decimal(text: str, field: str) -> tuple[float, tuple[str, ...]]:
    """The number of a table's cell or a record's text, and what a reader has to know of how it was written.

    Raises
    ------
    InputError
        No finite number, or one whose comma may be a decimal comma as well as the thousands' divider.
    """
    number = parse_decimal(text)
    if number is None:
        raise InputError(field, text, RULE)
    if may_divide_thousands(text):
        raise InputError(field, text, AMBIGUOUS)
    return number.value, (comma_warning(field),) if number.comma else ()


def comma_warning(field: str) -> str:
    """The warning of a number with a decimal comma."""
    return f"{field}: the comma was read as a decimal point"
