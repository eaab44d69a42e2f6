"""Stored values become display values: modality LUT, VOI LUT or window, photometric interpretation.

Every step depends on one pixel's word alone, so the whole chain is worked out once for each of the 256 or 65536 words
there can be, exactly, and looked up per pixel. Source: DICOM PS3.3 C.11.1, C.11.2, C.7.6.3.1.2; PS3.4 N.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from consilium.domain.errors import UnreadableImage, UnsupportedMedia
from consilium.formats.decimals import AMBIGUOUS
from consilium.formats.dicom.elements import ambiguous, decimal, decimals, text, whole_number
from consilium.formats.dicom.pixels import PixelFormat
from consilium.formats.square_pixels import is_constant

Floats = npt.NDArray[np.float64]
Display = npt.NDArray[np.uint16]

_WHITE = 65535
_CHUNK = 2**18
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601, which YBR_FULL's Y is made of (PS3.3 C.7.6.3.1.2)."""
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_SHADOWS, _HIGHLIGHTS = 0.001, 0.999
"""Share of pixels clipped at either end where a file has no window: markers and dead pixels, not anatomy."""


@dataclass(frozen=True, slots=True, eq=False)
class DisplayValues:
    """A frame as a viewer would first display it.

    Attributes
    ----------
    display : uint16 [H, W]
        0 black to 65535 white.
    table : uint16 [256] or [65536], or None
        The display value of each pixel word; None of colours, where none has one by itself.
    padding : bool [256] or [65536]
        Which words pad the image; they are black.
    warnings : tuple of str
        What of the header was not taken as it stands.
    """

    display: Display
    table: Display | None
    padding: npt.NDArray[np.bool_]
    warnings: tuple[str, ...]


def display_values(words: npt.NDArray[Any], photometric: str, pixels: PixelFormat, dataset: Dataset) -> DisplayValues:
    """Display values of a frame, and of each word that it could have.

    Parameters
    ----------
    words : uint8 or uint16, [H, W] or [H, W, 3]
        Pixel words.
    photometric : str
        Photometric interpretation in which `words` are.

    Raises
    ------
    UnreadableImage
        A window or table that is malformed, or that hides the whole image.
    """
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        return _grey(words, photometric, pixels, dataset)
    none = np.zeros(2**pixels.bits_allocated, dtype=np.bool_)
    if photometric == "PALETTE COLOR":
        luminances, doubts = _palette_luminance(pixels, dataset)
        return DisplayValues(_looked_up(luminances, words), luminances, none, doubts)
    values = pixels.stored(words)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        luminance = values if values.ndim == 2 else values[..., 0]
    else:
        luminance = values.astype(np.float32) @ _LUMINANCE
    white = 2**pixels.bits_stored - 1
    display = np.rint(np.clip(luminance.astype(np.float32) / white, 0, 1) * _WHITE).astype(np.uint16)
    return DisplayValues(display, None, none, ())


def _grey(words: npt.NDArray[Any], photometric: str, pixels: PixelFormat, dataset: Dataset) -> DisplayValues:
    domain = _domain(pixels)
    padding = _padding(domain, pixels, dataset)
    quantities = _modality(pixels.stored(domain).astype(np.float64), pixels, dataset)
    inverted, warnings = _inverted(photometric, dataset)
    for prescribed, doubts in _voi(quantities, pixels, dataset):
        warnings += doubts
        shown = _unprescribed(quantities, words, padding, pixels, dataset) if prescribed is None else prescribed
        table = np.rint((1 - shown if inverted else shown) * _WHITE).astype(np.uint16)
        table[padding] = 0
        display = _looked_up(table, words)
        if not is_constant(display) or _uniform(words, quantities, padding):
            return DisplayValues(display, table, padding, warnings)
        warnings += ("WindowCenter: the window hides the whole image, and was passed over",)
    element = "VOILUTSequence" if dataset.get("VOILUTSequence") else "WindowCenter"
    window = f"{text(dataset, 'WindowCenter')} / {text(dataset, 'WindowWidth')}"[:40]
    raise UnreadableImage(element, window, "must not hide the whole image")


