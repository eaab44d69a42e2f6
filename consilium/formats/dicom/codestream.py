"""What a JPEG, JPEG-LS or JPEG 2000 stream says about itself, read without decoding it.

A native codec allocates what the stream declares, not what the DICOM header declares. Both are compared before any
decoder sees the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.domain.errors import UnreadableImage

_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
STREAM_STARTS = (_START_OF_IMAGE, _START_OF_CODESTREAM, _JP2_SIGNATURE)

# T.81 table B.1: SOF0..15 without DHT, JPG and DAC; T.87: SOF55.
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """Size and sample format declared by a compressed stream; `precision` in bits."""

    rows: int
    columns: int
    components: int
    precision: int


def _broken(rule: str) -> UnreadableImage:
    return UnreadableImage("PixelData", "compressed stream", rule)


def read_stream_header(stream: bytes) -> StreamHeader:
    """Header of a JPEG family stream.

    Raises
    ------
    UnreadableImage
        Neither JPEG, JPEG-LS nor JPEG 2000, or broken before the frame header.

    Source: ITU-T T.81 annex B (JPEG), T.87 annex C (JPEG-LS), T.800 annex A.5.1 (JPEG 2000 SIZ).
    """
    try:
        if stream.startswith(_START_OF_IMAGE):
            return _jpeg_header(stream)
        if stream.startswith(_JP2_SIGNATURE):
            stream = stream[stream.index(_START_OF_CODESTREAM) :]
        if stream.startswith(_START_OF_CODESTREAM):
            return _jpeg2000_header(stream)
    except (IndexError, ValueError):
        raise _broken("must hold a complete frame header") from None
    raise _broken("must be a JPEG, JPEG-LS or JPEG 2000 stream")


def check_end_of_image(stream: bytes) -> None:
    """Raise `UnreadableImage` where a JPEG or JPEG-LS stream does not end with its end-of-image marker.

    Some decoders fill up what is missing of a stream that was cut off and report success.
    """
    if not stream.rstrip(b"\x00\xff").endswith(_END_OF_IMAGE):
        raise _broken("must end with an end-of-image marker")


def _u16(stream: bytes, offset: int) -> int:
    return stream[offset] << 8 | stream[offset + 1]


def _u32(stream: bytes, offset: int) -> int:
    return _u16(stream, offset) << 16 | _u16(stream, offset + 2)


def _jpeg_header(stream: bytes) -> StreamHeader:
    offset = 2
    while True:
        if stream[offset] != 0xFF:
            raise ValueError
        while stream[offset] == 0xFF:
            offset += 1
        marker = stream[offset]
        offset += 1
        if marker in _STANDALONE:
            continue
        if marker in _FRAME_HEADERS:
            rows, columns = _u16(stream, offset + 3), _u16(stream, offset + 5)
            return StreamHeader(rows, columns, components=stream[offset + 7], precision=stream[offset + 2])
        length = _u16(stream, offset)
        if length < 2:
            raise ValueError
        offset += length


def _jpeg2000_header(stream: bytes) -> StreamHeader:
    right, bottom, left, top = (_u32(stream, offset) for offset in (8, 12, 16, 20))
    components = _u16(stream, 40)
    precision = max((stream[42 + 3 * i] & 0x7F) + 1 for i in range(components))
    return StreamHeader(bottom - top, right - left, components, precision)
