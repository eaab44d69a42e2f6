"""The MLLP listener: connections are bounded in number, size and time, and one bad frame costs no other."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address

import structlog

from consilium.domain.errors import TooLarge
from hospital.hl7.mllp import FrameReader, framed
from hospital.hl7.receiving import Receiver

_LOG = structlog.get_logger("hospital.hl7")
_READ_BYTES = 65536

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """How much one listener takes.

    Attributes
    ----------
    message_bytes : int
        Of one message; reports as PDF come within.
    connections, connections_per_address : int
        At once.
    idle_s : float
        How long a connection may say nothing between two messages.
    frame_s : float
        How long one message may take to arrive, one acknowledgement to be taken, and TLS to be agreed on.
    """

    message_bytes: int = 8 << 20
    connections: int = 64
    connections_per_address: int = 16
    idle_s: float = 3600.0
    frame_s: float = 60.0


@dataclass(frozen=True)
class Allowed:
    """A sender, the addresses that it may come from, and the certificate that it must show.

    Attributes
    ----------
    fingerprint : str, optional
        SHA-256, in lower-case hex, of the certificate (DER).
    """

    receiver: Receiver
    networks: Sequence[Network]
    fingerprint: str | None = None

    def is_who(self, address: str, fingerprint: str | None) -> bool:
        """Whether a connection from `address`, with a certificate of that `fingerprint`, is this sender's."""
        shown = self.fingerprint in (None, fingerprint)
        return shown and any(ip_address(address) in network for network in self.networks)


@dataclass
class Listener:
    """A port for HL7 over MLLP.

    Parameters
    ----------
    host, port : str, int
        Where it listens; port 0 takes a free one, see `Listener.port`.
    senders : sequence of Allowed
        Who may connect. The first that has the address, and the certificate where it must show one, is who it is;
        others are refused.
    tls : ssl.SSLContext, optional
        With ``verify_mode`` ``CERT_REQUIRED`` senders need a certificate as well.
    alarm : callable
        Is told why, and from which address, somebody was refused; on a thread.
    """

    host: str
    port: int
    senders: Sequence[Allowed]
    limits: ListenerLimits = ListenerLimits()
    tls: ssl.SSLContext | None = None
    alarm: Callable[[str, str | None], None] = lambda *_: None
    counts: Counter[str] = field(default_factory=Counter)
    _open: Counter[str] = field(default_factory=Counter)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        OSError
            The address is in use, or none of this machine.
        """
        handshake = {"ssl_handshake_timeout": self.limits.frame_s} if self.tls else {}
        self._server = await asyncio.start_server(
            self._connected, self.host, self.port, ssl=self.tls, limit=_READ_BYTES, **handshake
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take no more connections, answer what has arrived, and close."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open_connections(self) -> int:
        return self._open.total()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        address = str(writer.get_extra_info("peername")[0]).partition("%")[0]
        try:
            receiver = self._admitted(address, _fingerprint(writer))
            if isinstance(receiver, Receiver):
                await self._served(reader, writer, receiver, address)
            else:
                await asyncio.to_thread(self.alarm, receiver, address)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), self.limits.frame_s)

    def _admitted(self, address: str, fingerprint: str | None) -> Receiver | str:
        """Who connects, or why nobody may."""
        sender = next((one for one in self.senders if one.is_who(address, fingerprint)), None)
        reason = None
        if sender is None:
            known = any(one.is_who(address, one.fingerprint) for one in self.senders)
            reason = "certificate not allowed" if known else "address not allowed"
        elif self.open_connections >= self.limits.connections:
            reason = "too many connections"
        elif self._open[address] >= self.limits.connections_per_address:
            reason = "too many connections from one address"
        if reason is None and sender is not None:
            return sender.receiver
        self.counts[str(reason)] += 1
        _LOG.warning("connection refused", reason=reason, address=address)
        return str(reason)

    async def _served(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver, address: str
    ) -> None:
        self._open[address] += 1
        reason = "closed"
        try:
            await self._exchange(reader, writer, receiver)
        except TooLarge as error:
            reason = error.rule
        except TimeoutError:
            reason = "timed out"
        except OSError:
            reason = "broken"
        finally:
            self._open[address] -= 1
            self._open += Counter()  # Drops the addresses that have none.
        if reason != "closed":
            self.counts[reason] += 1
            _LOG.info("connection ended", reason=reason, source=receiver.source.name)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        """Read frames and answer each before the next, until the sender closes."""
        frames = FrameReader(self.limits.message_bytes)
        now = asyncio.get_running_loop().time
        due = now() + self.limits.idle_s
        while True:
            began = frames.within
            async with asyncio.timeout_at(due):
                data = await reader.read(_READ_BYTES)
            if not data:
                return
            ended = frames.feed(data)
            for frame in ended:
                answer = await asyncio.to_thread(receiver.receive, frame)
                if answer is not None:
                    writer.write(framed(answer))
                async with asyncio.timeout(self.limits.frame_s):
                    await writer.drain()
            if not frames.within:
                due = now() + self.limits.idle_s
            elif ended or not began:
                due = now() + self.limits.frame_s


def _fingerprint(writer: asyncio.StreamWriter) -> str | None:
    connection = writer.get_extra_info("ssl_object")
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    return sha256(shown).hexdigest() if shown else None
