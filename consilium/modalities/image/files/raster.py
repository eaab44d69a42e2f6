"""PNG, JPEG and TIFF: a file's bytes become an Image.

Grey or RGB of 8 or 16 bits; RGB becomes luminance. A raster file says nothing about the patient, the view or the
window: the pixels are shown as they are, but for their shape, which a resolution in its metadata tells.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL import Image as PillowImage

from consilium.domain.errors import DecodeFailed, InputError, TooLarge, UnreadableImage, UnsupportedMedia
from consilium.formats.limits import Limits, check_bytes, check_pixels
from consilium.formats.square_pixels import possible_aspect, with_square_pixels
from consilium.formats.tiff_planes import deep_planes
from consilium.modalities.image.image_record import Image
from consilium.modalities.registry import default_limits

FORMATS = ("PNG", "JPEG", "TIFF")
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_COLOUR_WITH_ALPHA = ("RGBA", "LA", "PA")
_DEEP_COLOUR = re.compile("(RGB|RGBA|RGBX|RGBa);16[BLN]")
_DEEP_GREY_ALPHA = "LA;16B"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _X_RESOLUTION, _Y_RESOLUTION, _SAMPLE_FORMAT = 258, 262, 282, 283, 339
_TIFF = (b"II*\x00", b"MM\x00*")
_WHITE_IS_ZERO = 0
_WHITE = 65535
_ON_ITS_SIDE = 5
"""From this orientation on, rows of the file are columns of the picture."""

# Pillow knows the same with the low byte first.
TiffImagePlugin.OPEN_INFO[(b"MM", _WHITE_IS_ZERO, (1,), 1, (16,), ())] = ("I;16B", "I;16B")


def read_raster(data: bytes, *, field: str = "image", limits: Limits | None = None) -> Image:
    """Read a PNG, JPEG or TIFF file.

    An orientation in its metadata is applied, as viewers do. A JPEG whose entropy-coded data were cut off before a
    proper end-of-image marker is indistinguishable from a whole one: its decoder fills up what is missing.

    Raises
    ------
    UnreadableImage
        Truncated or corrupt.
    UnsupportedMedia
        Animated, several pages, transparent, CMYK, floating point, signed, or of more than 16 bits.
    TooLarge
        Beyond `limits`.
    """
    return read_raster_display(data, field=field, limits=limits)[0]


def read_raster_display(
    data: bytes, *, field: str = "image", limits: Limits | None = None
) -> tuple[Image, npt.NDArray[np.uint16]]:
    """The same, and its display values [H, W] before its pixels were made square."""
    limits = limits or default_limits()
    try:
        check_bytes(len(data), limits["image_bytes"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data, limits)
    except InputError as error:
        raise error.at(field) from None
    except PillowImage.DecompressionBombError:
        raise TooLarge(field, "pixels", f"must be at most {limits['image_pixels']} pixels") from None
    except MemoryError:
        raise DecodeFailed(field, "out of memory", "must be decodable within the memory of a worker") from None
    except Exception as error:  # whatever Pillow raises on a broken file
        raise UnreadableImage(field, type(error).__name__, "must be a complete PNG, JPEG or TIFF image") from None


def _read(data: bytes, limits: Limits) -> tuple[Image, npt.NDArray[np.uint16]]:
    digest = hashlib.sha256(data).hexdigest()
    loaded = _load(data, limits)
    aspect, warnings = _aspect(loaded)
    pixels = _display(loaded, data, limits)
    image = Image(
        pixels=with_square_pixels(pixels, aspect, limits["image_pixels"]),
        digest=digest,
        source=str(loaded.format).lower(),
        grid=(int(pixels.shape[0]), int(pixels.shape[1])),
        warnings=warnings,
    )
    return image, pixels


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A picture as viewers turn it.

    Attributes
    ----------
    layout : str
        Pillow's name for how samples lie in the file: ``RGB;16B``.
    turn : int
        The orientation that the file gives, as EXIF numbers it.
    """

    picture: PillowImage.Image
    format: str
    layout: str
    turn: int

    @property
    def array(self) -> npt.NDArray[Any]:
        return np.asarray(self.picture)


def _load(data: bytes, limits: Limits, *, low_bytes: bool = False) -> _Loaded:
    """Of 16-bit colour Pillow keeps the high byte of each sample, or the other one where `low_bytes` asks for it."""
    try:
        picture = PillowImage.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    check_pixels(picture.height, picture.width, limits["image_pixels"])
    _refuse_several(picture)
    layout = _first(picture.tile[0].args)
    if low_bytes:
        picture.tile = [tile._replace(args=_other_byte(tile.args)) for tile in picture.tile]
    turn = int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    picture.load()
    # A TIFF is turned while it is loaded.
    if turn != 1 and picture.format != "TIFF":
        ImageOps.exif_transpose(picture, in_place=True)
    return _Loaded(picture, str(picture.format), layout, turn)


def _first(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) else args)


def _other_byte(args: Any) -> Any:
    """The arguments of a decoder that reads the other byte of each 16-bit sample."""
    if isinstance(args, tuple):
        return (_other_byte(args[0]), *args[1:])
    # N, the order of this machine, is what libtiff gives.
    order = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
    return args[:-1] + order[args[-1]]


