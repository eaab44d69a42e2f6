"""PNG, JPEG and TIFF: a file's bytes become an Image.

8 or 16 bit grey, or RGB, which becomes luminance. Pillow reads 16-bit RGB with 8 bits a sample; grey keeps its 16.
A raster file says nothing about the patient, the view or the window: the pixels are shown as they are.
"""

from __future__ import annotations

import hashlib
import warnings
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, ImageOps, UnidentifiedImageError
from PIL import Image as PillowImage

from consilium.errors import DecodeFailed, InputError, TooLarge, UnreadableImage, UnsupportedMedia
from consilium.ingest.limits import DEFAULT_LIMITS, Limits
from consilium.study import Image

FORMATS = ("PNG", "JPEG", "TIFF")
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_COLOUR_WITH_ALPHA = ("RGBA", "LA", "PA")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0


def read_raster(data: bytes, *, field: str = "image", limits: Limits = DEFAULT_LIMITS) -> Image:
    """Read a PNG, JPEG or TIFF file.

    An orientation in its metadata is applied, as viewers do. A JPEG whose entropy-coded data were cut off before a
    proper end-of-image marker cannot be told from a whole one: its decoder fills up what is missing.

    Raises
    ------
    UnreadableImage
        Truncated or corrupt.
    UnsupportedMedia
        Animated, several pages, transparent, CMYK, floating point, signed, or of more than 16 bits.
    TooLarge
        Beyond `limits`.
    """
    try:
        limits.check_bytes(len(data))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data, limits)
    except InputError as error:
        raise error.at(field) from None
    except PillowImage.DecompressionBombError:
        raise TooLarge(field, "pixels", f"must be at most {limits.image_pixels} pixels") from None
    except MemoryError:
        raise DecodeFailed(field, "out of memory", "must be decodable within the memory of a worker") from None
    except Exception as error:  # whatever Pillow raises on a broken file
        raise UnreadableImage(field, type(error).__name__, "must be a complete PNG, JPEG or TIFF image") from None


def _read(data: bytes, limits: Limits) -> Image:
    try:
        picture = PillowImage.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnreadableImage("file", "unidentified", "must be a PNG, JPEG or TIFF image") from None
    source = str(picture.format).lower()
    limits.check_pixels(picture.height, picture.width)
    _refuse_several(picture)
    picture.load()
    # A TIFF is turned while it is loaded, which drops its tag.
    pixels = _display(_opaque(ImageOps.exif_transpose(picture) if _turned(picture) else picture), picture)
    return Image(pixels=pixels, digest=hashlib.sha256(data).hexdigest(), source=source)


def _turned(picture: PillowImage.Image) -> bool:
    return bool(picture.getexif().get(ExifTags.Base.Orientation, 1) != 1)


def _refuse_several(picture: PillowImage.Image) -> None:
    if picture.format == "MPO" or getattr(picture, "is_animated", False):
        raise UnsupportedMedia("frames", "several", "must be one image: no animation, no pages")


def _opaque(picture: PillowImage.Image) -> PillowImage.Image:
    """The picture without palette and alpha channel; transparency has no meaning in a radiograph."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode in _COLOUR_WITH_ALPHA:
        if picture.getchannel("A").getextrema()[0] != 255:
            raise UnsupportedMedia("alpha", "transparent pixels", "must be opaque")
        return picture.convert("L" if picture.mode == "LA" else "RGB")
    return picture


def _display(picture: PillowImage.Image, opened: PillowImage.Image) -> npt.NDArray[np.uint16]:
    """Display values, uint16 [H, W]; `opened` still has the tags of the file."""
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"), dtype=np.uint16) * np.uint16(257)
    if picture.mode == "RGB":
        red, green, blue = np.moveaxis(np.asarray(picture, dtype=np.float32), -1, 0)
        return np.rint((0.299 * red + 0.587 * green + 0.114 * blue) * 257).astype(np.uint16)
    if picture.mode in _GREY_16:
        return _grey_16(np.asarray(picture).astype(np.uint16), opened)
    raise UnsupportedMedia("mode", picture.mode, "must be grey of 8 or 16 bits, or RGB")


def _grey_16(values: npt.NDArray[np.uint16], opened: PillowImage.Image) -> npt.NDArray[np.uint16]:
    tags = getattr(opened, "tag_v2", {})
    if tuple(tags.get(_SAMPLE_FORMAT, (1,))) != (1,):
        raise UnsupportedMedia("SampleFormat", "not unsigned", "must be unsigned integers")
    bits = int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    white = 2**bits - 1
    if bits < 16:
        values = np.rint(values.astype(np.float32) * (65535 / white)).astype(np.uint16)
    # Pillow inverts white-is-zero for 8 bits and leaves it for 16.
    return 65535 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values
