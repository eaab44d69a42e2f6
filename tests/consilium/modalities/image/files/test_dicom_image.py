import logging
import warnings
from datetime import UTC, datetime
from hashlib import sha256

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from consilium.domain.errors import DecodeFailed, InputError, TooLarge, UnreadableImage, UnsupportedMedia
from consilium.domain.study import accession_digest
from consilium.formats.dicom import pixels as dicom_pixels
from consilium.modalities.image.files.dicom_image import read_dicom, read_viewed_dicom
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.registry import default_limits
from tests.consilium.formats.dicom.dicom_files import HTJ2K_STREAM, LOSSLESS, dicom_file, header, jpeg, ramp, written

WINDOW_12_BIT = {"WindowCenter": 2048, "WindowWidth": 4096}
NAMES = {str(syntax): uid.UID(syntax).keyword for syntax in LOSSLESS}


def shown(pixels, **elements):
    return read_dicom(dicom_file(np.asarray(pixels), **elements)).pixels


def lut(first, bits, entries):
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries), first % 2**16, bits])
    item.add_new(0x00283006, "US", list(entries))
    return Sequence([item])


# Encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", LOSSLESS, ids=NAMES.values())
def test_lossless_transfer_syntax_gives_back_the_stored_values(syntax):
    image = read_dicom(dicom_file(ramp(), syntax, **WINDOW_12_BIT))
    expected = np.rint(ramp() / 4095 * 65535)
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if "HTJ2K" not in NAMES[s]], ids=lambda s: NAMES[s])
def test_signed_values_survive_every_encoding(syntax):
    values = ramp(32, 40).astype(np.int16) - 2048
    image = read_dicom(dicom_file(values, syntax, WindowCenter=0, WindowWidth=4096))
    np.testing.assert_array_equal(image.pixels, np.rint((values.astype(float) + 2048) / 4095 * 65535))


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if "HTJ2K" not in NAMES[s]], ids=lambda s: NAMES[s])
def test_eight_bits_survive_every_encoding(syntax):
    values = ramp(36, 38, bits=8)
    np.testing.assert_array_equal(read_dicom(dicom_file(values, syntax)).pixels, values * np.uint16(257))


