"""What stands behind the question mark of an address."""

from __future__ import annotations

from starlette.datastructures import QueryParams

from consilium.domain.errors import InputError
from consilium.formats.sent_records import nearest_key


def require_known(given: QueryParams, *known: str) -> None:
    """Raise where a parameter is not `known`, or comes twice: what is misspelt would be passed over in silence.

    Raises
    ------
    InputError
    """
    for name in given:
        if name not in known:
            raise InputError(name[:40], "a query parameter", f"is unknown; did you mean {nearest_key(name, known)}?")
        if len(given.getlist(name)) > 1:
            raise InputError(name, "several", "must be given once")
