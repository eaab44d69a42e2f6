"""Bytes become text: Unicode with a byte order mark, or UTF-8; whatever else is refused by the name of what it is."""

from __future__ import annotations

import codecs

from consilium.domain.errors import InputError

_MARKED = (
    (codecs.BOM_UTF8, "UTF-8", "utf-8"),
    # Before UTF-16, whose little-endian mark this one begins with.
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16-be"),
)
_LOOKED_AT = 4096
_RULE = "must be text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark"


def decode_text(data: bytes, field: str) -> str:
    """The text of a file, without its byte order mark.

    An 8-bit encoding is refused and not guessed: the same bytes are other letters in Latin-1, Latin-2 and Cyrillic.

    Raises
    ------
    InputError
        With `field`, what the bytes seem to be, and the rule.
    """
    mark, name, codec = next((entry for entry in _MARKED if data.startswith(entry[0])), (b"", "UTF-8", "utf-8"))
    if not mark and (other := foreign_encoding(data)):
        raise InputError(field, other, _RULE)
    try:
        return data[len(mark) :].decode(codec)
    except UnicodeDecodeError:
        raise InputError(field, f"broken {name}", _RULE) from None


def foreign_encoding(data: bytes) -> str | None:
    """What `data` is encoded in, a name to show; None where that is UTF-8, with a mark or without."""
    for mark, name, _ in _MARKED[1:]:
        if data.startswith(mark):
            return name
    start = data[:_LOOKED_AT]
    # Most text has characters below 256, whose other byte is 0.
    halves = start[0::2].count(0), start[1::2].count(0)
    if len(start) >= 2 and max(halves) > len(start) // 4:
        return "UTF-16 or UTF-32 without a byte order mark"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "an 8-bit or East Asian encoding such as Latin-1, Windows-1252 or Shift JIS"
    return None


def without_mark(data: bytes) -> bytes:
    """UTF-8 `data` without the byte order mark that it may begin with (RFC 8259, section 8.1)."""
    return data.removeprefix(codecs.BOM_UTF8)
