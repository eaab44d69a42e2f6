"""Stored pixel values of a single-frame DICOM image: declared, checked against the data, decoded.

Source: DICOM PS3.3 C.7.6.3 (Image Pixel module), PS3.5 8 and A.4 (encodings).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder

from consilium.domain.errors import InputError, UnreadableImage, UnsupportedMedia
from consilium.formats.dicom.codestream import STREAM_STARTS, check_end_of_image, read_stream_header
from consilium.formats.dicom.elements import text, whole_number
from consilium.formats.dicom.file_structure import DicomFile
from consilium.formats.limits import Limits, check_pixels

T = TypeVar("T")

NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)

DECODERS: Mapping[str, str] = MappingProxyType(
    {
        uid.RLELossless: "pylibjpeg",
        uid.JPEGBaseline8Bit: "pillow",
        # The only one that decodes 12 bits, by the extra `jpeg-extended`.
        uid.JPEGExtended12Bit: "pylibjpeg",
        # pylibjpeg decodes truncated JPEG Lossless and JPEG-LS to wrong pixels without an error; these raise.
        uid.JPEGLossless: "gdcm",
        uid.JPEGLosslessSV1: "gdcm",
        uid.JPEGLSLossless: "pyjpegls",
        uid.JPEGLSNearLossless: "pyjpegls",
        # The fastest of three that all raise on truncation.
        uid.JPEG2000Lossless: "gdcm",
        uid.JPEG2000: "gdcm",
        uid.HTJ2KLossless: "pylibjpeg",
        uid.HTJ2KLosslessRPCL: "pylibjpeg",
        uid.HTJ2K: "pylibjpeg",
    }
)
"""The one decoding plugin of pydicom that is used for each compressed transfer syntax."""

MOST_TRAILING_BYTES = 4096
"""Zeros behind native pixel data: writers fill up disk blocks and buffers."""

_JPEG_OR_JPEG_LS = (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes)
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The Image Pixel module of a single-frame image, checked for consistency. Names as in DICOM."""

    transfer_syntax: uid.UID
    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar_configuration: int

    @property
    def encapsulated(self) -> bool:
        return self.transfer_syntax not in NATIVE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a stored value: (u)int8 or (u)int16."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    def stored(self, words: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Stored values of pixel words: moved to the bottom, other bits cleared, sign extended. Source: PS3.5 8.1.1."""
        below = self.high_bit + 1 - self.bits_stored
        unused = self.bits_allocated - self.bits_stored
        if not self.signed:
            return (words >> below) & words.dtype.type(2**self.bits_stored - 1) if unused else words
        signed = words.view(self.dtype)
        return (signed << (unused - below)) >> unused if unused else signed


def read_pixel_format(dataset: Dataset, transfer_syntax: uid.UID, most_pixels: int) -> PixelFormat:
    """Check what the header declares.

    Raises
    ------
    UnreadableImage, TooLarge, UnsupportedMedia
    """
    if transfer_syntax not in NATIVE and transfer_syntax not in DECODERS:
        raise UnsupportedMedia("TransferSyntaxUID", str(transfer_syntax.name)[:64], "is no supported pixel encoding")
    rows, columns = (whole_number(dataset, keyword, 1, 65535) for keyword in ("Rows", "Columns"))
    check_pixels(rows, columns, most_pixels)
    photometric = text(dataset, "PhotometricInterpretation").upper()
    if photometric not in _GREY + _COLOUR:
        raise UnsupportedMedia("PhotometricInterpretation", photometric[:20], f"must be one of {_GREY + _COLOUR}")
    samples = whole_number(dataset, "SamplesPerPixel", 1, 4, default=1)
    if samples != (1 if photometric in _GREY else 3):
        raise UnreadableImage("SamplesPerPixel", samples, f"contradicts PhotometricInterpretation {photometric}")
    allocated = whole_number(dataset, "BitsAllocated", 1, 64)
    if allocated not in (8, 16):
        raise UnsupportedMedia("BitsAllocated", allocated, "must be 8 or 16")
    stored = whole_number(dataset, "BitsStored", 1, allocated, default=allocated)
    high_bit = whole_number(dataset, "HighBit", stored - 1, allocated - 1, default=stored - 1)
    signed = bool(whole_number(dataset, "PixelRepresentation", 0, 1, default=0))
    if signed and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnreadableImage("PixelRepresentation", 1, f"contradicts PhotometricInterpretation {photometric}")
    planar = whole_number(dataset, "PlanarConfiguration", 0, 1, default=0)
    found = PixelFormat(
        transfer_syntax, rows, columns, samples, photometric, allocated, stored, high_bit, signed, planar
    )
    if found.encapsulated and high_bit != stored - 1:
        raise UnreadableImage("HighBit", high_bit, f"must be {stored - 1} in a compressed image of {stored} bits")
    return found


def pixel_words(file: DicomFile, pixels: PixelFormat) -> tuple[npt.NDArray[Any], str]:
    """Pixel words of the one frame, and the photometric interpretation they are in after decoding.

    Returns
    -------
    words : uint8 or uint16, [H, W] or [H, W, 3]
        `PixelFormat.stored` makes values of them. Of YBR_FULL_422 without compression, luminance alone: [H, W].
    photometric_interpretation : str

    Raises
    ------
    UnreadableImage
        The pixel data do not have the declared size, or cannot be decoded.
    """
    if pixels.encapsulated:
        return _decode(bytes(file.pixel_data), pixels)
    swapped = file.pixel_data_vr == "OW" and pixels.transfer_syntax == uid.ExplicitVRBigEndian
    return _native(file.pixel_data, pixels, swapped), pixels.photometric_interpretation


