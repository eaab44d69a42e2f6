"""The bodies that other servers answer: as they are, within a bound."""

from __future__ import annotations

import httpx

AS_THEY_ARE = {"Accept-Encoding": "identity"}
"""Headers of a request: a few hundred compressed bytes may be gigabytes, which httpx unpacks before it gives them."""


class UnusableBody(ValueError):
    """A body is compressed, or too large; the message says what "the answer" does or is."""


def require_plain(answer: httpx.Response) -> None:
    """Refuse the body of an answer that is compressed on its way.

    Raises
    ------
    UnusableBody
    """
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnusableBody("is compressed, though the request forbids it")


def read_body(answer: httpx.Response, most: int) -> bytes:
    """The body of an answer that is being streamed.

    Parameters
    ----------
    most : int
        Bytes.

    Raises
    ------
    UnusableBody
    httpx.HTTPError
    """
    require_plain(answer)
    content = bytearray()
    for piece in answer.iter_bytes():
        content += piece
        _require_small(len(content), most)
    return bytes(content)


async def read_body_async(answer: httpx.Response, most: int) -> bytes:
    """As `read_body`."""
    require_plain(answer)
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        _require_small(len(content), most)
    return bytes(content)


def _require_small(size: int, most: int) -> None:
    if size > most:
        raise UnusableBody(f"is larger than {most} bytes")