def quantity_scale(dataset: Dataset) -> tuple[float, float] | None:
    """Slope and intercept by which stored values are quantities; None where a table says what they are.

    Of a data set whose `display_values` were found.
    """
    if dataset.get("ModalityLUTSequence"):
        return None
    slope, intercept = decimal(dataset, "RescaleSlope"), decimal(dataset, "RescaleIntercept")
    return 1.0 if slope is None else slope, intercept or 0.0


def windows(dataset: Dataset) -> list[tuple[float, float]]:
    """Centre and width of every window of the file that can be, in quantities."""
    doubtful = ambiguous(dataset, "WindowCenter") | ambiguous(dataset, "WindowWidth")
    pairs = zip(decimals(dataset, "WindowCenter"), decimals(dataset, "WindowWidth"), strict=False)
    return [
        (center, width)
        for number, (center, width) in enumerate(pairs)
        if center is not None and width is not None and width > 0 and number not in doubtful
    ]


def _inverted(photometric: str, dataset: Dataset) -> tuple[bool, tuple[str, ...]]:
    """Whether the smallest value is white: as Presentation LUT Shape says, if anything; PS3.3 C.8.11.1.1.3, C.11.6."""
    inverted = photometric == "MONOCHROME1"
    shape = {"IDENTITY": False, "INVERSE": True}.get(text(dataset, "PresentationLUTShape").upper(), inverted)
    if shape == inverted:
        return inverted, ()
    return shape, (f"PresentationLUTShape: contradicts PhotometricInterpretation {photometric}, and was followed",)


def _domain(pixels: PixelFormat) -> npt.NDArray[Any]:
    """Every word there can be."""
    return np.arange(2**pixels.bits_allocated, dtype=f"u{pixels.bits_allocated // 8}")


def _counts(words: npt.NDArray[Any], values: int) -> npt.NDArray[np.int64]:
    """How often each of so many values occurs; in pieces, because `bincount` widens what it counts."""
    flat = np.ascontiguousarray(words).reshape(-1)
    pieces = (flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK))
    return sum((np.bincount(piece, minlength=values) for piece in pieces), np.zeros(values, np.int64))


def _looked_up(table: Display, words: npt.NDArray[Any]) -> Display:
    """``table[words]``, three times as fast: `take` widens its indices, which is done in the cache here."""
    display = np.empty(words.shape, dtype=np.uint16)
    source, target = np.ascontiguousarray(words).reshape(-1), display.reshape(-1)
    for start in range(0, len(source), _CHUNK):
        piece = slice(start, start + _CHUNK)
        np.take(table, source[piece], mode="clip", out=target[piece])
    return display


def _uniform(words: npt.NDArray[Any], quantities: Floats, padding: npt.NDArray[np.bool_]) -> bool:
    """Whether an image is uniform as it is stored."""
    present = np.unique(words)
    return len(np.unique(quantities[present[~padding[present]]])) <= 1


