from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from hospital.hl7.listener import Allowed, Listener, ListenerLimits
from hospital.hl7.messages import parse
from hospital.hl7.mllp import FrameReader, framed
from hospital.hl7.receiving import Receiver
from hospital.hl7.sender import NotDelivered, Sender
from hospital.store.received import ReceivedObservation
from tests.hospital.certificates import Authority
from tests.hospital.hl7.sent_messages import LABORATORY, NOW, OBR, PID, MemoryInbox, message, result
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

USUAL = ListenerLimits()


@asynccontextmanager
async def listening(
    inbox: MemoryInbox,
    limits: ListenerLimits = USUAL,
    networks: Sequence[str] = ("127.0.0.0/8",),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Listener]:
    receiver = Receiver(LABORATORY, inbox, clock=lambda: NOW)
    allowed = [Allowed(receiver, [ip_network(one) for one in networks])]
    listener = Listener("127.0.0.1", 0, allowed, limits, tls)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


def numbered(number: int) -> bytes:
    return message(PID, OBR, result(str(number))).replace(b"|42|", f"|{number}|".encode())


async def answers(reader: asyncio.StreamReader, number: int) -> list[tuple[str, str]]:
    """The next acknowledgements: code and control id."""
    frames, found = FrameReader(65536), []
    while len(found) < number:
        data = await asyncio.wait_for(reader.read(65536), PATIENCE_S)
        assert data, "closed before the answer"
        found += [parse(frame.content).segments[1] for frame in frames.feed(data)]
    return [(one.text(1), one.text(2)) for one in found]


def values(inbox: MemoryInbox) -> list[float | None]:
    return [one.value for one in inbox.records if isinstance(one, ReceivedObservation)]


async def test_pipelined_messages_split_anywhere_are_answered_in_order() -> None:
    inbox = MemoryInbox()
    async with listening(inbox) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        data = b"".join(framed(numbered(number)) for number in range(5))
        for start in range(0, len(data), 61):
            writer.write(data[start : start + 61])
            await writer.drain()
        assert await answers(reader, 5) == [("AA", str(number)) for number in range(5)]
        writer.close()
    assert values(inbox) == [0, 1, 2, 3, 4]


