"""MLLP frames: ``<VT> message <FS><CR>``, taken from bytes that arrive in any portions, and put around a message.

Source: HL7, Transport Specification MLLP, Release 1. What the field adds: frames without a start or an end, text
between frames, vertical tabs within a message. None of it may cost the frame that follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.domain.errors import TooLarge

START = b"\x0b"
END = b"\x1c\x0d"
_RESTART = START + b"MSH"
_BETWEEN = b"\r\n \t\x00"
"""Senders end frames with more line ends than one, and keep connections open with blanks."""
HEAD = 4096
"""Bytes of a frame beyond the limit that are kept: its MSH segment, for the acknowledgement."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood in one frame.

    Attributes
    ----------
    content : bytes
        The message; of one beyond the limit its first `HEAD` bytes.
    whole : bool
        Whether `content` is all of it.
    """

    content: bytes
    whole: bool = True


def framed(message: bytes) -> bytes:
    """`message` in a frame; `ValueError` where it holds the bytes that end one."""
    if END in message:
        raise ValueError("a message must not hold the bytes that end its frame")
    return START + message + END


class FrameReader:
    """Frames out of one connection's bytes.

    Parameters
    ----------
    most_bytes : int
        Of one frame. A longer one is passed over without being stored, and given with `Frame.whole` false.
    most_between : int
        Bytes in a row that belong to no frame; whoever sends more does not speak MLLP.
    """

    def __init__(self, most_bytes: int, most_between: int = 65536) -> None:
        self._most_bytes = most_bytes
        self._head_bytes = min(HEAD, most_bytes)
        self._most_between = most_between
        self._held = bytearray()
        self._searched = 0
        self._between = 0
        self._head = b""
        self._dropped = 0
        self.within = False
        """Whether a frame has begun that has not ended."""
        self.abandoned = 0
        """How many frames were broken off by the begin of the next."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in `data`.

        Raises
        ------
        TooLarge
            Too many bytes that belong to no frame; the connection should be closed.
        """
        self._held += data
        frames: list[Frame] = []
        while self._held:
            if not self.within and not self._begin():
                break
            frame = self._end()
            if frame is None:
                break
            frames.append(frame)
        return frames

    def _begin(self) -> bool:
        """Drop what stands before a frame; whether there is one."""
        start = self._held.find(START)
        before = self._held if start < 0 else self._held[:start]
        self._between += len(before.strip(_BETWEEN))
        if self._between > self._most_between:
            raise TooLarge("mllp", f"{self._between} bytes outside of frames", f"must be at most {self._most_between}")
        if start < 0:
            self._held.clear()
            return False
        self._start_after(start + len(START))
        self._between = 0
        return True

    def _start_after(self, position: int) -> None:
        del self._held[:position]
        self.within, self._searched, self._dropped, self._head = True, 0, 0, b""

    def _end(self) -> Frame | None:
        """The frame that has begun, once its end is there."""
        end = self._held.find(END, self._searched)
        stop = end if end >= 0 else len(self._held)
        restart = self._held.rfind(_RESTART, self._searched, stop)
        if restart >= 0:
            self.abandoned += self._held.count(_RESTART, self._searched, stop)
            self._start_after(restart + len(START))
            return self._end()
        if end < 0:
            # An end or a new start may be split between two reads.
            self._searched = max(0, len(self._held) - len(_RESTART) + 1)
            self._drop_excess()
            return None
        whole = self._dropped + end <= self._most_bytes
        content = bytes(self._held[:end]) if whole else self._head or bytes(self._held[: self._head_bytes])
        del self._held[: end + len(END)]
        self.within = False
        return Frame(content, whole)

    def _drop_excess(self) -> None:
        """Of a frame beyond the limit, keep the head and what is to be searched again."""
        if self._dropped + self._searched <= self._most_bytes:
            return
        self._head = self._head or bytes(self._held[: self._head_bytes])
        self._dropped += self._searched
        del self._held[: self._searched]
        self._searched = 0
