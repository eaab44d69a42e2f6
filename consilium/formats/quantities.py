"""Values as records give them: a number, a limit (``<0.3``, ``≥ 90``), or the name of a category (``neg``, ``++``)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from consilium.domain.errors import InputError
from consilium.domain.variables import Kind, Variable
from consilium.formats.decimals import read_decimal
from consilium.formats.fields import read_number


class Comparator(StrEnum):
    """A value that is only known to lie beyond a limit; FHIR's ``Quantity.comparator``."""

    BELOW = "<"
    AT_MOST = "<="
    AT_LEAST = ">="
    ABOVE = ">"


_COMPARATORS = {
    "<": Comparator.BELOW,
    "less than": Comparator.BELOW,
    "below": Comparator.BELOW,
    "under": Comparator.BELOW,
    "<=": Comparator.AT_MOST,
    "=<": Comparator.AT_MOST,
    "≤": Comparator.AT_MOST,
    "≦": Comparator.AT_MOST,
    "⩽": Comparator.AT_MOST,
    "at most": Comparator.AT_MOST,
    "up to": Comparator.AT_MOST,
    ">=": Comparator.AT_LEAST,
    "=>": Comparator.AT_LEAST,
    "≥": Comparator.AT_LEAST,
    "≧": Comparator.AT_LEAST,
    "⩾": Comparator.AT_LEAST,
    "at least": Comparator.AT_LEAST,
    ">": Comparator.ABOVE,
    "more than": Comparator.ABOVE,
    "greater than": Comparator.ABOVE,
    "above": Comparator.ABOVE,
    "over": Comparator.ABOVE,
}
_SIGNS = str.maketrans("＜＞＝−", "<>=-")
_LIMIT = re.compile(
    rf"({'|'.join(re.escape(word) for word in sorted(_COMPARATORS, key=len, reverse=True))})\s*(?=[\d.,+-])(.*)"
)
_GRADE = re.compile(r"\(?(?:([1-4])\s*(?:\+|plus)|\+\s*([1-4])|(\+{1,4}))\)?")