def _padding(domain: npt.NDArray[Any], pixels: PixelFormat, dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Which words pad the image (PS3.3 C.7.5.1.1.2), as the whole word or as the value stored in it."""
    if "PixelPaddingValue" not in dataset or not text(dataset, "PixelPaddingValue"):
        return np.zeros(len(domain), dtype=np.bool_)
    low = whole_number(dataset, "PixelPaddingValue", -(2**15), 2**16 - 1)
    high = whole_number(dataset, "PixelPaddingRangeLimit", -(2**15), 2**16 - 1, default=low)
    # As unsigned words, where a negative number may have been read as a large one.
    padding = np.zeros(len(domain), dtype=np.bool_)
    padding[np.arange(min(low, high), max(low, high) + 1) % len(domain)] = True
    return padding | padding[pixels.stored(domain).view(domain.dtype)]


def _has_modality(dataset: Dataset) -> bool:
    rescaled = decimal(dataset, "RescaleSlope") not in (None, 1) or decimal(dataset, "RescaleIntercept") not in (
        None,
        0,
    )
    return bool(dataset.get("ModalityLUTSequence")) or rescaled


def _modality(stored: Floats, pixels: PixelFormat, dataset: Dataset) -> Floats:
    if dataset.get("ModalityLUTSequence"):
        first, entries, _ = _lut(_first_item(dataset, "ModalityLUTSequence"), "LUT", pixels, pixels.signed)
        return _look_up(stored, first, entries)
    slope, intercept = decimal(dataset, "RescaleSlope"), decimal(dataset, "RescaleIntercept")
    if slope == 0:
        raise UnreadableImage("RescaleSlope", 0, "must not be zero")
    if ambiguous(dataset, "RescaleIntercept"):
        raise UnreadableImage("RescaleIntercept", text(dataset, "RescaleIntercept")[:20], AMBIGUOUS)
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _voi(quantities: Floats, pixels: PixelFormat, dataset: Dataset) -> Iterator[tuple[Floats | None, tuple[str, ...]]]:
    """Display fraction 0..1 of each quantity, and warnings: by the VOI LUT, or by each window that can be.

    Only None where the file prescribes no VOI transformation.
    """
    if dataset.get("VOILUTSequence"):
        signed = bool(np.any(quantities < 0))
        first, entries, bits = _lut(_first_item(dataset, "VOILUTSequence"), "LUT", pixels, signed)
        used = _bits_used(entries) or bits
        warnings = (f"VOILUTSequence: declares {bits} bits and uses {used}: scaled by these",) if used < bits else ()
        yield np.minimum(_look_up(quantities, first, entries) / (2**used - 1), 1), warnings
        return
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function not in _FUNCTIONS:
        raise UnreadableImage("VOILUTFunction", function[:16], f"must be {', '.join(_FUNCTIONS)}")
    pairs = zip(decimals(dataset, "WindowCenter"), decimals(dataset, "WindowWidth"), strict=False)
    doubtful = ambiguous(dataset, "WindowCenter") | ambiguous(dataset, "WindowWidth")
    impossible: list[str] = []
    warnings, possible = (), False
    for number, (center, width) in enumerate(pairs):
        if center is None or width is None:
            continue
        if number in doubtful:
            warnings = (f"WindowCenter and WindowWidth: passed over, {AMBIGUOUS}",)
        elif width >= 1 if function == "LINEAR" else width > 0:
            yield _window(quantities, center, width, function), (*warnings, *_passed_over(impossible))
            warnings, impossible, possible = (), [], True
        else:
            impossible.append(f"{width:g}")
    if not possible:
        yield None, (*warnings, *_passed_over(impossible))


def _passed_over(widths: list[str]) -> tuple[str, ...]:
    return (f"WindowWidth: {', '.join(widths)} cannot be, and was passed over",) if widths else ()


def _bits_used(entries: Floats) -> int:
    """Bits that the entries need, which may be fewer than their table declares; one of 4096 is taken for 4095."""
    return (int(entries.max()) - 1).bit_length() if entries.max() > 1 else int(entries.max())


def _window(quantities: Floats, center: float, width: float, function: str) -> Floats:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (quantities - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (quantities > center).astype(np.float64)
    return np.clip((quantities - center) / width + 0.5, 0, 1)


def _unprescribed(
    quantities: Floats,
    words: npt.NDArray[Any],
    padding: npt.NDArray[np.bool_],
    pixels: PixelFormat,
    dataset: Dataset,
) -> Floats:
    """Display fraction of each quantity where the file prescribes none."""
    if pixels.bits_stored == 8 and not pixels.signed and not _has_modality(dataset):
        return np.clip(quantities / 255, 0, 1)
    return _full_range(quantities, words, padding)


def _full_range(quantities: Floats, words: npt.NDArray[Any], padding: npt.NDArray[np.bool_]) -> Floats:
    """Display fraction over the range that the image uses, without its padding and its rarest extremes."""
    counts = _counts(words, len(quantities))
    counts[padding] = 0
    used = np.flatnonzero(counts)
    if not len(used):
        return np.zeros_like(quantities)
    order = used[np.argsort(quantities[used], kind="stable")]
    reached = np.cumsum(counts[order]) / counts.sum()
    low = quantities[order[np.searchsorted(reached, _SHADOWS, side="right")]]
    high = quantities[order[np.searchsorted(reached, _HIGHLIGHTS)]]
    if low == high:
        low, high = quantities[order[0]], quantities[order[-1]]
    if low == high:
        return np.zeros_like(quantities)
    return np.clip((quantities - low) / (high - low), 0, 1)


def _first_item(dataset: Dataset, keyword: str) -> Dataset:
    item = dataset[keyword].value[0]
    if not isinstance(item, Dataset):
        raise UnreadableImage(keyword, type(item).__name__, "must be a sequence")
    return item


def _lut(item: Dataset, prefix: str, pixels: PixelFormat, signed: bool) -> tuple[int, Floats, int]:
    """First mapped value, entries, and bits per entry of a lookup table (PS3.3 C.11.1.1, C.7.6.3.1.5)."""
    descriptor_keyword, data_keyword = f"{prefix}Descriptor", f"{prefix}Data"
    try:
        count, first, bits = (int(number) for number in item[descriptor_keyword].value)
    except (KeyError, TypeError, ValueError):
        raise UnreadableImage(
            descriptor_keyword, text(item, descriptor_keyword)[:20], "must be three numbers"
        ) from None
    if signed and first > 2**15 - 1:
        first -= 2**16
    count = count or 2**16
    if not 0 < count <= 2**16 or not 8 <= bits <= 16:
        raise UnreadableImage(descriptor_keyword, f"{count} x {bits} bits", "must be at most 65536 of 8 to 16 bits")
    data = item.get(data_keyword)
    if isinstance(data, bytes):
        order = ">" if pixels.transfer_syntax == uid.ExplicitVRBigEndian else "<"
        bytewise = bits == 8 and count <= len(data) <= count + 1
        entries = np.frombuffer(
            data[: len(data) // 2 * 2] if not bytewise else data, "u1" if bytewise else f"{order}u2"
        )
        # The byte that makes an odd size even may be anything.
        entries = entries[:count] if bytewise else entries
    else:
        entries = np.atleast_1d(np.asarray([] if data is None else data, dtype=np.int64))
    if len(entries) < count or np.any(entries[count:]):
        raise UnreadableImage(data_keyword, f"{len(entries)} entries", f"must have {count}, as its descriptor declares")
    entries = entries[:count]
    if entries.min() < 0 or entries.max() >= 2**bits:
        raise UnreadableImage(data_keyword, int(entries.max()), f"must hold values of {bits} bits")
    return first, entries.astype(np.float64), bits


def _look_up(quantities: Floats, first: int, entries: Floats) -> Floats:
    return entries[np.clip(np.floor(quantities) - first, 0, len(entries) - 1).astype(np.intp)]


def _palette_luminance(pixels: PixelFormat, dataset: Dataset) -> tuple[Display, tuple[str, ...]]:
    """Display value of each word of a palette image; and warnings."""
    if "RedPaletteColorLookupTableData" not in dataset:
        raise UnsupportedMedia("RedPaletteColorLookupTableData", None, "must be present, and not segmented")
    stored = pixels.stored(_domain(pixels)).astype(np.float64)
    luminance = np.zeros_like(stored)
    tables = [_lut(dataset, f"{colour}PaletteColorLookupTable", pixels, False) for colour in ("Red", "Green", "Blue")]
    # Writers fill tables that are declared to have 16 bits with entries of 8.
    narrow = all(entries.max() <= 255 < 2**bits - 1 for _, entries, bits in tables)
    for (first, entries, bits), weight in zip(tables, _LUMINANCE.tolist(), strict=True):
        luminance += weight * _look_up(stored, first, entries) / (2 ** (8 if narrow else bits) - 1)
    warnings = "PaletteColorLookupTable: declares more than 8 bits and uses 8: scaled by these"
    return np.rint(np.clip(luminance, 0, 1) * _WHITE).astype(np.uint16), (warnings,) if narrow else ()
