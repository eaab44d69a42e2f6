"""One image file of any kind: recognised by its first bytes, never by its name or declared type."""

from __future__ import annotations

from consilium.domain.errors import UnsupportedMedia
from consilium.formats.dicom.file_structure import is_dicom
from consilium.formats.limits import Limits
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.files.raster import read_raster
from consilium.modalities.image.image_record import Image

_RASTER = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")

_OTHERS = {
    b"%PDF": "PDF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP or another RIFF file",
    b"PK\x03\x04": "ZIP archive",
    b"\x1f\x8b": "gzip file",
    b"II+\x00": "BigTIFF",
    b"MM\x00+": "BigTIFF",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\\\x01\x00\x00": "NIfTI",
    b"{": "JSON",
    b"<": "HTML or XML",
}


def read_image(data: bytes, *, field: str = "image", limits: Limits | None = None) -> Image:
    """Read a DICOM, PNG, JPEG or TIFF file.

    Raises
    ------
    UnsupportedMedia
        Another kind of file.
    UnreadableImage, TooLarge
        As `read_dicom` and `read_raster` do.
    """
    # First, because a preamble may itself begin as a TIFF.
    if is_dicom(data):
        return read_dicom(data, field=field, limits=limits)
    require_raster(data, field)
    return read_raster(data, field=field, limits=limits)


def require_raster(data: bytes, field: str) -> None:
    """Raise `UnsupportedMedia` where `data`, which is no DICOM, does not begin as a PNG, JPEG or TIFF file."""
    if not data.startswith(_RASTER):
        kind = next((kind for start, kind in _OTHERS.items() if data.startswith(start)), "unknown")
        raise UnsupportedMedia(field, kind if data else "empty file", "must be a DICOM, PNG, JPEG or TIFF file")