_NEGATIVE = (
    *("negative", "neg", "-", "nil", "none", "absent", "not detected", "undetected", "not present", "no"),
    *("nonreactive", "non reactive", "non-reactive", "not reactive", "none detected", "none seen"),
    *("negativ", "nicht nachweisbar", "nicht nachgewiesen", "négatif", "négative", "negatif", "non détecté"),
    *("negativo", "negativa", "no detectado", "no detectada", "non rilevato", "assente", "ausente"),
)
"""Not ``nd``: not detected or not done. Words in English, German, French, Spanish and Italian."""
_NORMAL = ("normal", "norm", "normale", "0")
_TRACE = (
    *("trace", "tr", "traces", "+/-", "±", "(+)", "-/+"),
    *("trace-intact", "trace-lysed", "trace intact", "trace lysed", "spur", "spuren", "traza", "trazas", "tracce"),
)
_POSITIVE = (
    *("positive", "pos", "detected", "reactive", "present", "yes", "+"),
    *("positiv", "nachweisbar", "nachgewiesen", "positif", "détecté", "positivo", "positiva", "detectado", "detectada"),
)
_SIZES = {"small": "1+", "moderate": "2+", "large": "3+"}
_YES = (
    *("yes", "y", "true", "t", "1", "positive", "pos", "present", "+"),
    *("ja", "j", "oui", "si", "sí", "vrai", "wahr", "verdadero", "vero", "positiv"),
)
_NO = (
    *("no", "n", "false", "f", "0", "negative", "neg", "absent", "none", "-"),
    *("nein", "non", "faux", "falsch", "falso", "negativ"),
)
_MOST_NAMED = 20
_WHOLE = re.compile(r"([0-9]+)[.,]0+")
_BLOOD_GROUP = re.compile(
    r"(?:(?:blood\s*)?(?:group|type)\s*)?(ab|a|b|o|0)?\s*,?\s*(?:\(?rh(?:esus)?\s*\(?d?\)?\)?|d)?\s*(positive|pos|\+|negative|neg|-)?"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, where it is a limit its comparator, and what a reader has to know of how it was written."""

    value: float
    comparator: Comparator | None = None
    warnings: tuple[str, ...] = ()


def read_quantity(raw: object, comparator: object, field: str) -> Quantity:
    """Read the value of a numeric variable.

    Parameters
    ----------
    raw : object
        A number, or text that is a number or a limit as a whole: ``<0.3``, ``> 1000``, ``less than 5``.
    comparator : object
        FHIR's ``Quantity.comparator``, for a limit whose value is a number: ``<``, ``<=``, ``>=``, ``>``; None.

    Raises
    ------
    InputError
        No finite number, or two comparators that differ.
    """
    given = _comparator(comparator, f"{field}.comparator")
    where = f"{field}.value"
    if not isinstance(raw, str):
        value, warnings = read_number(raw, where)
        return Quantity(value, given, warnings)
    written, text = _limit(raw)
    if written is not None and given is not None and written is not given:
        raise InputError(f"{field}.comparator", given.value, f"must be {written}, as the value says")
    try:
        value, warnings = read_decimal(text, where)
    except InputError as error:
        raise InputError(where, raw, error.rule) from None
    return Quantity(value, written or given, warnings)


def _comparator(raw: object, field: str) -> Comparator | None:
    if raw is None or raw == "":
        return None
    found = _COMPARATORS.get(raw.strip()) if isinstance(raw, str) else None
    if found is None:
        raise InputError(field, raw, f"must be one of {', '.join(Comparator)}")
    return found


def _limit(text: str) -> tuple[Comparator | None, str]:
    """The comparator that `text` begins with, None where it has none, and the rest."""
    folded = text.translate(_SIGNS).strip().casefold()
    found = _LIMIT.fullmatch(folded)
    return (_COMPARATORS[found[1]], found[2]) if found else (None, folded)


def read_value(variable: Variable, raw: object, comparator: object, field: str) -> Quantity | str:
    """What `raw` says of `variable`: `read_quantity` or `read_category`."""
    if variable.kind is Kind.NUMERIC:
        return read_quantity(raw, comparator, field)
    return read_category(variable, raw, field)


def read_category(variable: Variable, raw: object, field: str) -> str:
    """The category of `variable` that `raw` names, in any case and the spellings that laboratories use.

    Grades of a test strip are ``negative``, ``trace`` (``±``), ``1+`` (``+``, ``+1``) to ``4+``; ``small``,
    ``moderate`` and ``large`` are the first three of them.

    Raises
    ------
    InputError
        Where it names none of them.
    """
    text = _folded(raw)
    known = {_folded(category): category for category in variable.categories}
    if text in known:
        return known[text]
    if text is not None:
        whole = _whole(text)
        for candidate in [whole, *_spelled(variable, whole)]:
            if candidate in known:
                return known[candidate]
    shown = raw if isinstance(raw, str | bool | int | float) else type(raw).__name__
    raise InputError(f"{field}.value", shown, f"must be one of {_named(variable.categories)}")


def _named(categories: Sequence[str]) -> str:
    """The first of them where there are many: a warning is read by people."""
    shown = ", ".join(categories[:_MOST_NAMED])
    return shown if len(categories) <= _MOST_NAMED else f"{shown} and {len(categories) - _MOST_NAMED} more"


def _folded(raw: object) -> str | None:
    if isinstance(raw, bool):
        return "yes" if raw else "no"
    if isinstance(raw, int | float):
        return f"{raw:g}"
    if not isinstance(raw, str):
        return None
    text = unicodedata.normalize("NFKC", raw).replace("−", "-").replace("–", "-").casefold()
    return re.sub(r"\s+", " ", text).strip().rstrip(".")


def _whole(text: str) -> str:
    """``1`` for ``1.0``, as tables write a whole number in a column with gaps."""
    found = _WHOLE.fullmatch(text)
    return found[1] if found else text


def _spelled(variable: Variable, text: str) -> list[str]:
    """What `text` may be meant as, in lower case, likeliest first."""
    if variable.kind is Kind.YES_NO:
        return [*(["yes"] if text in _YES else []), *(["no"] if text in _NO else [])]
    if text in _TRACE:
        return ["trace"]
    meant = []
    if grade := _GRADE.fullmatch(text):
        meant.append(f"{grade[1] or grade[2] or len(grade[3])}+")
    if text in _SIZES:
        meant.append(_SIZES[text])
    if text in _POSITIVE or meant:
        meant.append("positive")
    if text in _NEGATIVE or (text in _NORMAL and "negative" in variable.normal_categories):
        meant.append("negative")
    if blood := _BLOOD_GROUP.fullmatch(text):
        meant.append(_blood_group(blood[1] or "", blood[2] or ""))
    return meant


def _blood_group(letters: str, sign: str) -> str:
    rhesus = "" if not sign else "positive" if sign in ("positive", "pos", "+") else "negative"
    return f"{letters.replace('0', 'o')} {rhesus}".strip()