def _unidentified(data: bytes) -> InputError:
    """A TIFF that Pillow has no reading for, by the name of what it is; else, a file that is broken or none of ours."""
    if data.startswith(_TIFF):
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        if _BITS_PER_SAMPLE in tags or _PHOTOMETRIC in tags:
            layout = f"TIFF, {tags.get(_BITS_PER_SAMPLE)} bits, photometric {tags.get(_PHOTOMETRIC)}"
            return UnsupportedMedia("file", layout[:60], "must be grey of 8 or 16 bits, or RGB")
    return UnreadableImage("file", "unidentified", "must be a PNG, JPEG or TIFF image")


def _refuse_several(picture: PillowImage.Image) -> None:
    if picture.format == "MPO" or getattr(picture, "is_animated", False):
        raise UnsupportedMedia("frames", "several", "must be one image: no animation, no pages")


def _aspect(loaded: _Loaded) -> tuple[float, tuple[str, ...]]:
    """Height of a pixel over its width, and a warning where what the file says of it cannot be."""
    density = _density(loaded.picture)
    if density is None:
        return 1.0, ()
    across, down = density
    if not possible_aspect(across, down):
        return 1.0, (f"resolution {across:g} by {down:g} cannot be; its pixels are taken for square",)
    return (across / down if loaded.turn < _ON_ITS_SIDE else down / across), ()


def _density(picture: PillowImage.Image) -> tuple[float, float] | None:
    """Pixels for a unit of length across and down, as PNG pHYs, JFIF, EXIF or TIFF tell; None where they do not.

    Encoders write a JFIF density of 1 by 1 without a unit where they know nothing: EXIF goes before that.
    Source: PNG (third edition) 11.3.4.3; JFIF 1.02 page 5; Exif 2.32 4.6.4; TIFF 6.0 section 8.
    """
    for key in ("dpi", "aspect") if picture.format == "PNG" else ("jfif_density",):
        if key in picture.info and (picture.info[key], picture.info.get("jfif_unit")) != ((1, 1), 0):
            across, down = (float(number) for number in picture.info[key])
            return (across, down) if across or down else None
    tags = getattr(picture, "tag_v2", None) or picture.getexif()
    if _X_RESOLUTION not in tags or _Y_RESOLUTION not in tags:
        return None
    return _number(tags[_X_RESOLUTION]), _number(tags[_Y_RESOLUTION])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan


def _display(loaded: _Loaded, data: bytes, limits: Limits) -> npt.NDArray[np.uint16]:
    """Display values of the file `data`, uint16 [H, W]."""
    planes = deep_planes(loaded.picture, data, loaded.turn)
    if planes:
        samples = np.dstack([_load(plane, limits).array.astype(np.uint16) for plane in planes])
        return _luminance(_without_alpha(samples, 3))
    if _DEEP_COLOUR.fullmatch(loaded.layout):
        high, low = loaded.array.astype(np.uint16), _load(data, limits, low_bytes=True).array.astype(np.uint16)
        return _luminance(_without_alpha(high * np.uint16(256) + low, 3))
    if loaded.layout == _DEEP_GREY_ALPHA:
        high_and_low = _load(_as_8_bit_rgba(data), limits).array.astype(np.uint16)
        return _without_alpha(high_and_low[..., ::2] * np.uint16(256) + high_and_low[..., 1::2], 1)[..., 0]
    picture = _opaque(loaded.picture)
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"), dtype=np.uint16) * np.uint16(257)
    if picture.mode == "RGB":
        return _luminance(np.asarray(picture) * np.uint16(257))
    if picture.mode in _GREY_16:
        return _grey_16(np.asarray(picture).astype(np.uint16), loaded.picture)
    raise UnsupportedMedia("mode", picture.mode, "must be grey of 8 or 16 bits, or RGB")


def _as_8_bit_rgba(png: bytes) -> bytes:
    """A PNG of 16-bit grey with alpha, declared 8-bit RGBA: the same four bytes a pixel, none of which is dropped."""
    depth_and_type = png.index(b"IHDR") + 12
    described = png[depth_and_type - 12 : depth_and_type] + b"\x08\x06" + png[depth_and_type + 2 : depth_and_type + 5]
    return png[: depth_and_type - 12] + described + zlib.crc32(described).to_bytes(4, "big") + png[depth_and_type + 9 :]


def _without_alpha(samples: npt.NDArray[np.uint16], colours: int) -> npt.NDArray[np.uint16]:
    _refuse_transparent(bool((samples[..., colours:] == _WHITE).all()))
    return samples[..., :colours]


def _luminance(colours: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    red, green, blue = np.moveaxis(colours.astype(np.float32), -1, 0)
    return np.rint(0.299 * red + 0.587 * green + 0.114 * blue).astype(np.uint16)


def _opaque(picture: PillowImage.Image) -> PillowImage.Image:
    """The picture without palette and alpha channel; transparency has no meaning in a radiograph."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode in _COLOUR_WITH_ALPHA:
        _refuse_transparent(picture.getchannel("A").getextrema()[0] == 255)
        return picture.convert("L" if picture.mode == "LA" else "RGB")
    return picture


def _refuse_transparent(opaque: bool) -> None:
    if not opaque:
        raise UnsupportedMedia("alpha", "transparent pixels", "must be opaque")


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
