"""Bodies of other servers: as they are, within their bound, whoever reads them."""

from __future__ import annotations

import gzip

import httpx
import pytest

from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, read_body, read_body_async

URL = "https://server.example/"
BOMB = gzip.compress(gzip.compress(bytes(1 << 20)))


def answering(content: bytes, encoding: str | None = None) -> httpx.MockTransport:
    """A server that answers with these bytes, whatever the request accepts."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        headers = {} if encoding is None else {"Content-Encoding": encoding}
        return httpx.Response(200, headers=headers, stream=_Streamed(content))

    return httpx.MockTransport(answer)


class _Streamed(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self):
        yield from (self._content[start : start + 7] for start in range(0, len(self._content), 7))

    async def __aiter__(self):
        for piece in self:
            yield piece


def body(transport: httpx.MockTransport, most: int) -> bytes:
    with httpx.Client(transport=transport) as client, client.stream("GET", URL, headers=AS_THEY_ARE) as answer:
        return read_body(answer, most)


async def body_async(transport: httpx.MockTransport, most: int) -> bytes:
    async with (
        httpx.AsyncClient(transport=transport) as client,
        client.stream("GET", URL, headers=AS_THEY_ARE) as answer,
    ):
        return await read_body_async(answer, most)


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "refused"), [(100, False), (101, True)])
async def test_a_body_is_read_up_to_its_bound(size: int, refused: bool) -> None:
    content = bytes(range(size))
    if not refused:
        assert (body(answering(content), 100), await body_async(answering(content), 100)) == (content, content)
        return
    with pytest.raises(UnusableBody, match="is larger than 100 bytes"):
        body(answering(content), 100)
    with pytest.raises(UnusableBody, match="is larger than 100 bytes"):
        await body_async(answering(content), 100)


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "GZIP"])
async def test_what_is_compressed_is_refused_before_it_is_unpacked(encoding: str) -> None:
    with pytest.raises(UnusableBody, match="is compressed"):
        body(answering(BOMB, encoding), 1 << 30)
    with pytest.raises(UnusableBody, match="is compressed"):
        await body_async(answering(BOMB, encoding), 1 << 30)


def test_identity_is_no_compression() -> None:
    assert body(answering(b"{}", "identity"), 2) == b"{}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