async def test_a_bad_frame_does_not_block_the_next() -> None:
    inbox = MemoryInbox()
    async with listening(inbox, ListenerLimits(message_bytes=4096)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        bad = [b"\xff\xfe\x00garbage", b"", numbered(1) + b"x" * 5000, b"MSH|^~\\&|\xe4"]
        writer.write(b"noise" + b"".join(framed(one) for one in bad) + b"\x0bMSH|^~\\&|half" + framed(numbered(2)))
        assert await answers(reader, 5) == [("AR", ""), ("AR", ""), ("AR", "1"), ("AR", ""), ("AA", "2")]
        writer.close()
    assert values(inbox) == [2]


@pytest.mark.parametrize("sent", [b"", b"\x0bMSH|^~\\&|half"])
async def test_a_silent_connection_is_closed_and_others_go_on(sent: bytes) -> None:
    inbox = MemoryInbox()
    async with listening(inbox, ListenerLimits(idle_s=1, frame_s=1)) as listener:
        silent, held = await asyncio.open_connection("127.0.0.1", listener.port)
        held.write(sent)
        await Sender("127.0.0.1", listener.port).send(numbered(1))
        assert await asyncio.wait_for(silent.read(), PATIENCE_S) == b""
        assert listener.counts["timed out"] >= 1
        held.close()


async def test_a_frame_that_trickles_is_given_up() -> None:
    async with listening(MemoryInbox(), ListenerLimits(idle_s=60, frame_s=0.5)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"\x0b")
        closed = asyncio.create_task(reader.read())
        while not closed.done():
            writer.write(b"M")
            await asyncio.sleep(0.05)
        assert listener.counts == {"timed out": 1}
        writer.close()


async def test_what_speaks_no_mllp_is_closed() -> None:
    async with listening(MemoryInbox()) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\n" * 5000)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


async def test_an_address_that_is_not_allowed_is_closed_before_anything_is_read() -> None:
    async with listening(MemoryInbox(), networks=["10.0.0.0/8", "fd00::/8"]) as listener:
        with pytest.raises(NotDelivered, match="no connection"):
            await Sender("127.0.0.1", listener.port).send(numbered(1))
        assert listener.counts == {"address not allowed": 1}


async def test_connections_are_limited_and_free_again_once_closed() -> None:
    inbox = MemoryInbox()
    async with listening(inbox, ListenerLimits(connections_per_address=1)) as listener:
        first, second = (Sender("127.0.0.1", listener.port) for _ in range(2))
        await first.send(numbered(1))
        with pytest.raises(NotDelivered) as refused:
            await second.send(numbered(2))
        assert refused.value.transient
        await first.close()
        while listener.open_connections:
            await asyncio.sleep(0.01)
        await second.send(numbered(2))
        await second.close()
    assert values(inbox) == [1, 2]


async def test_a_port_in_use_is_an_error() -> None:
    async with listening(MemoryInbox()) as listener:
        with pytest.raises(OSError, match="in use"):
            await Listener("127.0.0.1", listener.port, []).start()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_over_tls_a_client_certificate_is_required(authority: Authority, tmp_path: Path) -> None:
    inbox = MemoryInbox()
    async with listening(inbox, tls=authority.identity("gateway").server()) as listener:
        sender = Sender("127.0.0.1", listener.port, tls=authority.identity("laboratory").client())
        await sender.send(numbered(1))
        await sender.close()
        unknown = Authority(tmp_path).identity("laboratory").client()
        unknown.load_verify_locations(authority.certificate)
        for tls in (None, ssl.create_default_context(cafile=str(authority.certificate)), unknown):
            with pytest.raises(NotDelivered) as refused:
                await Sender("127.0.0.1", listener.port, tls=tls, answer_s=5).send(numbered(2))
            assert refused.value.transient
    assert values(inbox) == [1]


async def test_a_certificate_tells_senders_of_one_address_apart_and_another_one_is_nobody(
    authority: Authority,
) -> None:
    known, other = authority.identity("ward"), authority.identity("clinic")
    inboxes = MemoryInbox(), MemoryInbox()
    local = [ip_network("127.0.0.0/8")]
    allowed = [
        Allowed(Receiver(LABORATORY, inbox, clock=lambda: NOW), local, one.fingerprint)
        for inbox, one in zip(inboxes, (known, other), strict=True)
    ]
    listener = Listener("127.0.0.1", 0, allowed, tls=authority.identity("gateway").server())
    await listener.start()
    try:
        for number, one in enumerate((known, other)):
            sender = Sender("127.0.0.1", listener.port, tls=one.client())
            await sender.send(numbered(number))
            await sender.close()
        third = authority.identity("stranger").client()
        with pytest.raises(NotDelivered):
            await Sender("127.0.0.1", listener.port, tls=third, answer_s=20).send(numbered(2))
        assert listener.counts == {"certificate not allowed": 1}
    finally:
        await listener.stop()
    assert [values(one) for one in inboxes] == [[0], [1]]


async def test_a_message_repeated_after_a_restart_is_stored_once() -> None:
    inbox = MemoryInbox()
    async with listening(inbox) as listener:
        sender = Sender("127.0.0.1", listener.port)
        await sender.send(numbered(1))
    async with listening(inbox) as again:
        sender.port = again.port
        await sender.send(numbered(1))
        await sender.close()
    assert values(inbox) == [1]


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A receiver that answers each message with the next of these, and closes after the last."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            for answer in answers:
                await reader.readuntil(b"\x1c\x0d")
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def acknowledged(code: str, control_id: str, more: str = "") -> bytes:
    return framed(f"MSH|^~\\&|R|H|C|R|20200301||ACK|9|P|2.5\rMSA|{code}|{control_id}{more}".encode())


@pytest.mark.parametrize(
    ("answer", "transient"),
    [
        (acknowledged("AE", "1"), False),
        (acknowledged("CE", "1"), False),
        (acknowledged("AR", "1"), True),
        (acknowledged("AR", "1", "\rERR|||200^x^HL70357|E"), False),
        (acknowledged("AR", ""), True),
        (framed(b"no message"), True),
        (b"", True),
    ],
)
async def test_what_is_not_accepted_is_told_apart(answer: bytes, transient: bool) -> None:
    async with answering(answer) as port:
        with pytest.raises(NotDelivered) as refused:
            await Sender("127.0.0.1", port).send(numbered(1))
        assert refused.value.transient is transient


async def test_an_answer_to_a_former_message_is_passed_over() -> None:
    async with answering(acknowledged("AE", "0") + acknowledged("AA", "1")) as port:
        await Sender("127.0.0.1", port).send(numbered(1))


async def test_no_answer_in_time_may_pass_later_and_leaves_no_connection_behind() -> None:
    async with answering(b"\x0bMSH|", acknowledged("AA", "1")) as port:
        sender = Sender("127.0.0.1", port, answer_s=0.2)
        with pytest.raises(NotDelivered, match="no acknowledgement in time"):
            await sender.send(numbered(1))
        assert sender._streams is None


async def test_nobody_listens() -> None:
    async with answering() as port:
        pass
    with pytest.raises(NotDelivered, match="no connection"):
        await Sender("127.0.0.1", port, connect_s=2).send(numbered(1))
