"""Sending over MLLP: one message at a time, each delivered once the receiver has said so."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field

from consilium.domain.errors import ConsiliumError, InputError, TooLarge
from hospital.hl7.acknowledgements import Answer
from hospital.hl7.messages import parse
from hospital.hl7.mllp import Frame, FrameReader, framed

_READ_BYTES = 65536
_LARGEST_ANSWER = 1 << 20


class NotDelivered(ConsiliumError):
    """A message was not accepted.

    Attributes
    ----------
    transient : bool
        Whether the same message may be accepted later. Otherwise a person must look.
    """

    def __init__(self, reason: str, *, transient: bool) -> None:
        super().__init__(reason)
        self.transient = transient


@dataclass
class Sender:
    """A connection to one receiver, opened when it is needed and kept.

    Parameters
    ----------
    tls : ssl.SSLContext, optional
    connect_s, answer_s : float
        How long connecting and the acknowledgement may take.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    connect_s: float = 10.0
    answer_s: float = 30.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, message: bytes) -> None:
        """Deliver one message; in the enhanced mode its receiver has then stored it (CA).

        What was sent without an answer may have arrived: sent again with the same MSH-10 a receiver knows it.

        Raises
        ------
        NotDelivered
        """
        control_id = parse(message).control_id
        async with self._lock:
            try:
                answer = await self._answered(message, control_id)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                await self._close()
                reason = "no acknowledgement in time" if isinstance(error, TimeoutError) else "no connection"
                raise NotDelivered(f"{reason} ({type(error).__name__})", transient=True) from None
            except InputError as error:
                await self._close()
                raise NotDelivered(f"the answer is no acknowledgement: {error.rule}", transient=True) from None
            except BaseException:
                # Cancelled in the middle: a late answer must not be taken for that of the next message.
                await self._close()
                raise
        if not answer.accepted:
            raise NotDelivered(f"answered {answer.code} {answer.error_code}".strip(), transient=answer.may_pass_later)

    async def close(self) -> None:
        async with self._lock:
            await self._close()

    async def _answered(self, message: bytes, control_id: str) -> Answer:
        reader, writer = await self._connection()
        writer.write(framed(message))
        async with asyncio.timeout(self.answer_s):
            await writer.drain()
            frames = FrameReader(_LARGEST_ANSWER)
            while True:
                data = await reader.read(_READ_BYTES)
                if not data:
                    raise ConnectionResetError
                for frame in frames.feed(data):
                    if (answer := _answer(frame)) is not None and answer.control_id in (control_id, ""):
                        # Of what it cannot read a receiver knows no control id.
                        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The open connection, unless its receiver has closed it; else a new one."""
        if self._streams is not None and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            await self._close()
        if self._streams is None:
            async with asyncio.timeout(self.connect_s):
                self._streams = await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=_READ_BYTES)
        return self._streams

    async def _close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self.connect_s):
                    await streams[1].wait_closed()


def _answer(frame: Frame) -> Answer | None:
    if not frame.whole:
        raise TooLarge("acknowledgement", "too long", f"must be at most {_LARGEST_ANSWER} bytes")
    return Answer.of(parse(frame.content))
