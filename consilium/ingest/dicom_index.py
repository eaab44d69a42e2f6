"""What a DICOM file is, by the beginning of its header: to which study it belongs, and whether it holds an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.uid import UID

from consilium.domain.errors import InputError, UnreadableImage, UnsupportedMedia
from consilium.formats.dicom.file_structure import quiet, read_header

STUDY_UID = "StudyInstanceUID"
_SOP_CLASS = "SOPClassUID"
_HEAD_BYTES = 1 << 16
"""What tells files apart stands at their beginning, long before the pixels."""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What is known of a file before it is decoded.

    Attributes
    ----------
    study_uid : str
        Empty where it has none.
    kind : str
        Name of its SOP class; empty where that is private or missing.
    """

    study_uid: str
    kind: str

    @property
    def may_hold_image(self) -> bool:
        """Its kind is one of images, or not known: reports, presentation states and waveforms hold none."""
        return not self.kind or "Image" in self.kind


def index_file(file: BinaryIO) -> IndexedFile:
    """Read the beginning of a DICOM file.

    Raises
    ------
    UnsupportedMedia
        Where it is no DICOM file.
    InputError
        Where its header cannot be read.
    OSError
    """
    head = file.read(_HEAD_BYTES)
    try:
        return _read(head)
    except UnsupportedMedia:
        raise
    except InputError:  # cut within an element
        return _read(head + file.read())


def _read(data: bytes) -> IndexedFile:
    try:
        with quiet():
            header = read_header(data, [STUDY_UID, _SOP_CLASS])
            kind = UID(_text(header, _SOP_CLASS))
            return IndexedFile(_text(header, STUDY_UID), "" if kind.name == str(kind) else kind.name)
    except InputError:
        raise
    except Exception as error:  # whatever pydicom raises on a broken header
        raise UnreadableImage("header", type(error).__name__, "must be that of a DICOM file") from None


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip(" \0")
