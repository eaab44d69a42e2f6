import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import ExifTags
from PIL import Image as PillowImage

from consilium.domain.errors import TooLarge, UnreadableImage, UnsupportedMedia
from consilium.modalities.image.files.raster import read_raster
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.image.records import read_image
from consilium.modalities.registry import default_limits
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

GREY_8 = ramp(20, 30, bits=8)
GREY_16 = (ramp(20, 30) * np.uint16(15)).astype(np.uint16)
RGB = np.stack([GREY_8, GREY_8[::-1], GREY_8[:, ::-1]], axis=-1)


def saved(picture, kind, **options):
    file = BytesIO()
    (picture if isinstance(picture, PillowImage.Image) else PillowImage.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_comes_back_exactly(kind):
    np.testing.assert_array_equal(read_raster(saved(GREY_8, kind)).pixels, GREY_8 * np.uint16(257))
    image = read_raster(saved(GREY_16, kind))
    np.testing.assert_array_equal(image.pixels, GREY_16)
    assert image.source == kind.lower()
    assert image.view is ViewPosition.UNKNOWN
    assert image.acquired is None


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colour_becomes_luminance(kind):
    got = read_raster(saved(RGB, kind)).pixels
    assert np.abs(got - RGB @ [0.299, 0.587, 0.114] * 257).max() <= 1


def test_jpeg_is_close():
    smooth = np.add.outer(np.arange(40) * 3, np.arange(40) * 2).astype(np.uint8)
    assert np.abs(read_raster(saved(smooth, "JPEG", quality=95)).pixels / 257 - smooth).max() < 4


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(compression):
    np.testing.assert_array_equal(read_raster(saved(GREY_16, "TIFF", compression=compression)).pixels, GREY_16)


def tiff(values, *, photometric=1, bits=16, sample_format=1, big_endian=False):
    """A minimal uncompressed TIFF, written by hand because Pillow does not write these."""
    order = ">" if big_endian else "<"
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    rows, columns = values.shape
    tags = {256: columns, 257: rows, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: rows, 279: len(data)}
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in (tags | {339: sample_format}).items()]
    head = struct.pack(f"{order}2sHI", b"MM" if big_endian else b"II", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def test_white_is_zero_is_inverted_in_both_depths():
    np.testing.assert_array_equal(read_raster(tiff(GREY_16, photometric=0)).pixels, 65535 - GREY_16)
    np.testing.assert_array_equal(
        read_raster(tiff(GREY_8, photometric=0, bits=8)).pixels, (255 - GREY_8) * np.uint16(257)
    )


def test_big_endian_tiff():
    np.testing.assert_array_equal(read_raster(tiff(GREY_16, big_endian=True)).pixels, GREY_16)


def test_big_endian_tiff_with_white_as_zero():
    got = read_raster(tiff(GREY_16, photometric=0, big_endian=True)).pixels
    np.testing.assert_array_equal(got, 65535 - GREY_16)


def test_tiff_of_samples_that_are_not_read_is_refused_by_what_it_is():
    with pytest.raises(UnsupportedMedia, match=r"TIFF, \(64,\) bits"):
        read_raster(tiff(GREY_16.astype(np.uint64), bits=64, big_endian=True))


def png(samples, *, density=None):
    """A PNG of 16 bits a sample, written by hand because Pillow does not write these."""
    rows, columns, count = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    lines = b"".join(b"\x00" + line.astype(">u2").tobytes() for line in samples.reshape(rows, -1))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, kind, 0, 0, 0))]
    if density:
        chunks.append((b"pHYs", struct.pack(">IIB", *density)))
    chunks += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def deep(channels):
    return np.random.default_rng(channels).integers(0, 65536, (20, 30, channels), dtype=np.uint16)


def with_opaque_alpha(samples):
    return np.dstack([samples, np.full(samples.shape[:2], 65535, np.uint16)])


def test_all_bits_of_16_bit_colour_are_kept():
    film = np.repeat(ramp(20, 30)[..., None], 3, axis=-1)
    for samples in (film, with_opaque_alpha(film), with_opaque_alpha(film[..., :1])):
        np.testing.assert_array_equal(read_raster(png(samples)).pixels, film[..., 0])
    colour = deep(3)
    expected = np.rint(colour @ [0.299, 0.587, 0.114])
    assert np.abs(read_raster(png(colour)).pixels - expected).max() <= 1
    assert np.abs(read_raster(png(with_opaque_alpha(colour))).pixels - expected).max() <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": 2}, {"rowsperstrip": 3}])
