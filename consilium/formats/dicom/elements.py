"""Single elements of a DICOM data set: text, and numbers as the file writes them.

pydicom reads decimal and integer strings (DS, IS) with Python's ``float`` and ``int``, keeps as text what these refuse
(``1,9``), and takes ``1_000``; so strings of numbers are read here from the file's own bytes. Source: PS3.5 6.2.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from consilium.domain.errors import UnreadableImage
from consilium.formats.decimals import RULE, comma_warning, may_divide_thousands, parse_decimal

_BINARY = frozenset(("FL", "FD", "SS", "US", "SL", "UL", "SV", "UV"))
_STRINGS = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UT"))
_LARGE = frozenset(("RescaleIntercept", "WindowCenter", "WindowWidth"))
"""Elements whose values reach the thousands."""


def text(dataset: Dataset, keyword: str) -> str:
    """Value of an element as text; empty where it is absent or a sequence.

    Raises
    ------
    UnreadableImage
        The value cannot be of its kind.
    """
    value = _value(dataset, keyword)
    if value is None or isinstance(value, bytes | Dataset) or keyword.endswith("Sequence"):
        return ""
    return str(value).strip(" \x00")


def sequence_items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent, malformed or of another kind than its keyword says."""
    try:
        value: object = dataset.get(keyword)
        return [item for item in value if isinstance(item, Dataset)] if isinstance(value, MutableSequence) else []
    except Exception:  # whatever pydicom raises on a broken sequence
        return []


def decimals(dataset: Dataset, keyword: str) -> tuple[float | None, ...]:
    r"""Every value of a numeric element, None for an empty one; ``1.5\2`` is two of them.

    Raises
    ------
    UnreadableImage
        A value that is no number as a whole.
    """
    numbers: list[float | None] = []
    for shown in _written(dataset, keyword):
        number = parse_decimal(shown) if shown else None
        if shown and number is None:
            raise UnreadableImage(keyword, shown[:20], RULE)
        numbers.append(None if number is None else number.value)
    return tuple(numbers)


def decimal(dataset: Dataset, keyword: str) -> float | None:
    """The one value of a numeric element; None where it is absent or empty.

    Raises
    ------
    UnreadableImage
        A value that is no number as a whole, or several.
    """
    written = decimals(dataset, keyword)
    if len(written) > 1:
        raise UnreadableImage(keyword, f"{len(written)} values", "must be one number")
    return written[0] if written else None


def ambiguous(dataset: Dataset, keyword: str) -> frozenset[int]:
    """Positions of the values whose comma may be a decimal one and may divide the thousands."""
    if keyword not in _LARGE:
        return frozenset()
    return frozenset(i for i, shown in enumerate(_written(dataset, keyword)) if may_divide_thousands(shown))


def whole_number(dataset: Dataset, keyword: str, low: int, high: int, default: int | None = None) -> int:
    """Value of an integer element within ``[low, high]``; `UnreadableImage` where it is not."""
    shown = _written(dataset, keyword)
    if not any(shown) and default is not None and keyword not in dataset:
        return default
    number = parse_decimal(shown[0]) if len(shown) == 1 else None
    if number is None or number.comma or not number.value.is_integer() or not low <= number.value <= high:
        raise UnreadableImage(keyword, "\\".join(shown)[:20], f"must be a whole number from {low} to {high}")
    return int(number.value)


def comma_warnings(dataset: Dataset, keywords: Iterable[str]) -> tuple[str, ...]:
    """The warnings of those of the elements that are written with a decimal comma."""
    return tuple(
        comma_warning(keyword)
        for keyword in keywords
        if any(
            (number := parse_decimal(shown)) and number.comma
            for i, shown in enumerate(_written(dataset, keyword))
            if i not in ambiguous(dataset, keyword)
        )
    )


def _written(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a numeric element as the file writes them, without their padding."""
    element: object = dataset.get_item(keyword)
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and _is_text(element):
        return tuple(part.strip(" \x00") for part in element.value.decode("latin-1").split("\\"))
    value = _value(dataset, keyword)
    if value is None:
        return ()
    values = list(value) if isinstance(value, MutableSequence) else [value]
    return tuple(str(one).strip(" \x00") for one in values)


def _is_text(element: RawDataElement) -> bool:
    if element.VR in _STRINGS:
        return True
    return element.VR not in _BINARY and dictionary_VR(element.tag) in _STRINGS


def _value(dataset: Dataset, keyword: str) -> object:
    try:
        return dataset.get(keyword)
    except Exception:  # whatever pydicom raises on a broken value
        raise UnreadableImage(keyword, "malformed", "must be a value of its kind") from None