def test_jpeg_baseline_is_close_and_colour_is_its_luminance():
    y, x = np.mgrid[:64, :64]
    grey = (120 + 60 * np.sin(x / 9) + 40 * np.cos(y / 7)).astype(np.uint8)
    image = read_dicom(dicom_file(grey, uid.JPEGBaseline8Bit))
    assert np.abs(image.pixels / 257 - grey).max() < 6
    colour = np.stack([grey, grey[::-1], grey.T], axis=-1)
    image = read_dicom(dicom_file(colour, uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422"))
    assert np.abs(image.pixels / 257 - colour @ [0.299, 0.587, 0.114]).mean() < 2


def test_near_lossless_jpeg_ls_stays_within_its_bound():
    import jpeg_ls

    stream = bytes(jpeg_ls.encode_array(ramp(), lossy_error=3))
    data = encapsulate([stream])
    image = read_dicom(dicom_file(ramp(), uid.JPEGLSNearLossless, pixel_data=data, **WINDOW_12_BIT))
    difference = np.abs(image.pixels / 65535 * 4095 - ramp())
    assert 0.5 < difference.max() < 3.1


# From stored value to display ------------------------------------------------------------------------------------


def test_linear_window_is_that_of_the_standard():
    # PS3.3 C.11.2.1.2.1, its own example: c=100, w=100 shows x <= 50 black and x > 149 white.
    values = np.array([[0, 50, 51, 100, 149, 150, 4095]], dtype=np.uint16)
    got = shown(values, WindowCenter=100, WindowWidth=100)
    expected = [0, 0, *(np.rint(((x - 99.5) / 99 + 0.5) * 65535) for x in (51, 100, 149)), 65535, 65535]
    np.testing.assert_array_equal(got[0], expected)


def test_linear_window_of_width_one_is_a_threshold():
    got = shown(np.array([[99, 100, 101]], dtype=np.uint16), WindowCenter=100, WindowWidth=1)
    np.testing.assert_array_equal(got, [[0, 65535, 65535]])


def test_linear_exact_and_sigmoid_windows():
    values = np.array([[0, 50, 100, 150, 4095]], dtype=np.uint16)
    exact = shown(values, WindowCenter=100, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_array_equal(exact, [[0, 0, 32768, 65535, 65535]])
    sigmoid = shown(values, WindowCenter=100, WindowWidth=100, VOILUTFunction="SIGMOID")
    expected = 65535 / (1 + np.exp(-4 * (values.astype(float) - 100) / 100))
    np.testing.assert_array_equal(sigmoid, np.rint(expected))


def test_first_of_several_windows_is_used():
    got = shown(ramp(), WindowCenter=[2048, 100], WindowWidth=[4096, 10])
    np.testing.assert_array_equal(got, shown(ramp(), **WINDOW_12_BIT))


def test_monochrome1_is_inverted():
    light = shown(ramp(), **WINDOW_12_BIT)
    dark = shown(ramp(), PhotometricInterpretation="MONOCHROME1", **WINDOW_12_BIT)
    np.testing.assert_array_equal(dark, 65535 - light)
    assert shown(ramp(), PhotometricInterpretation="MONOCHROME1")[0, 0] == 65535


def test_rescale_moves_the_window():
    values = np.array([[0, 1000, 2000]], dtype=np.uint16)
    got = shown(values, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=4001)
    np.testing.assert_array_equal(got, [[8, 32776, 65535]])


def test_modality_lut_comes_before_the_window():
    entries = [7 * (255 - i) for i in range(256)]
    values = ramp(16, 16, bits=8)
    got = shown(values, ModalityLUTSequence=lut(0, 16, entries), WindowCenter=892.5 + 0.5, WindowWidth=1786)
    np.testing.assert_array_equal(got, np.rint((255 - values.astype(float)) / 255 * 65535))


def test_voi_lut_is_preferred_to_the_window():
    entries = np.minimum(np.arange(4096) // 2, 1023)
    got = shown(ramp(), VOILUTSequence=lut(0, 10, entries.tolist()), **WINDOW_12_BIT)
    np.testing.assert_array_equal(got, np.rint(entries[ramp()] / 1023 * 65535))


def test_voi_lut_of_signed_values_begins_below_zero():
    values = np.array([[-900, -500, 0, 499, 800]], dtype=np.int16)
    got = shown(values, VOILUTSequence=lut(-500, 10, list(range(1000))))
    np.testing.assert_array_equal(got, np.rint(np.array([[0, 0, 500, 999, 999]]) / 1023 * 65535))


@pytest.mark.parametrize("declared", [13, 16])
def test_voi_lut_narrower_than_it_says_is_scaled_by_its_entries(declared):
    values = ramp()
    image = read_dicom(dicom_file(values, VOILUTSequence=lut(0, declared, list(range(4096))), **WINDOW_12_BIT))
    np.testing.assert_array_equal(image.pixels, np.rint(values / 4095 * 65535))
    assert image.warnings == (f"VOILUTSequence: declares {declared} bits and uses 12: scaled by these",)


def test_modality_lut_narrower_than_it_says_is_shown_whole():
    values = ramp()
    got = shown(values, ModalityLUTSequence=lut(0, 16, list(range(4096))))
    np.testing.assert_array_equal(got, shown(values))
    twice = shown(
        values, ModalityLUTSequence=lut(0, 16, list(range(4096))), VOILUTSequence=lut(0, 16, list(range(4096)))
    )
    np.testing.assert_array_equal(twice, np.rint(values / 4095 * 65535))


def test_palette_of_bytes_in_words_is_scaled_by_its_entries():
    elements = {}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{colour}PaletteColorLookupTableData"] = np.arange(256, dtype="<u2").tobytes()
    image = read_dicom(dicom_file(ramp(8, 8, bits=8), PhotometricInterpretation="PALETTE COLOR", **elements))
    np.testing.assert_array_equal(image.pixels, ramp(8, 8, bits=8) * np.uint16(257))
    assert image.warnings == ("PaletteColorLookupTable: declares more than 8 bits and uses 8: scaled by these",)


@pytest.mark.parametrize(
    ("centers", "widths", "function"),
    [
        ([1, 2048], [0, 4096], "LINEAR"),
        ([1, 7, 2048], [0, -5, 4096], "LINEAR"),
        ([1, 2048.0 - 0.5], [0, 4095], "LINEAR_EXACT"),
        ([9, 2048, 1], [0.5, 4096, 2], "LINEAR"),
    ],
)
def test_window_that_cannot_be_is_passed_over_for_the_next(centers, widths, function):
    image = read_dicom(dicom_file(ramp(), WindowCenter=centers, WindowWidth=widths, VOILUTFunction=function))
    np.testing.assert_array_equal(image.pixels, np.rint(ramp() / 4095 * 65535))
    assert len(image.warnings) == 1
    assert image.warnings[0].startswith("WindowWidth: ")


@pytest.mark.parametrize("pixels", [ramp(), ramp(bits=8)])
def test_window_that_cannot_be_and_is_alone_is_passed_over_for_the_automatic_one(pixels):
    image = read_dicom(dicom_file(pixels, WindowCenter=1, WindowWidth=0))
    np.testing.assert_array_equal(image.pixels, shown(pixels))
    assert image.warnings == ("WindowWidth: 0 cannot be, and was passed over",)


@pytest.mark.parametrize(("center", "width"), [(1e9, 2), (-5000, 100)])
def test_window_that_hides_the_image_is_passed_over_for_the_next(center, width):
    image = read_dicom(dicom_file(ramp(), WindowCenter=[center, 2048], WindowWidth=[width, 4096]))
    np.testing.assert_array_equal(image.pixels, np.rint(ramp() / 4095 * 65535))
    assert image.warnings == ("WindowCenter: the window hides the whole image, and was passed over",)


@pytest.mark.parametrize("function", ["linear_exact", "Sigmoid"])
def test_terms_are_read_in_any_case(function):
    window = {"WindowCenter": 100, "WindowWidth": 100}
    np.testing.assert_array_equal(
        shown(ramp(), VOILUTFunction=function, PhotometricInterpretation="monochrome1", **window),
        shown(ramp(), VOILUTFunction=function.upper(), PhotometricInterpretation="MONOCHROME1", **window),
    )


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_presentation_lut_shape_is_followed_and_warned_of_where_it_contradicts(photometric, shape):
    elements = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    image = read_dicom(dicom_file(ramp(), **elements, **WINDOW_12_BIT))
    values = np.rint(ramp() / 4095 * 65535)
    np.testing.assert_array_equal(image.pixels, 65535 - values if shape == "INVERSE" else values)
    warning = f"PresentationLUTShape: contradicts PhotometricInterpretation {photometric}, and was followed"
    alike = (shape == "INVERSE") == (photometric == "MONOCHROME1")
    assert image.warnings == (() if alike else (warning,))


def test_zeros_behind_the_entries_of_a_lut_are_padding():
    sequence = lut(0, 12, [*range(4096), 0, 0])
    sequence[0].LUTDescriptor = [4096, 0, 12]
    np.testing.assert_array_equal(shown(ramp(), VOILUTSequence=sequence), np.rint(ramp() / 4095 * 65535))
    sequence[0].LUTData[-1] = 7
    with pytest.raises(UnreadableImage, match="must have 4096"):
        shown(ramp(), VOILUTSequence=sequence)


def test_voi_lut_of_one_entry_too_much_for_its_bits_is_scaled_by_the_others():
    image = read_dicom(dicom_file(ramp(), VOILUTSequence=lut(0, 16, list(range(1, 4097)))))
    np.testing.assert_array_equal(image.pixels, np.rint(np.minimum((ramp() + 1) / 4095, 1) * 65535))
    assert image.warnings == ("VOILUTSequence: declares 16 bits and uses 12: scaled by these",)


def test_plain_eight_bits_with_an_identity_rescale_are_shown_as_they_are():
    values = np.array([[10, 128, 200]], dtype=np.uint8)
    np.testing.assert_array_equal(shown(values, RescaleSlope=1, RescaleIntercept=0), values * np.uint16(257))


def test_stored_bits_are_taken_from_where_high_bit_says_and_the_rest_ignored():
    low = ramp()
    rubbish = low | np.uint16(0xA000)
    np.testing.assert_array_equal(shown(rubbish, **WINDOW_12_BIT), shown(low, **WINDOW_12_BIT))
    left = (low << 4) | np.uint16(5)
    np.testing.assert_array_equal(shown(left, HighBit=15, **WINDOW_12_BIT), shown(low, **WINDOW_12_BIT))


def test_sign_is_that_of_the_highest_stored_bit():
    words = np.array([[0x0800, 0x0FFF, 0x0000, 0x07FF]], dtype=np.uint16)
    got = shown(words, PixelRepresentation=1, WindowCenter=0, WindowWidth=4096)
    np.testing.assert_array_equal(got, np.rint((np.array([[-2048, -1, 0, 2047]]) + 2048.0) / 4095 * 65535))


def test_padding_is_black_whatever_the_photometric_interpretation():
    values = ramp()
    values[:5] = 4000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        got = shown(values, PixelPaddingValue=4000, PhotometricInterpretation=photometric, **WINDOW_12_BIT)
        assert not got[values == 4000].any()
        assert got[values != 4000].max() > 50_000


def test_padding_does_not_stretch_the_range_of_an_image_without_a_window():
    values = 1000 + ramp() % 100
    values[:24] = 0
    got = shown(values.astype(np.uint16), PixelPaddingValue=0)
    assert got[24:].min() == 0
    assert got[24:].max() == 65535
    assert abs(float(got[24:][values[24:] == 1050].mean()) / 65535 - 0.5) < 0.02


def test_a_few_extremes_do_not_set_the_range_of_an_image_without_a_window():
    values = (1000 + np.arange(200 * 200) % 1000).reshape(200, 200).astype(np.uint16)
    values[0, :3] = 4095
    got = shown(values)
    assert got[0, 0] == 65535
    assert got[values == 1500].mean() / 65535 == pytest.approx(0.5, abs=0.01)


def test_plain_eight_bits_are_shown_as_they_are():
    values = np.array([[10, 128, 200]], dtype=np.uint8)
    np.testing.assert_array_equal(shown(values), values * np.uint16(257))


def test_blank_image_is_black():
    assert not shown(np.full((4, 4), 700, dtype=np.uint16)).any()


# Colour ----------------------------------------------------------------------------------------------------------

RGB = np.stack([ramp(8, 10, 8), ramp(8, 10, 8)[::-1], ramp(8, 10, 8)[:, ::-1]], axis=-1)
LUMINANCE = np.rint(RGB.astype(float) @ [0.299, 0.587, 0.114] * 257)


def test_rgb_becomes_luminance_in_both_planar_configurations():
    assert np.abs(shown(RGB) - LUMINANCE).max() <= 1
    planes = np.moveaxis(RGB, -1, 0).tobytes()
    got = read_dicom(dicom_file(RGB, pixel_data=planes, PlanarConfiguration=1)).pixels
    assert np.abs(got - LUMINANCE).max() <= 1


def test_ybr_full_shows_its_luminance():
    np.testing.assert_array_equal(shown(RGB, PhotometricInterpretation="YBR_FULL"), RGB[..., 0] * np.uint16(257))


def test_subsampled_ybr_shows_its_luminance():
    luminance = ramp(6, 8, bits=8)
    data = np.stack([luminance[:, ::2], luminance[:, 1::2], luminance[:, ::2], luminance[:, ::2]], axis=-1).tobytes()
    colour = np.zeros((6, 8, 3), dtype=np.uint8)
    got = read_dicom(dicom_file(colour, pixel_data=data, PhotometricInterpretation="YBR_FULL_422")).pixels
    np.testing.assert_array_equal(got, luminance * np.uint16(257))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_palette_becomes_luminance(syntax):
    values = ramp(8, 8, bits=8)
    order = ">u2" if syntax == uid.ExplicitVRBigEndian else "<u2"
    elements = {}
    for i, colour in enumerate(("Red", "Green", "Blue")):
        entries = (np.arange(256) * 257 // (i + 1)).astype(order)
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    got = read_dicom(dicom_file(values, syntax, PhotometricInterpretation="PALETTE COLOR", **elements)).pixels
    expected = values * 257.0 * (0.299 + 0.587 / 2 + 0.114 / 3)
    assert np.abs(got - expected).max() <= 2


# What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "field"),
    [
        ({"SOPClassUID": uid.EnhancedCTImageStorage}, "SOPClassUID"),
        ({"SOPClassUID": uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage}, "SOPClassUID"),
        ({"SOPClassUID": uid.SegmentationStorage}, "SOPClassUID"),
        ({"SOPClassUID": uid.BreastTomosynthesisImageStorage}, "SOPClassUID"),
        ({"NumberOfFrames": 2}, "NumberOfFrames"),
        ({"BitsAllocated": 32}, "BitsAllocated"),
        ({"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "RedPaletteColorLookupTableData"),
    ],
)
def test_refused_by_name(elements, field):
    with pytest.raises(UnsupportedMedia) as refused:
        shown(ramp(), **elements)
    assert refused.value.field == f"image.{field}"


def test_unknown_transfer_syntax_is_refused_by_its_name():
    data = dicom_file(ramp(), uid.MPEG2MPML, pixel_data=encapsulate([b"\x00\x00"]))
    with pytest.raises(UnsupportedMedia, match="MPEG2 Main Profile"):
        read_dicom(data)


@pytest.mark.parametrize(
    ("elements", "field"),
    [
        ({"Rows": 49}, "PixelData"),
        ({"Rows": 47}, "PixelData"),
        ({"Rows": None}, "Rows"),
        ({"Rows": 0}, "Rows"),
        ({"Columns": 63}, "PixelData"),
        ({"BitsStored": 17}, "BitsStored"),
        ({"BitsStored": 12, "HighBit": 10}, "HighBit"),
        ({"HighBit": 16}, "HighBit"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"PixelRepresentation": 2}, "PixelRepresentation"),
        ({"WindowCenter": 1e9, "WindowWidth": 2}, "WindowCenter"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "VOILUTFunction"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
        ({"VOILUTSequence": lut(0, 8, [1, 2, 300])}, "LUTData"),
    ],
)
def test_contradictions_are_refused(elements, field):
    with pytest.raises(UnreadableImage) as refused:
        shown(ramp(), **elements)
    assert refused.value.field == f"image.{field}"


def test_voi_lut_that_hides_the_image_is_refused_by_its_name():
    with pytest.raises(UnreadableImage, match=r"image\.VOILUTSequence"):
        shown(ramp(), VOILUTSequence=lut(0, 12, [0] * 4096))


def test_lut_shorter_than_declared_is_refused():
    sequence = lut(0, 8, [1, 2, 3])
    sequence[0].LUTDescriptor = [4, 0, 8]
    with pytest.raises(UnreadableImage, match="must have 4"):
        shown(ramp(), VOILUTSequence=sequence)


@pytest.mark.parametrize("syntax", LOSSLESS[:4], ids=lambda syntax: NAMES[syntax])
@pytest.mark.parametrize("padding", [2, 512, 4096])
def test_zeros_behind_native_pixel_data_are_passed_over(syntax, padding):
    order = ">u2" if syntax == uid.ExplicitVRBigEndian else "<u2"
    data = dicom_file(ramp(), syntax, pixel_data=ramp().astype(order).tobytes() + bytes(padding), **WINDOW_12_BIT)
    np.testing.assert_array_equal(read_dicom(data).pixels, read_dicom(dicom_file(ramp(), **WINDOW_12_BIT)).pixels)


def test_zeros_behind_bytes_in_big_endian_words_are_passed_over():
    odd = ramp(3, 5, bits=8)
    swapped = np.frombuffer(odd.tobytes() + b"\x00", np.uint16).byteswap().tobytes()
    dataset = header(odd)
    dataset.PixelData = swapped + bytes(510)
    dataset["PixelData"].VR = "OW"
    got = read_dicom(written(dataset, uid.ExplicitVRBigEndian)).pixels
    np.testing.assert_array_equal(got, odd * np.uint16(257))


@pytest.mark.parametrize("behind", [b"\x00\x01", b"\xff" * 512, bytes(4098), bytes(2 * 48 * 64 - 2) + b"\x00\x01"])
def test_more_pixel_data_than_declared_is_refused(behind):
    with pytest.raises(UnreadableImage, match="as the header declares"):
        read_dicom(dicom_file(ramp(), pixel_data=ramp().tobytes() + behind))


def test_one_byte_of_padding_is_allowed_where_the_size_is_odd():
    odd = ramp(3, 5, bits=8)
    np.testing.assert_array_equal(shown(odd), odd * np.uint16(257))
    with pytest.raises(UnreadableImage):
        read_dicom(dicom_file(odd, pixel_data=odd.tobytes() + b"\x00\x00\x07"))


def test_pixels_must_be_there():
    dataset = header(ramp())
    with pytest.raises(UnreadableImage, match=r"image.PixelData.*must be present"):
        read_dicom(written(dataset, uid.ExplicitVRLittleEndian))


@pytest.mark.parametrize("data", [b"", b"DICM", b"\x00" * 128 + b"DICM", b"%PDF-1.7" * 100])
def test_no_dicom(data):
    with pytest.raises((UnsupportedMedia, UnreadableImage)):
        read_dicom(data)


def test_too_large_as_file_and_as_declared():
    data = dicom_file(ramp())
    with pytest.raises(TooLarge, match=r"images\[2\].size"):
        read_dicom(data, field="images[2]", limits=default_limits().but(image_bytes=1000))
    with pytest.raises(TooLarge, match="48 x 64"):
        read_dicom(data, limits=default_limits().but(image_pixels=48 * 64 - 1))
    with pytest.raises(TooLarge, match="65535 x 65535"):
        shown(ramp(), Rows=65535, Columns=65535)


def test_deflated_bomb_is_too_large_before_it_is_inflated():
    whole = dicom_file(np.zeros((1000, 1000), dtype=np.uint16), uid.DeflatedExplicitVRLittleEndian)
    assert len(whole) < 20_000
    with pytest.raises(TooLarge, match="once inflated"):
        read_dicom(whole, limits=default_limits().but(image_bytes=1_000_000))


def test_truncated_deflated_data_set_is_refused():
    whole = dicom_file(ramp(), uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(UnreadableImage, match="truncated"):
        read_dicom(whole[:-40])


def test_stream_that_contradicts_the_header_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda *_: pytest.fail("decoded"))
    small = jpeg(ramp(16, 16, bits=8))
    for data, rule in (
        (small, "16 x 16 x 1"),
        (jpeg(ramp(48, 64, bits=8))[:-2], "end-of-image"),
        (b"\xff\xd8\xff", "end-of-image"),
        (b"\xff\xd8\xff\xd9", "complete frame header"),
    ):
        with pytest.raises(UnreadableImage, match=rule):
            read_dicom(dicom_file(ramp(bits=8), uid.JPEGBaseline8Bit, pixel_data=encapsulate([data])))
    huge = bytearray(HTJ2K_STREAM)
    huge[8:12] = (2**31).to_bytes(4, "big")
    with pytest.raises(UnreadableImage, match="2147483648"):
        read_dicom(dicom_file(ramp(), uid.HTJ2K, pixel_data=encapsulate([bytes(huge)])))


def test_several_frames_where_one_is_declared_are_refused():
    stream = jpeg(ramp(bits=8))
    for has_bot in (True, False):
        data = encapsulate([stream, stream], has_bot=has_bot)
        with pytest.raises(UnreadableImage, match="several frames"):
            read_dicom(dicom_file(ramp(bits=8), uid.JPEGBaseline8Bit, pixel_data=data))


def test_one_frame_in_several_fragments_is_read():
    data = encapsulate([HTJ2K_STREAM], fragments_per_frame=3)
    image = read_dicom(dicom_file(ramp(), uid.HTJ2K, pixel_data=data, **WINDOW_12_BIT))
    np.testing.assert_array_equal(image.pixels, np.rint(ramp() / 4095 * 65535))


def test_panic_of_a_codec_and_lack_of_memory_are_our_errors(monkeypatch):
    class Panic(BaseException):
        pass

    def raising(error):
        def decode(*_):
            raise error

        return decode

    data = dicom_file(ramp(), uid.RLELossless)
    monkeypatch.setattr(dicom_pixels, "_decode", raising(Panic("quotes the file")))
    with pytest.raises(UnreadableImage, match="Panic") as refused:
        read_dicom(data)
    assert "quotes" not in str(refused.value)
    monkeypatch.setattr(dicom_pixels, "_decode", raising(MemoryError()))
    with pytest.raises(DecodeFailed, match="out of memory"):
        read_dicom(data)
    monkeypatch.setattr(dicom_pixels, "_decode", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_dicom(data)


def test_nothing_of_a_broken_file_reaches_logs_or_warnings(caplog):
    whole = dicom_file(ramp(), uid.JPEGLSLossless, PatientID="MRN-0042", StudyDate="19991313", StudyTime="0900")
    broken = whole[: len(whole) - 300] + b"\x00" * 298 + b"\xff\xd9"
    caplog.clear()
    level = logging.getLogger("pydicom").level
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        with pytest.raises(InputError) as refused:
            read_dicom(broken)
    assert not caplog.records
    assert not warned
    assert "0042" not in str(refused.value)
    assert logging.getLogger("pydicom").level == level


# What else the file says -----------------------------------------------------------------------------------------


def test_metadata():
    data = dicom_file(
        ramp(),
        ViewPosition="PA",
        ImageLaterality="U",
        PixelSpacing=[0.15, 0.2],
        ImagerPixelSpacing=[0.3, 0.3],
        AcquisitionDate="20200301",
        AcquisitionTime="101502.25",
        StudyDate="20200301",
        StudyTime="0900",
        BurnedInAnnotation="NO",
    )
    image = read_dicom(data)
    assert image.source == "dicom"
    assert image.view is ViewPosition.PA
    assert image.laterality == "U"
    assert image.pixel_spacing == (0.15, 0.2)
    assert image.acquired == datetime(2020, 3, 1, 10, 15, 2, 250_000)
    assert image.burned_in is False
    assert image.digest == sha256(data).hexdigest()
    assert image.patient_digest == sha256(b"MRN-0042").hexdigest()
    assert image.study_digest == sha256(b"1.2.3").hexdigest()


def issued(by: str, **keyword: str) -> Sequence:
    item = Dataset()
    setattr(item, by, next(iter(keyword.values())))
    return Sequence([item])


@pytest.mark.parametrize("by", ["LocalNamespaceEntityID", "UniversalEntityID"])
def test_order_device_and_site_are_digests(by: str):
    image = read_dicom(
        dicom_file(
            ramp(),
            AccessionNumber="A-17",
            IssuerOfAccessionNumberSequence=issued(by, name="RIS"),
            Manufacturer="Acme",
            StationName="ROOM-7",
            InstitutionName="St. Elsewhere",
        )
    )
    assert image.accession_digest == sha256(b"A-17\0RIS").hexdigest()
    assert image.device_digest == sha256(b"Acme\0\0ROOM-7").hexdigest()
    assert image.site_digest == sha256(b"St. Elsewhere").hexdigest()
    assert not {"Acme", "ROOM-7", "St. Elsewhere", "RIS"} & set(str(image.facts()).split("'"))


def test_without_order_device_and_site_there_are_no_digests():
    image = read_dicom(dicom_file(ramp(), IssuerOfAccessionNumberSequence=Sequence([])))
    assert (image.accession_digest, image.device_digest, image.site_digest) == (None, None, None)
    assert read_dicom(dicom_file(ramp(), AccessionNumber="A-17")).accession_digest == accession_digest(" A-17")


@pytest.mark.parametrize(
    ("given", "shown"), [("1.2.840.1", "1.2.840.1"), ("1.02", None), ("1.2&x=<b>", None), ("", None)]
)
def test_study_instance_uid_is_shown_where_it_keeps_the_rule(given, shown):
    assert read_viewed_dicom(dicom_file(ramp(), StudyInstanceUID=given)).view.study_instance_uid == shown


def test_metadata_that_is_absent_or_malformed():
    image = read_dicom(dicom_file(ramp(), ImagerPixelSpacing=[0.3, 0.3], PatientID=None, StudyDate="20201350"))
    assert image.view is ViewPosition.UNKNOWN
    assert image.pixel_spacing == (0.3, 0.3)
    assert image.acquired is None
    assert image.burned_in is None
    assert image.patient_digest is None


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "AP"}, ViewPosition.AP),
        ({"ViewPosition": "AP", "PatientPosition": "HFS"}, ViewPosition.AP_SUPINE),
        ({"ViewPosition": "LL"}, ViewPosition.LATERAL),
        ({"ViewPosition": "RL"}, ViewPosition.LATERAL),
        ({"ViewPosition": "LLD"}, ViewPosition.UNKNOWN),
        ({"ViewPosition": "XYZ"}, ViewPosition.UNKNOWN),
    ],
)
def test_view(elements, view):
    assert read_dicom(dicom_file(ramp(), **elements)).view is view


def test_view_from_its_code():
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "272479007", "SCT", "postero-anterior"
    assert read_dicom(dicom_file(ramp(), ViewCodeSequence=Sequence([code]))).view is ViewPosition.PA


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"AcquisitionDateTime": "20200301101500.5+0100"}, datetime(2020, 3, 1, 9, 15, 0, 500_000, UTC)),
        ({"ContentDate": "20200301", "ContentTime": "10"}, datetime(2020, 3, 1, 10)),
        ({"AcquisitionDate": "20200301", "StudyDate": "20200228", "StudyTime": "2359"}, datetime(2020, 2, 28, 23, 59)),
        ({"StudyDate": "20200301"}, None),
    ],
)
def test_acquisition_time_is_the_first_complete_one(elements, expected):
    assert read_dicom(dicom_file(ramp(), **elements)).acquired == expected