def test_all_bits_of_16_bit_colour_tiff_are_kept(order, options):
    file = BytesIO()
    tifffile.imwrite(file, deep(3), byteorder=order, photometric="rgb", **options)
    expected = np.rint(deep(3) @ [0.299, 0.587, 0.114])
    assert np.abs(read_raster(file.getvalue()).pixels - expected).max() <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": 2},
        {"rowsperstrip": 3},
        {"tile": (16, 16), "compression": "zlib"},
        {"extratags": [(274, 3, 1, 6, True)]},
    ],
)
def test_all_bits_of_16_bit_colour_tiff_in_planes_are_kept(order, options):
    expected = np.rint(deep(3) @ [0.299, 0.587, 0.114])
    if "extratags" in options:
        expected = np.rot90(expected, -1)
    for samples, extra in ((deep(3), {}), (with_opaque_alpha(deep(3)), {"extrasamples": ["unassalpha"]})):
        file = BytesIO()
        planes = {"photometric": "rgb", "planarconfig": "separate", "byteorder": order}
        tifffile.imwrite(file, np.moveaxis(samples, -1, 0), **planes, **extra, **options)
        assert np.abs(read_raster(file.getvalue()).pixels - expected).max() <= 1


@pytest.mark.parametrize("interlace", [False, True])
def test_16_bit_colour_keeps_its_bits_where_passes_are_interlaced(interlace):
    rows = [deep(3)[top::down, left::across] for left, top, across, down in (ADAM7 if interlace else [(0, 0, 1, 1)])]
    packed = b"".join(b"\0" + row.astype(">u2").tobytes() for part in rows if part.size for row in part)
    head = struct.pack(">IIBBBBB", 30, 20, 16, 2, 0, 0, int(interlace))
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    got = read_raster(b"\x89PNG\r\n\x1a\n" + data).pixels
    assert np.abs(got - np.rint(deep(3) @ [0.299, 0.587, 0.114])).max() <= 1


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_alpha_must_be_opaque_to_its_last_bit(channels):
    samples = deep(channels)
    samples[..., -1] = 65535
    samples[7, 7, -1] = 65534
    with pytest.raises(UnsupportedMedia, match="opaque"):
        read_raster(png(samples))


