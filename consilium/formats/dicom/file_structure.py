"""The structure of a DICOM file: preamble, file meta information, transfer syntax, data set. No pixel is decoded here.

Files of old archives and of test equipment lack the preamble, or the file meta information too; how their data set is
encoded follows from its first element. Source: PS3.10 7.1, PS3.5 7.1 and A.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO

from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from consilium.domain.errors import TooLarge, UnreadableImage, UnsupportedMedia

_MAGIC = b"DICM"
_PREAMBLE = 128
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_BIG_ENDIAN_GROUP = b"\x00\x08"
_VRS = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)
_PIXEL_DATA = 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class DicomFile:
    """Some elements of a file.

    Attributes
    ----------
    dataset : Dataset
        Without Pixel Data that are not compressed.
    pixel_data : bytes or memoryview
        The value of Pixel Data; of those that are not compressed, which are large, no copy. Empty where there is none.
    pixel_data_vr : str or None
        OB or OW, where the file says so.
    """

    dataset: Dataset
    transfer_syntax: uid.UID
    pixel_data: bytes | memoryview
    pixel_data_vr: str | None


def is_dicom(data: bytes) -> bool:
    """Whether a file begins as DICOM does, with or without preamble and file meta information."""
    return _start(data) > 0 or _begins_a_data_set(data)


def read_elements(data: bytes, keywords: Sequence[str], most_bytes: int = 128 << 20) -> DicomFile:
    """Elements of a DICOM file, those of `keywords` alone, of at most `most_bytes` once inflated. To be called `quiet`.

    Raises
    ------
    UnsupportedMedia, UnreadableImage, TooLarge
        And whatever pydicom raises on a broken file.
    """
    data, begin, transfer_syntax, guessed = _opened(data, most_bytes)
    file = BytesIO(data)
    file.seek(begin)
    native: list[tuple[str | None, int, int]] = []

    def at_the_end(tag: BaseTag, vr: str | None, length: int) -> bool:
        # What is behind the pixels may be anything: disk blocks are filled up with zeros, flash with ones.
        if tag > _PIXEL_DATA:
            return True
        if tag != _PIXEL_DATA or length == _UNDEFINED_LENGTH:
            return False
        native.append((vr, file.tell(), length))
        return True

    dataset = _read(file, transfer_syntax, keywords, at_the_end)
    if not native:
        compressed = dataset.get("PixelData") or b""
        if guessed and compressed:
            raise UnreadableImage("TransferSyntaxUID", None, "must be present where pixels are compressed")
        return DicomFile(dataset, transfer_syntax, compressed, None)
    vr, start, length = native[0]
    value = memoryview(data)[start : start + length]
    if len(value) != length:
        raise UnreadableImage("PixelData", f"{len(value)} bytes", f"must be {length} bytes, as it declares")
    return DicomFile(dataset, transfer_syntax, value, vr)


def read_header(data: bytes, keywords: Sequence[str], most_bytes: int = 128 << 20) -> Dataset:
    """As `read_elements`, of a file of which nothing behind the last of these elements is looked at.

    It may be cut there.
    """
    data, begin, transfer_syntax, _ = _opened(data, most_bytes)
    file = BytesIO(data)
    file.seek(begin)
    last = max(_tags(tuple(keywords)))
    return _read(file, transfer_syntax, keywords, lambda tag, *_: tag > last)


def data_set_digest(data: bytes, most_bytes: int = 128 << 20) -> str:
    """SHA-256, in hex, of a file's data set, without its file meta information: what is the same after a transfer."""
    data, begin, _, _ = _opened(data, most_bytes)
    return hashlib.sha256(memoryview(data)[begin:]).hexdigest()


def _opened(data: bytes, most_bytes: int) -> tuple[bytes, int, uid.UID, bool]:
    """The file, inflated where need be; where its data set begins, in what syntax, and whether that is a guess."""
    if not is_dicom(data):
        raise UnsupportedMedia("preamble", "none", "must be a DICOM file")
    file = BytesIO(data)
    file.seek(_start(data))
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    transfer_syntax = uid.UID(str(meta.get("TransferSyntaxUID") or "").strip(" \x00"))
    guessed = not transfer_syntax
    if guessed:
        transfer_syntax = _guess(data[file.tell() : file.tell() + 8])
    elif transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        return _inflate(data[file.tell() :], most_bytes), 0, transfer_syntax, guessed
    return data, file.tell(), transfer_syntax, guessed


def _read(
    file: BytesIO, transfer_syntax: uid.UID, keywords: Sequence[str], stop: Callable[[BaseTag, str | None, int], bool]
) -> Dataset:
    return read_dataset(
        file,
        is_implicit_VR=transfer_syntax == uid.ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax != uid.ExplicitVRBigEndian,
        stop_when=stop,
        specific_tags=list(_tags(tuple(keywords))),
    )


@cache
def _tags(keywords: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


def _start(data: bytes) -> int:
    """Where the file meta information begins, if anything tells; 0 where nothing does."""
    for start in (_PREAMBLE, 0):
        if data[start : start + len(_MAGIC)] == _MAGIC:
            return start + len(_MAGIC)
    return 0


def _begins_a_data_set(data: bytes) -> bool:
    explicit = data[4:6] in _VRS
    if data[:2] == _BIG_ENDIAN_GROUP:
        return explicit
    return data[:2] in _FIRST_GROUPS and (explicit or int.from_bytes(data[4:8], "little") <= len(data) - 8)


def _guess(first: bytes) -> uid.UID:
    """The native transfer syntax of a data set that begins with these 8 bytes."""
    if len(first) < 8:
        raise UnreadableImage("PixelData", None, "must be present")
    if first[4:6] not in _VRS:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRBigEndian if first[:2] == _BIG_ENDIAN_GROUP else uid.ExplicitVRLittleEndian


def _inflate(deflated: bytes, most_bytes: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(deflated, most_bytes + 1)
    if len(inflated) > most_bytes:
        raise TooLarge("size", "deflated data set", f"must be at most {most_bytes} bytes once inflated")
    if not stream.eof:
        raise UnreadableImage("PixelData", "deflated data set", "must not be truncated")
    return inflated


_quiet_lock = threading.Lock()
_quiet_levels: list[int] = []


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings and log records, which quote element values, out of logs while it reads."""
    logger = logging.getLogger("pydicom")
    with _quiet_lock:
        _quiet_levels.append(logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        with _quiet_lock:
            level = _quiet_levels.pop()
            # Readers in other threads may still be at work; the last one out puts back what the first one found.
            if not _quiet_levels:
                logger.setLevel(level)
