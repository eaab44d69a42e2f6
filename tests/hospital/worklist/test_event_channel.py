"""Frames of a WebSocket in any pieces, and what no server may send."""

from __future__ import annotations

import pytest

from hospital.worklist.event_channel import ChannelBroken, FrameReader

SHORT, MEDIUM, LONG = b"x" * 125, b"y" * 126, b"z" * 70_000
FRAMES = (
    b"\x01\x7d" + SHORT
    + b"\x80\x7e\x00\x7e" + MEDIUM
    + b"\x81\x7f" + (70_000).to_bytes(8, "big") + LONG
    + b"\x89\x00"
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 4096, len(FRAMES)])
def test_frames_are_the_same_in_whatever_pieces_they_come(size: int) -> None:
    reader = FrameReader()
    found = [one for start in range(0, len(FRAMES), size) for one in reader.feed(FRAMES[start : start + size])]
    assert found == [(1, False, SHORT), (0, True, MEDIUM), (1, True, LONG), (9, True, b"")]


@pytest.mark.parametrize(
    "sent", [b"\x81\x81abcdx", b"\xc1\x00", b"\x81\x7f" + (1 << 40).to_bytes(8, "big")], ids=["masked", "rsv", "huge"]
)
def test_what_no_server_may_send_ends_the_channel(sent: bytes) -> None:
    with pytest.raises(ChannelBroken):
        FrameReader().feed(sent)
