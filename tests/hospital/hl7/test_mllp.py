from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.errors import TooLarge
from hospital.hl7.mllp import HEAD, Frame, FrameReader, framed

LIMIT = 8192
TEXTS = st.binary(max_size=60).filter(
    lambda text: b"\x1c\x0d" not in text and b"\x0bMSH" not in text and text[-1:] != b"\x1c"
)
BETWEEN = st.sampled_from([b"", b"\r", b"\n", b"garbage", b"\x1c\x0d", b"GET / HTTP/1.1\r\n"])


def read(data: bytes, cuts: list[int], limit: int = LIMIT) -> list[Frame]:
    """The frames of `data` when it arrives cut at these places."""
    reader = FrameReader(limit)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [frame for start, stop in itertools.pairwise(places) for frame in reader.feed(data[start:stop])]


@given(st.lists(st.tuples(BETWEEN, TEXTS), max_size=6), st.lists(st.integers(0, 400)))
def test_frames_are_read_however_they_are_split(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(between + framed(text) for between, text in sent)
    assert read(data, cuts) == [Frame(text) for _, text in sent]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_any_bytes_give_the_same_frames_in_any_portions(data: bytes, cuts: list[int]) -> None:
    assert read(data, cuts) == read(data, [])


@given(st.integers(0, 3 * LIMIT), st.lists(st.integers(0, 4 * LIMIT), max_size=20))
def test_a_frame_beyond_the_limit_keeps_its_head_and_costs_no_other(size: int, cuts: list[int]) -> None:
    long = b"MSH|^~\\&|" + b"x" * size
    frames = read(framed(long) + framed(b"MSH|next"), cuts)
    assert frames[-1] == Frame(b"MSH|next")
    assert frames[:-1] == [Frame(long) if len(long) <= LIMIT else Frame(long[:HEAD], whole=False)]


def test_a_frame_beyond_the_limit_is_not_held_in_memory() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(b"\x0b" + b"x" * (4 * LIMIT))
    for _ in range(50):
        reader.feed(b"x" * LIMIT)
    assert len(reader._held) < 8


@given(st.lists(st.integers(0, 3 * LIMIT), max_size=20), st.integers(0, 2 * LIMIT))
def test_a_frame_that_was_broken_off_does_not_cost_the_next(cuts: list[int], size: int) -> None:
    broken = b"\x0bMSH|^~\\&|" + b"y" * size
    assert read(broken + framed(b"MSH|whole"), cuts) == [Frame(b"MSH|whole")]


def test_a_vertical_tab_within_a_text_stays() -> None:
    assert read(framed(b"MSH|a\x0bb"), [4]) == [Frame(b"MSH|a\x0bb")]


def test_endless_bytes_outside_of_frames_are_refused() -> None:
    reader = FrameReader(LIMIT, most_between=100)
    assert reader.feed(b"\r\n" * 1000) == []
    reader.feed(b"z" * 100)
    with pytest.raises(TooLarge, match="101 bytes outside of frames"):
        reader.feed(b"z")


def test_a_message_that_holds_the_end_of_a_frame_is_not_framed() -> None:
    with pytest.raises(ValueError, match="must not hold"):
        framed(b"MSH\x1c\x0d")
