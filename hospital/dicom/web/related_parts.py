"""A multipart/related body of DICOM files, in any pieces, becomes receptions; no file ever stands in memory.

Source: RFC 2387, PS3.18 8.6.1, PS3.10 7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from io import BytesIO
from types import TracebackType
from typing import Self

from pydicom.filereader import read_dataset
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from consilium.domain.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from consilium.formats.dicom.file_structure import quiet
from hospital.dicom.instance_header import is_uid
from hospital.dicom.reception import Announced, Reception
from hospital.dicom.storage_classes import accepted_syntaxes

DICOM = "application/dicom"
_META_BYTES = 1 << 16
_LONGEST_BOUNDARY = 200
"""RFC 2046 has 70; archives take three UUIDs."""
_PREFIX = b"DICM"
_PREAMBLE = 128
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_HEAD = _PREAMBLE + len(_PREFIX) + len(_GROUP_LENGTH) + 4


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/related body of DICOM files.

    Raises
    ------
    UnsupportedMedia, MalformedRequest
    """
    header = Message()
    header["Content-Type"] = content_type
    kind, boundary = str(header.get_param("type", DICOM)).casefold(), header.get_boundary()
    if header.get_content_type() != "multipart/related" or kind != DICOM:
        raise UnsupportedMedia("Content-Type", content_type[:80], f'must be multipart/related; type="{DICOM}"')
    if not boundary or len(boundary) > _LONGEST_BOUNDARY:
        raise MalformedRequest(
            "Content-Type", content_type[:80], f"must name a boundary of 1 to {_LONGEST_BOUNDARY} bytes"
        )
    return boundary.encode("latin-1", "replace")


class DicomFile:
    """The bytes of one Part 10 file: its file meta information says what the reception of its data set is.

    Attributes
    ----------
    announced : Announced or None
        None as long as the file meta information is not there.
    error : InputError or None
        Why the file is not taken; the rest of it is passed over.
    """

    def __init__(self, start: Callable[[Announced], Reception]) -> None:
        self.announced: Announced | None = None
        self.error: InputError | None = None
        self.reception: Reception | None = None
        self._start = start
        self._head = bytearray()

    def write(self, data: bytes) -> None:
        """Take more of the file. `OSError` where the disk takes no more."""
        if self.error is not None:
            return
        try:
            if self.reception is not None:
                self.reception.write(data)
                return
            self._head += data
            if (end := _end_of_meta(self._head)) and len(self._head) >= end:
                self._begin(end)
        except InputError as error:
            self.error = error
            self.discard()

    def whole(self) -> Reception:
        """The reception of the file that has ended.

        Raises
        ------
        InputError
        """
        if self.error is not None:
            raise self.error
        if self.reception is None:
            raise UnsupportedMedia("part", f"{len(self._head)} bytes", "must be a DICOM file (PS3.10)")
        return self.reception

    def discard(self) -> None:
        """Delete what is not stored."""
        if self.reception is not None:
            self.reception.discard()

    def _begin(self, end: int) -> None:
        announced = self.announced = _announced(bytes(self._head[:end]))
        if announced.transfer_syntax not in accepted_syntaxes(announced.sop_class, (announced.transfer_syntax,)):  # type: ignore[arg-type]
            raise UnsupportedMedia("TransferSyntaxUID", announced.transfer_syntax, "must be one that is read")
        rest = bytes(self._head[end:])
        self._head.clear()
        self.reception = self._start(announced)
        self.reception.write(rest)


class RelatedParts:
    """A body in pieces; to be used as a context manager, after which nothing is left of what is not stored.

    Parameters
    ----------
    finished : callable
        Is called with each file when it has ended; it waits for the disk.
    """

    def __init__(
        self,
        boundary: bytes,
        start: Callable[[Announced], Reception],
        finished: Callable[[DicomFile], None],
        most: int,
    ) -> None:
        self._start, self._finished, self._most = start, finished, most
        self._file: DicomFile | None = None
        self._count = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {"on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._end, "on_end": self._close},
        )

    def feed(self, data: bytes) -> None:
        """Take a piece of the body.

        Raises
        ------
        MalformedRequest, TooLarge, OSError
        """
        try:
            self._parser.write(data)
        except FormParserError:
            raise MalformedRequest("body", "broken framing", "must be whole multipart/related") from None

    def end(self) -> int:
        """How many files there were; `MalformedRequest` where the body ended early."""
        if not self._ended:
            raise MalformedRequest("body", "cut off", "must be whole multipart/related")
        return self._count

    def _begin(self) -> None:
        self._count += 1
        if self._count > self._most:
            raise TooLarge("body", f"over {self._most} parts", f"must have at most {self._most} parts")
        self._file = DicomFile(self._start)

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(data[start:end])

    def _end(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        try:
            self._finished(file)
        finally:
            file.discard()

    def _close(self) -> None:
        self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.discard()


def _end_of_meta(head: bytearray) -> int:
    """Where the data set begins; 0 as long as that is unknown."""
    if len(head) < _HEAD:
        return 0
    begin = _PREAMBLE + len(_PREFIX)
    if head[_PREAMBLE:begin] != _PREFIX or head[begin : begin + len(_GROUP_LENGTH)] != _GROUP_LENGTH:
        raise UnsupportedMedia("part", "another kind of file", "must be a DICOM file (PS3.10)")
    end = _HEAD + int.from_bytes(head[_HEAD - 4 : _HEAD], "little")
    if end > _META_BYTES:
        raise TooLarge("file meta information", f"{end} bytes", f"must end within {_META_BYTES} bytes")
    return end


def _announced(head: bytes) -> Announced:
    try:
        with quiet():
            meta = read_dataset(BytesIO(head[_PREAMBLE + len(_PREFIX) :]), is_implicit_VR=False, is_little_endian=True)
            found = (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID)
            uids = [str(one).strip(" \0") for one in found]
    except Exception:  # noqa: BLE001 - hostile bytes make pydicom raise anything at all
        uids = []
    if len(uids) != 3 or not all(map(is_uid, uids)):
        raise UnsupportedMedia("file meta information", "incomplete", "must name class, instance and transfer syntax")
    return Announced(*uids)