def test_16_bit_colour_cut_off_is_refused():
    for channels in (2, 3, 4):
        data = png(with_opaque_alpha(deep(channels))) if channels < 4 else png(deep(4))
        for tenth in range(1, 10):
            with pytest.raises((UnreadableImage, UnsupportedMedia)):
                read_raster(data[: len(data) * tenth // 10])


# Pixels that are not square --------------------------------------------------------------------------------------

DISC = np.hypot(*np.mgrid[-60:60, -60:60]) < 40


def squeezed(aspect_down):
    """A disc, 255 on 0, of which only every so many rows were stored, at the file's own resolution."""
    return np.ascontiguousarray(DISC[::aspect_down] * np.uint8(255))


def assert_round(pixels):
    lit = pixels > 32767
    down, across = lit.any(axis=1).sum(), lit.any(axis=0).sum()
    assert down == pytest.approx(across, rel=0.05)
    assert lit.sum() == pytest.approx(np.pi / 4 * down * across, rel=0.05)


def jfif(pixels, unit, across, down):
    data = bytearray(saved(pixels, "JPEG", quality=95))
    data[13:18] = struct.pack(">BHH", unit, across, down)
    return bytes(data)


STRETCHED = {
    "png-dpi": saved(squeezed(2), "PNG", dpi=(300, 150)),
    "png-aspect": png(np.dstack([squeezed(2).astype(np.uint16) * 257] * 3), density=(2, 1, 0)),
    "tiff": saved(squeezed(2), "TIFF", dpi=(300, 150)),
    "tiff-without-unit": saved(squeezed(2), "TIFF", x_resolution=2, y_resolution=1, resolution_unit=1),
    "jfif-aspect": jfif(squeezed(2), 0, 2, 1),
    "jfif-density": jfif(squeezed(2), 1, 144, 72),
    "png-columns": saved(squeezed(3).T, "PNG", dpi=(100, 300)),
}


@pytest.mark.parametrize("name", STRETCHED)
def test_pixels_that_are_not_square_are_resampled_to_square_ones(name):
    image = read_raster(STRETCHED[name])
    assert image.shape == (120, 120)
    assert_round(image.pixels)
    assert image.grid == ((120, 40) if name == "png-columns" else (60, 120))
    assert not image.warnings


@pytest.mark.parametrize(("jfif_unit", "shape"), [(0, (120, 120)), (1, (60, 120))])
def test_exif_resolution_goes_before_a_jfif_density_that_says_nothing(jfif_unit, shape):
    exif = PillowImage.Exif()
    exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = 300.0, 150.0
    data = bytearray(saved(squeezed(2), "JPEG", quality=95, exif=exif))
    data[13:18] = struct.pack(">BHH", jfif_unit, 1, 1)
    assert read_raster(bytes(data)).shape == shape


def test_resolution_turns_with_the_picture():
    exif = PillowImage.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for data in (
        saved(squeezed(2), "PNG", dpi=(300, 150), exif=exif.tobytes()),
        saved(PillowImage.fromarray(squeezed(2)), "TIFF", dpi=(300, 150), exif=exif),
    ):
        image = read_raster(data)
        assert image.shape == (120, 120)
        assert image.grid == (120, 60)
        assert_round(image.pixels)


@pytest.mark.parametrize("density", [(72, 72), (0, 0), (10_000, 10_001)])
def test_square_pixels_stay_as_they_are(density):
    np.testing.assert_array_equal(
        read_raster(png(GREY_16[..., None].astype(np.uint16), density=(*density, 1))).pixels, GREY_16
    )


@pytest.mark.parametrize("density", [(72, 0), (1, 100), (4_000_000_000, 1)])
def test_impossible_resolution_is_warned_of_and_ignored(density):
    image = read_raster(png(GREY_16[..., None].astype(np.uint16), density=(*density, 1)))
    np.testing.assert_array_equal(image.pixels, GREY_16)
    assert len(image.warnings) == 1
    assert "taken for square" in image.warnings[0]


def test_resampling_stays_within_the_limits():
    image = read_raster(saved(squeezed(3), "PNG", dpi=(300, 100)), limits=default_limits().but(image_pixels=120 * 40))
    assert image.shape == (69, 69)
    assert_round(image.pixels)


def test_orientation_is_applied_as_viewers_do():
    exif = PillowImage.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for kind in ("PNG", "TIFF"):
        got = read_raster(saved(PillowImage.fromarray(GREY_8), kind, exif=exif.tobytes() if kind == "PNG" else exif))
        np.testing.assert_array_equal(got.pixels, np.rot90(GREY_8, -1) * np.uint16(257))


def test_opaque_alpha_and_palette_are_taken_off():
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(read_raster(saved(rgba, "PNG")).pixels, read_raster(saved(RGB, "PNG")).pixels)
    palette = PillowImage.fromarray(GREY_8).convert("P")
    np.testing.assert_array_equal(read_raster(saved(palette, "PNG")).pixels, GREY_8 * np.uint16(257))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (saved(np.dstack([RGB, GREY_8]), "PNG"), "opaque"),
        (saved(PillowImage.fromarray(RGB).convert("CMYK"), "JPEG"), "grey of 8 or 16 bits"),
        (saved(GREY_8.astype(np.float32), "TIFF"), "grey of 8 or 16 bits"),
        (saved(GREY_8.astype(np.int32), "TIFF"), "grey of 8 or 16 bits"),
        (tiff(GREY_16.astype(np.int16), sample_format=2), "grey of 8 or 16 bits"),
        (
            saved(PillowImage.fromarray(GREY_8), "TIFF", save_all=True, append_images=[PillowImage.fromarray(GREY_8)]),
            "no animation",
        ),
        (
            saved(PillowImage.fromarray(RGB), "PNG", save_all=True, append_images=[PillowImage.fromarray(RGB[::-1])]),
            "no animation",
        ),
    ],
)
def test_refused_by_name(data, rule):
    with pytest.raises(UnsupportedMedia, match=rule):
        read_raster(data, field="images[0]")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_cut_off_files_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    data = saved(noise, kind)
    for tenth in range(1, 10):
        with pytest.raises((UnreadableImage, UnsupportedMedia)):
            read_raster(data[: len(data) * tenth // 10])


def test_too_large():
    data = saved(np.zeros((2000, 3000), np.uint8), "PNG")
    with pytest.raises(TooLarge, match=r"images\[1\].size.*2000 x 3000"):
        read_raster(data, field="images[1]", limits=default_limits().but(image_pixels=5_999_999))
    with pytest.raises(TooLarge, match="bytes"):
        read_raster(data, limits=default_limits().but(image_bytes=100))


def test_bomb_is_too_large_before_it_is_unpacked():
    data = bytearray(saved(GREY_8, "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises((TooLarge, UnreadableImage)):
        read_raster(bytes(data))


def test_kind_is_recognised_by_the_first_bytes():
    assert read_image(dicom_file(ramp())).source == "dicom"
    assert read_image(saved(GREY_8, "JPEG")).source == "jpeg"
    for data, kind in (
        (b"%PDF-1.7", "PDF"),
        (saved(GREY_8, "GIF"), "GIF"),
        (saved(GREY_8, "BMP"), "BMP"),
        (saved(GREY_8, "WEBP"), "WebP"),
        (b"PK\x03\x04", "ZIP"),
        (b"", "empty file"),
        (b"plain text", "unknown"),
    ):
        with pytest.raises(UnsupportedMedia, match=kind) as refused:
            read_image(data, field="images[0]")
        assert refused.value.field == "images[0]"
        assert refused.value.status == 415
