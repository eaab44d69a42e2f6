"""Age and sex as records write them, read alike in requests, tables, on the command line and in DICOM headers."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from consilium.domain.errors import InputError
from consilium.domain.study import OLDEST_AGE, Sex, require_age
from consilium.formats.decimals import comma_warning, parse_decimal
from consilium.formats.fields import read_number

AGE_RULE = f"must be an age of 0 to {OLDEST_AGE} years such as 67, 067Y, 18 months, 5d, 90+ or > 89"
SEX_RULE = f"must be one of {', '.join(Sex)}, female, male, other, unknown, or empty"

_UNITS = {
    "years": ("y", "yr", "yrs", "year", "years", "yo", "y/o", "y.o.", "a", "j", "jahr", "jahre"),
    "months": ("m", "mo", "mos", "mon", "mth", "mths", "month", "months", "monat", "monate"),
    "weeks": ("w", "wk", "wks", "week", "weeks", "woche", "wochen"),
    "days": ("d", "day", "days", "tag", "tage"),
}
"""Of DICOM's age strings (AS: D, W, M, Y), UCUM (a, mo, wk, d), English and German."""
_YEARS = {"years": Fraction(1), "months": Fraction(1, 12), "weeks": Fraction(28, 1461), "days": Fraction(4, 1461)}
"""Fractions, so that 12 months are a year and 14 days two weeks."""
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
_PART = re.compile(
    rf"([0-9]+(?:[.,][0-9]+)?)\s*({'|'.join(re.escape(s) for s in sorted(_UNIT_OF, key=len, reverse=True))})"
    r"\s*(?:,|and|und)?\s*"
)
_LIMIT = re.compile(r"^(?:<|>=|≥|>)\s*|\s*\+(?=[^\d+]*$)|\s+(?:and|or)\s+(?:over|above|older)$")
_OLDEST_GROUPS = 80
"""From here on the oldest group of a table begins (80+, 85+, 90+); a limit below it tells too little of an age."""

_OLDEST_FROM_BIRTH = 110
"""Years; where a birth date gives more, it stands for an unknown one, such as 1900-01-01."""
_INFANT_DAYS = 730
_DAYS_A_YEAR = 365.25

_BLANKS = "\x00" + string.whitespace + "\xa0"
"""Padding of DICOM, tables and what was copied out of a page."""

_SEXES: Mapping[str, Sex] = MappingProxyType(
    {spelling: sex for sex, spellings in {
        Sex.FEMALE: ("f", "female", "w", "weiblich", "woman"),
        Sex.MALE: ("m", "male", "männlich", "maennlich", "man"),
        Sex.OTHER: ("o", "other", "a", "ambiguous", "un", "undifferentiated", "d", "divers", "x"),
        Sex.UNKNOWN: ("u", "unknown", "unk", "n", "unbekannt", ""),
    }.items() for spelling in spellings}
)  # fmt: skip
"""DICOM (F, M, O), FHIR (female, male, other, unknown), HL7 v2 (F, M, O, U, A, N) and v3 (UN, UNK), and German
registrations (m, w, d). N is not applicable, UN undifferentiated.

Digits are refused: 1 is male in ISO 5218 and female in other tables. So is H, of Spanish tables: their M is a woman.
"""


def read_age(raw: object, field: str) -> tuple[float | None, tuple[str, ...]]:
    """An age in years, and what a reader has to know of how it was written.

    Parameters
    ----------
    raw : number, str or None
        A number or a text without a unit is in years. ``067Y``, ``003M``, ``18 months``, ``2w 3d`` name their units.
        ``> 89`` and ``90+`` are both read as 90, ``< 1 month`` as 0, with a warning. None or an empty text: not known.

    Raises
    ------
    InputError
        No age, one outside 0 to 130 years, or a limit that tells too little, such as ``> 18``.
    """
    if raw is None or (isinstance(raw, str) and not raw.strip(_BLANKS)):
        return None, ()
    if not isinstance(raw, str):
        number, warnings = read_number(raw, field)
        require_age(number, field, raw, AGE_RULE)
        return number, warnings
    written = raw.strip(_BLANKS).lower()
    limits = [match[0].strip() for match in _LIMIT.finditer(written)]
    amount = _amount(_LIMIT.sub("", written).removesuffix("of age").removesuffix("old").strip())
    years = amount and (_at_limit(amount, limits) if limits else amount.years)
    if amount is None or years is None:
        raise InputError(field, raw, AGE_RULE)
    warnings = (comma_warning(field),) if amount.comma else ()
    if limits:
        warnings += (f"{field}: only a limit is given, read as {years:g} years",)
    require_age(years, field, raw, AGE_RULE)
    return years, warnings


def age_at(born: date, day: date) -> float | None:
    """Age in years on a `day`: whole ones but for infants; None where `born` cannot be a patient's day of birth."""
    if not 0 <= day.year - born.year <= _OLDEST_FROM_BIRTH or day < born:
        return None
    lived = (day - born).days
    if lived < _INFANT_DAYS:
        return lived / _DAYS_A_YEAR
    return float(day.year - born.year - ((day.month, day.day) < (born.month, born.day)))


def read_sex(raw: object, field: str) -> Sex:
    """A sex by any of its usual spellings, whatever the case; None or an empty text is unknown.

    Raises
    ------
    InputError
        Anything else.
    """
    if raw is None:
        return Sex.UNKNOWN
    sex = _SEXES.get(raw.strip(_BLANKS).lower()) if isinstance(raw, str) else None
    if sex is None:
        raise InputError(field, raw, SEX_RULE)
    return sex


class _Amount(NamedTuple):
    years: float
    finest: Fraction
    """Years of its finest unit."""
    comma: bool


def _amount(written: str) -> _Amount | None:
    """What ``67``, ``18 months`` or ``1y 6m`` amount to; None where it is no age."""
    plain = parse_decimal(written)
    if plain is not None:
        return _Amount(plain.value, Fraction(1), plain.comma)
    years, finest, comma, at = Fraction(0), Fraction(2), False, 0
    while match := _PART.match(written, at):
        unit = _YEARS[_UNIT_OF[match[2]]]
        # A repeated or a coarser unit: 6m 1y is none of the usual ways, and likely something else.
        if unit >= finest:
            return None
        years += Fraction(match[1].replace(",", ".")) * unit
        finest, comma, at = unit, comma or "," in match[1], match.end()
    return _Amount(float(years), finest, comma) if at and at == len(written) else None


def _at_limit(amount: _Amount, limits: list[str]) -> float | None:
    """The whole age nearest to a limit, None where that says too little."""
    if limits == ["<"]:
        return 0.0 if amount.years <= amount.finest else None
    if len(limits) != 1 or amount.years < _OLDEST_GROUPS:
        return None
    return amount.years + 1 if limits == [">"] else amount.years
