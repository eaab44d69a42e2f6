"""Audit messages by syslog: RFC 5424 over TLS (RFC 5425), TCP (RFC 6587) or UDP (RFC 5426)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hospital.delivery.destinations import Refused, Unreachable
from hospital.store.state import QueuedDelivery

PRIORITY = 10 * 8 + 5
"""Facility security/authorisation, severity notice. Source: PS3.15 A.6."""
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"
_LONGEST_DATAGRAM = 65_000


def syslog_message(content: bytes, time: datetime, host: str, process: int) -> bytes:
    """`content` behind the header of RFC 5424.

    Parameters
    ----------
    time : datetime
        With an offset from UTC.
    host : str
        Name of this machine.
    process : int
        Its process ID.
    """
    header = f"<{PRIORITY}>1 {time.isoformat()} {host or '-'} consilium-gateway {process} {_MESSAGE_ID} - "
    return header.encode("ascii", "replace") + _BOM + content


@dataclass
class SyslogSender:
    """Sends what is queued to one repository; `hospital.delivery.destinations.DeliverySender`.

    Syslog has no acknowledgement: over TLS and TCP a message is sent when the connection has taken it, and one that
    the other side closed meanwhile is opened anew; over UDP nothing is known of what arrives.

    Parameters
    ----------
    tls : ssl.SSLContext, optional
        With `transport` ``tls``.
    seconds : float
        For a connection, and for a message to be taken.
    """

    host: str
    port: int
    transport: Literal["tls", "tcp", "udp"]
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    seconds: float = 20.0
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, queued: QueuedDelivery) -> None:
        """Send one message. Raises as the protocol says."""
        content = queued.delivery.content
        try:
            if self.transport == "udp":
                await self._datagram(content)
            else:
                async with asyncio.timeout(self.seconds):
                    await self._framed(content)
        except (OSError, TimeoutError) as error:
            await self.close()
            raise Unreachable(f"no connection ({type(error).__name__})") from None

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(streams[1].wait_closed(), self.seconds)

    async def _framed(self, content: bytes) -> None:
        """Octet counting: the length, a blank, the message."""
        if self._streams is not None and self._streams[0].at_eof():
            await self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
        writer = self._streams[1]
        writer.write(b"%d " % len(content) + content)
        await writer.drain()

    async def _datagram(self, content: bytes) -> None:
        if len(content) > _LONGEST_DATAGRAM:
            raise Refused(f"a message of {len(content)} bytes is too long for UDP")
        loop = asyncio.get_running_loop()
        family, kind, _, _, address = (await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM))[0]
        with socket.socket(family, kind) as sender:
            sender.setblocking(False)
            await loop.sock_sendto(sender, content, address)
