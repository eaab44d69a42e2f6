"""One result by itself: what a model is given of it, or why nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consilium.domain.errors import InputError
from consilium.domain.variables import Kind, Variable
from consilium.formats.quantities import read_category, read_quantity
from consilium.formats.units import conversion
from hospital.store.received import Code
from hospital.terminology.site_tables import Terminology, is_loinc, translated

LONGEST_TEXT = 64
"""Characters of a value that is no number; what is longer is a comment and not stored with the values."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """What is taken from one result; the fields are those of `ReceivedObservation`."""

    code: str | None
    local_code: Code | None
    value: float | None
    unit: str | None
    text: str | None = None
    problem: str | None = None


def assess(
    codes: Sequence[Code], raw: float | str | None, unit: str, terms: Terminology, comparator: str | None = None
) -> Assessed:
    """Look at one result.

    Parameters
    ----------
    codes : sequence of Code
        All codes that the sender gives for what was measured.
    raw : float, str or None
        The value as sent; text may be a number, a limit or the name of a category.
    unit : str
        As sent. It stays as it is where it converts into the variable's unit; the service converts.
    comparator : str, optional
        Where the value is a limit and does not say so itself.

    Returns
    -------
    Assessed
        With a `problem`, which holds neither value nor name, where the result cannot be used.
    """
    code = translated(codes, terms)
    local = next((one for one in codes if not is_loinc(one)), codes[0] if codes else None)
    shown = "" if raw is None else f"{comparator or ''}{raw}"
    kept = shown if 0 < len(shown) <= LONGEST_TEXT else None

    def left_out(problem: str) -> Assessed:
        return Assessed(code, local, None, unit or None, kept, problem)

    if code is None:
        return left_out("no code of it is LOINC or in the site's table of local codes")
    variable = terms.variables.by_code(code)
    if variable is None:
        return left_out(f"{code} is not in the table of variables")
    if raw is None or raw == "":
        return left_out("no value")
    try:
        value, text = _read(variable, code, raw, unit, comparator, terms)
    except _Limit:
        return left_out("a limit is not a value")
    except InputError as error:
        # What was sent is not repeated.
        return left_out(f"{error.field.rpartition('.')[2]} {error.rule}")
    return Assessed(code, local, value, unit or None, text)


class _Limit(Exception):
    """The value is only known to lie beyond a limit."""


def _read(
    variable: Variable, code: str, raw: float | str, unit: str, comparator: str | None, terms: Terminology
) -> tuple[float | None, str | None]:
    """The number, or the name of the category."""
    if variable.kind is not Kind.NUMERIC:
        return None, read_category(variable, raw, "result")
    quantity = read_quantity(raw, comparator, "result")
    if quantity.comparator is not None:
        raise _Limit
    conversion(variable, terms.variables.codes[code], unit)
    return quantity.value, None
