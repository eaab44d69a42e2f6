"""A WebSocket that is listened to, over a connection of httpx: texts that the other side sends. Source: RFC 6455."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from consilium.domain.errors import ConsiliumError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _CLOSE, _PING, _PONG = 0, 1, 8, 9, 10
_LARGEST = 1 << 20
_PIECE = 1 << 16
QUIET_S = 30.0
"""Then the other side is asked whether it is still there; after as long again it is not."""


class ChannelBroken(ConsiliumError):
    """The channel cannot be opened, or ended."""


@dataclass
class FrameReader:
    """Bytes in any pieces become frames: their opcode, whether a message ends with them, and their payload."""

    _held: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[tuple[int, bool, bytes]]:
        """The frames that are whole now.

        Raises
        ------
        ChannelBroken
            What came is no frame of a server, or one too large.
        """
        self._held += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> tuple[int, bool, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        if held[0] & 0x70 or held[1] & 0x80:
            raise ChannelBroken("a frame that no server may send")
        wide = {126: 2, 127: 8}.get(held[1], 0)
        start = 2 + wide
        if len(held) < start:
            return None
        size = int.from_bytes(held[2:start], "big") if wide else held[1]
        if size > _LARGEST:
            raise ChannelBroken("a frame that is too large")
        if len(held) < start + size:
            return None
        frame = held[0] & 0x0F, bool(held[0] & 0x80), bytes(held[start : start + size])
        del held[: start + size]
        return frame


async def texts(http: httpx.AsyncClient, url: str, quiet_s: float = QUIET_S) -> AsyncIterator[str]:
    """Every text that comes over a channel, until it ends; the first value, an empty one, says that it is open.

    Raises
    ------
    ChannelBroken
    """
    key = base64.b64encode(os.urandom(16))
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
    }
    expected = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    try:
        async with http.stream("GET", url, headers=asked) as answer:
            if answer.status_code != 101 or answer.headers.get("sec-websocket-accept") != expected:
                raise ChannelBroken(f"no channel was opened ({answer.status_code})")
            yield ""
            async for text in _received(answer.extensions["network_stream"], quiet_s):
                yield text
    except httpx.HTTPError as error:
        raise ChannelBroken(type(error).__name__) from None


async def _received(stream: Any, quiet_s: float) -> AsyncIterator[str]:
    reader, message = FrameReader(), bytearray()
    while True:
        for opcode, last, payload in reader.feed(await _read(stream, quiet_s)):
            if opcode == _CLOSE:
                raise ChannelBroken("the other side closed it")
            if opcode == _PING:
                await _write(stream, _PONG, payload)
            if opcode not in (_CONTINUATION, _TEXT):
                continue
            message += payload
            if len(message) > _LARGEST:
                raise ChannelBroken("a message that is too large")
            if last:
                yield message.decode(errors="replace")
                message.clear()


async def _read(stream: Any, quiet_s: float) -> bytes:
    """What comes next; whoever is quiet is asked once whether it is there."""
    for pinged in (False, True):
        try:
            data: bytes = await asyncio.wait_for(stream.read(_PIECE), quiet_s)
        except TimeoutError:
            if not pinged:
                await _write(stream, _PING, b"")
        except Exception as error:  # noqa: BLE001 - below httpx, connections have errors of their own
            raise ChannelBroken(type(error).__name__) from None
        else:
            if not data:
                raise ChannelBroken("the connection ended")
            return data
    raise ChannelBroken("the other side is gone")


async def _write(stream: Any, opcode: int, payload: bytes) -> None:
    try:
        await stream.write(_control(opcode, payload))
    except Exception as error:  # noqa: BLE001 - as in `_read`
        raise ChannelBroken(type(error).__name__) from None


def _control(opcode: int, payload: bytes) -> bytes:
    """A frame of a client, which is masked."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload[:125]))
    return bytes([0x80 | opcode, 0x80 | len(masked)]) + mask + masked
