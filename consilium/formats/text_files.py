"""Text files that an option of a command names."""

from __future__ import annotations

from pathlib import Path

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError

_MOST_BYTES = 1 << 24


def read_text(path: Path, option: str) -> str:
    """The text of the file that `option` names, or `InputError`."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(option, path.name, f"must have at most {_MOST_BYTES} bytes")
        return decode_text(path.read_bytes(), option)
    except OSError as error:
        raise InputError(option, str(path), f"must be a readable file ({error.strerror})") from None
