"""One image file of any kind: recognised by its first bytes, never by its name or declared type."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.domain.errors import UnsupportedMedia
from consilium.formats.dicom.file_structure import is_dicom
from consilium.formats.limits import Limits
from consilium.formats.square_pixels import is_constant
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.files.raster import read_raster
from consilium.modalities.image.image_record import Image, ViewPosition

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
    if data.startswith(_RASTER):
        return read_raster(data, field=field, limits=limits)
    kind = next((kind for start, kind in _OTHERS.items() if data.startswith(start)), "unknown")
    raise UnsupportedMedia(field, kind if data else "empty file", "must be a DICOM, PNG, JPEG or TIFF file")


def image_warnings(images: Sequence[Image]) -> list[str]:
    """What the reader of a diagnosis has to know of the images of one study."""
    warnings = []
    seen: dict[str, int] = {}
    for i, image in enumerate(images):
        if image.view is ViewPosition.UNKNOWN:
            warnings.append(f"images[{i}]: view position unknown")
        if image.burned_in:
            warnings.append(f"images[{i}]: the file says that text is burned into the image")
        if is_constant(image.pixels):
            warnings.append(f"images[{i}]: the image is blank")
        warnings += [f"images[{i}].{warning}" for warning in image.warnings]
        if image.digest in seen:
            warnings.append(f"images[{i}]: the same file as images[{seen[image.digest]}]")
        seen.setdefault(image.digest, i)
    return warnings
