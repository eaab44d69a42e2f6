"""Syslog: framed as its RFCs say, over TLS, TCP and UDP; a repository that is away is unreachable and no more."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hospital.audit.syslog import SyslogSender, syslog_message
from hospital.delivery.destinations import Refused, Unreachable
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery
from tests.hospital.certificates import Authority

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MESSAGE = syslog_message("<a>Müller</a>".encode(), NOON, "gateway.example", 17)


def queued(content: bytes) -> QueuedDelivery:
    return QueuedDelivery(1, Delivery("k", "atna", "audit", content), DeliveryStage.WAITING, 0, NOON, NOON)


@asynccontextmanager
async def repository(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, asyncio.Queue[bytes]]]:
    """Its port, and the messages that it takes; it closes each connection after two."""
    taken: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            try:
                length = int(await reader.readuntil(b" "))
            except asyncio.IncompleteReadError:
                break
            taken.put_nowait(await reader.readexactly(length))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], taken


def test_a_message_has_the_header_of_rfc_5424() -> None:
    header, _, content = MESSAGE.partition(b"\xef\xbb\xbf")
    assert header == b"<85>1 2026-01-05T12:00:00+00:00 gateway.example consilium-gateway 17 DICOM+RFC3881 - "
    assert content.decode() == "<a>Müller</a>"


async def test_over_tcp_messages_are_counted_off_and_a_closed_connection_is_opened_anew() -> None:
    async with repository() as (port, taken):
        sender = SyslogSender("127.0.0.1", port, "tcp")
        for number in range(2):
            await sender.send(queued(MESSAGE + b"%d" % number))
        assert [await asyncio.wait_for(taken.get(), 60) for _ in range(2)] == [MESSAGE + b"0", MESSAGE + b"1"]
        assert sender._streams is not None
        await asyncio.wait_for(sender._streams[0].read(), 60)
        await sender.send(queued(MESSAGE + b"2"))
        assert await asyncio.wait_for(taken.get(), 60) == MESSAGE + b"2"
        await sender.close()


async def test_over_tls_the_repository_must_show_a_certificate_of_its_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    async with repository(authority.identity("repository").server()) as (port, taken):
        sender = SyslogSender("127.0.0.1", port, "tls", authority.identity("gateway").client())
        await sender.send(queued(MESSAGE))
        assert await asyncio.wait_for(taken.get(), 60) == MESSAGE
        await sender.close()
        other = SyslogSender("127.0.0.1", port, "tls", Authority(tmp_path / "other").identity("gateway").client())
        with pytest.raises(Unreachable):
            await other.send(queued(MESSAGE))


async def test_over_udp_a_message_is_a_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.settimeout(60)
        sender = SyslogSender("127.0.0.1", taken.getsockname()[1], "udp")
        await sender.send(queued(MESSAGE))
        assert await asyncio.to_thread(taken.recv, 65536) == MESSAGE
        with pytest.raises(Refused, match="too long for UDP"):
            await sender.send(queued(bytes(70_000)))


async def test_a_repository_that_is_away_is_unreachable() -> None:
    async with repository() as (port, _):
        pass
    with pytest.raises(Unreachable, match="no connection"):
        await SyslogSender("127.0.0.1", port, "tcp").send(queued(MESSAGE))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