def _native(data: bytes | memoryview, pixels: PixelFormat, big_endian_words: bool) -> npt.NDArray[Any]:
    subsampled = pixels.photometric_interpretation == "YBR_FULL_422"
    if subsampled and (pixels.columns % 2 or pixels.bits_allocated != 8):
        raise UnreadableImage("Columns", pixels.columns, "must be even, with 8 bits, for YBR_FULL_422")
    count = pixels.rows * pixels.columns * (2 if subsampled else pixels.samples_per_pixel)
    size = count * pixels.bits_allocated // 8
    # The byte that makes an odd size even may be anything.
    if not size <= len(data) <= size + MOST_TRAILING_BYTES or any(data[size + size % 2 :]):
        rule = f"must be {size} bytes, as the header declares, with at most {MOST_TRAILING_BYTES} zeros behind them"
        raise UnreadableImage("PixelData", f"{len(data)} bytes", rule)
    if pixels.bits_allocated == 8:
        if big_endian_words:
            even = bytes(data[: size + size % 2]).ljust(size + size % 2, b"\x00")
            data = np.frombuffer(even, dtype=np.uint16).byteswap().tobytes()
        words = np.frombuffer(data, dtype=np.uint8, count=count)
    else:
        order = ">" if pixels.transfer_syntax == uid.ExplicitVRBigEndian else "<"
        words = np.frombuffer(data, dtype=f"{order}u2", count=count).astype(np.uint16, copy=False)
    if subsampled:
        return np.ascontiguousarray(words.reshape(-1, 4)[:, :2]).reshape(pixels.rows, pixels.columns)
    if pixels.samples_per_pixel == 1:
        return words.reshape(pixels.rows, pixels.columns)
    if pixels.planar_configuration:
        return np.moveaxis(words.reshape(3, pixels.rows, pixels.columns), 0, -1)
    return words.reshape(pixels.rows, pixels.columns, 3)


def _decode(data: bytes, pixels: PixelFormat) -> tuple[npt.NDArray[Any], str]:
    frame = _frame(data, pixels)
    plugin = DECODERS[pixels.transfer_syntax]
    if pixels.transfer_syntax != uid.RLELossless:
        _check_stream(frame, pixels)
        if pixels.transfer_syntax == uid.JPEGExtended12Bit and pixels.bits_stored == 8:
            plugin = "pillow"
    decoder = get_decoder(pixels.transfer_syntax)
    if plugin not in decoder.available_plugins:
        raise _missing_decoder(plugin, pixels.transfer_syntax)
    options: dict[str, Any] = {
        "rows": pixels.rows,
        "columns": pixels.columns,
        "number_of_frames": 1,
        "samples_per_pixel": pixels.samples_per_pixel,
        "photometric_interpretation": pixels.photometric_interpretation,
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_stored,
        "pixel_representation": int(pixels.signed),
        "planar_configuration": pixels.planar_configuration,
        "pixel_keyword": "PixelData",
    }
    values, properties = decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin, **options)
    shape = (pixels.rows, pixels.columns) + ((3,) if pixels.samples_per_pixel == 3 else ())
    if values.shape != shape or values.dtype != pixels.dtype:
        raise UnreadableImage("PixelData", f"{values.shape} {values.dtype}", f"must decode to {shape} {pixels.dtype}")
    return values.view(f"u{values.itemsize}"), str(properties["photometric_interpretation"])


def _missing_decoder(plugin: str, transfer_syntax: uid.UID) -> Exception:
    """A refusal of 12-bit JPEG Extended, whose decoder is an extra; of any other the installation is broken."""
    if transfer_syntax == uid.JPEGExtended12Bit:
        rule = "needs a decoder that is not installed: pip install 'consilium[jpeg-extended]' (GPL-3.0)"
        return UnsupportedMedia("TransferSyntaxUID", f"{transfer_syntax.name}, 12 bits", rule)
    return RuntimeError(f"the decoder {plugin} for {transfer_syntax.name} is not installed")


def _frame(data: bytes, pixels: PixelFormat) -> bytes:
    """The one compressed frame, put together from its fragments."""
    buffer = BytesIO(data)
    offsets = parse_basic_offsets(buffer)
    fragments = list(generate_fragments(buffer))
    if pixels.transfer_syntax == uid.RLELossless:
        frames = len(fragments)
    else:
        frames = sum(fragment.startswith(STREAM_STARTS) for fragment in fragments)
    if frames > 1 or len(offsets) > 1:
        raise UnreadableImage("PixelData", "several frames", "must hold one frame, as the header declares")
    return b"".join(fragments)


def _check_stream(frame: bytes, pixels: PixelFormat) -> None:
    if pixels.transfer_syntax in _JPEG_OR_JPEG_LS:
        check_end_of_image(frame)
    stream = read_stream_header(frame)
    declared = (pixels.rows, pixels.columns, pixels.samples_per_pixel)
    if (stream.rows, stream.columns, stream.components) != declared:
        raise UnreadableImage(
            "PixelData",
            f"{stream.rows} x {stream.columns} x {stream.components}",
            f"must be {' x '.join(map(str, declared))}, as the header declares",
        )
    if stream.precision > pixels.bits_allocated:
        raise UnreadableImage(
            "PixelData",
            f"{stream.precision} bits",
            f"must fit into {pixels.bits_allocated} bits, as the header declares",
        )


def decoding(read: Callable[[bytes, Limits], T], data: bytes, limits: Limits) -> T:
    """Call into pydicom and its codecs: whatever they raise becomes `UnreadableImage`.

    A codec written in Rust panics with a `BaseException`, which ``except Exception`` lets through.
    """
    try:
        return read(data, limits)
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        # The codec's own message may quote the file.
        raise UnreadableImage("PixelData", type(error).__name__, "must be decodable") from None
