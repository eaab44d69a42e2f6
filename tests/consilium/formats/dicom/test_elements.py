"""Numbers of a DICOM file are what its whole strings say, whatever pydicom makes of them."""

import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from consilium.domain.errors import UnreadableImage
from consilium.formats.decimals import AMBIGUOUS, RULE
from consilium.formats.dicom.elements import decimal, decimals, sequence_items, whole_number
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.files.dicom_image import read_dicom
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp, written

COMMA = "the comma was read as a decimal point"


def element(keyword: str, vr: str, value: bytes) -> Dataset:
    """A data set as it is read from a file with this one element."""
    tag = Tag(tag_for_keyword(keyword))
    head = struct.pack("<HH2sH", tag.group, tag.element, vr.encode(), len(value) + len(value) % 2)
    return read_dataset(BytesIO(head + value + b" " * (len(value) % 2)), is_implicit_VR=False, is_little_endian=True)


def file_with(syntax: str = uid.ExplicitVRLittleEndian, **strings: str) -> bytes:
    """An image whose decimal strings are these, as they are."""
    dataset = dcmread(BytesIO(dicom_file(ramp(), syntax)))
    for keyword, value in strings.items():
        tag = Tag(tag_for_keyword(keyword))
        raw = value.encode() + b" " * (len(value.encode()) % 2)
        dataset[tag] = RawDataElement(tag, "DS", len(raw), raw, 0, syntax == uid.ImplicitVRLittleEndian, True)
    return written(dataset, syntax)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1.9", (1.9,)),
        (b" 1.9 ", (1.9,)),
        (b"1.9\x00", (1.9,)),
        (b"1,9", (1.9,)),
        (b"1,9\\2,5", (1.9, 2.5)),
        (b"1\\\\3", (1.0, None, 3.0)),
        (b"", ()),
        (b"-1E2\\+.5", (-100.0, 0.5)),
    ],
)
def test_decimal_string(value, expected):
    assert decimals(element("WindowCenter", "DS", value), "WindowCenter") == expected


@pytest.mark.parametrize("value", [b"1_000", b"nan", b"infinity", b"1 9", b"1.9x", b"1,9,2", b"\xef\xbc\x91", b"1\\2x"])
def test_decimal_string_that_is_no_number_is_refused_by_name(value):
    with pytest.raises(UnreadableImage) as refused:
        decimal(element("RescaleSlope", "DS", value), "RescaleSlope")
    assert (refused.value.field, refused.value.rule) == ("RescaleSlope", RULE)


def test_number_that_a_file_writes_in_binary():
    assert decimals(element("RescaleSlope", "FD", struct.pack("<d", 1.9)), "RescaleSlope") == (1.9,)
    assert decimals(element("WindowCenter", "SS", struct.pack("<2h", -5, 7)), "WindowCenter") == (-5.0, 7.0)
    with pytest.raises(UnreadableImage, match="RescaleSlope"):
        decimals(element("RescaleSlope", "FD", struct.pack("<d", np.nan)), "RescaleSlope")


@pytest.mark.parametrize(("value", "expected"), [(b"1", 1), (b"+2", 2), (b" 3 ", 3), (b"2.0", 2), (b"1E1", 10)])
def test_integer_string(value, expected):
    assert whole_number(element("NumberOfFrames", "IS", value), "NumberOfFrames", 0, 99) == expected


@pytest.mark.parametrize("value", [b"1_0", b"1,0", b"2.5", b"1\\2", b"one", b"100", b"-1", b"9" * 60])
def test_integer_string_that_is_no_whole_number_is_refused_by_name(value):
    with pytest.raises(UnreadableImage, match="NumberOfFrames"):
        whole_number(element("NumberOfFrames", "IS", value), "NumberOfFrames", 0, 99)


@given(st.decimals(-9999, 9999, places=4), st.sampled_from(["RescaleSlope", "WindowCenter", "PixelSpacing"]))
def test_value_stays_however_the_element_is_written(number, keyword):
    ways = [f"{number:f}", f" {number:f} ", f"{number:f}".replace(".", ","), f"{number:e}", f"{number:f}\\7"]
    assert {decimals(element(keyword, "DS", way.encode()), keyword)[0] for way in ways} == {float(number)}


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_image_with_decimal_commas_is_the_one_with_points_and_a_warning(syntax):
    rescaled = {"RescaleSlope": "1.9", "RescaleIntercept": "-1024.5", "WindowCenter": "2000.5", "WindowWidth": "3000.5"}
    commas = {keyword: value.replace(".", ",") for keyword, value in rescaled.items()}
    points, comma = read_dicom(file_with(syntax, **rescaled)), read_dicom(file_with(syntax, **commas))
    assert np.array_equal(points.pixels, comma.pixels)
    assert not np.array_equal(points.pixels, read_dicom(file_with(syntax, **{**rescaled, "RescaleSlope": "1"})).pixels)
    assert points.warnings == ()
    assert comma.warnings == tuple(f"{keyword}: {COMMA}" for keyword in rescaled)
    assert f"images[0].RescaleSlope: {COMMA}" in study_from_records(images=[comma]).warnings


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("value", ["1_000", "nan", "infinity", "1.9.1", "1,9,1", "2 048", "1e999"])
def test_image_with_an_element_that_is_no_number_is_refused_by_name(keyword, value):
    numbers = {"RescaleSlope": "1", "RescaleIntercept": "0", "WindowCenter": "2048", "WindowWidth": "4096"}
    with pytest.raises(UnreadableImage) as refused:
        read_dicom(file_with(**{**numbers, keyword: value}))
    assert refused.value.field == f"image.{keyword}"


def test_pixel_spacing():
    assert read_dicom(file_with(PixelSpacing="0.15\\0.2")).pixel_spacing == (0.15, 0.2)
    comma = read_dicom(file_with(PixelSpacing="0,15\\0,2"))
    assert (comma.pixel_spacing, comma.warnings) == ((0.15, 0.2), (f"PixelSpacing: {COMMA}",))


def test_pixel_spacing_that_cannot_be_is_passed_over_with_a_warning():
    image = read_dicom(file_with(PixelSpacing="0.1_5\\0.2", ImagerPixelSpacing="0.3\\0.3"))
    assert (image.pixel_spacing, image.warnings) == ((0.3, 0.3), (f"PixelSpacing is not used: {RULE}",))
    distances = "must be two like distances above 0 and below 100 mm"
    for value in ("0\\0", "0.2", "1\\2\\3", "-1\\1", "0.2\\"):
        image = read_dicom(file_with(PixelSpacing=value))
        assert (image.pixel_spacing, image.warnings) == (None, (f"PixelSpacing is not used: {distances}",))


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["1.9\\2.5", "\\2", "1,9\\1"])
def test_several_values_where_one_must_be_are_refused(keyword, value):
    with pytest.raises(UnreadableImage, match="must be one number") as refused:
        read_dicom(file_with(**{keyword: value}))
    assert refused.value.field == f"image.{keyword}"


def test_comma_that_may_divide_thousands_is_never_read_as_a_decimal_point_where_thousands_occur():
    automatic = read_dicom(file_with())
    image = read_dicom(file_with(WindowCenter="2,048", WindowWidth="4,096"))
    np.testing.assert_array_equal(image.pixels, automatic.pixels)
    assert image.warnings == (f"WindowCenter and WindowWidth: passed over, {AMBIGUOUS}",)
    next_one = read_dicom(file_with(WindowCenter="9\\2000", WindowWidth="4,096\\3000"))
    np.testing.assert_array_equal(
        next_one.pixels, read_dicom(file_with(WindowCenter="2000", WindowWidth="3000")).pixels
    )
    with pytest.raises(UnreadableImage, match=r"image\.RescaleIntercept.*divide the thousands"):
        read_dicom(file_with(RescaleIntercept="-1,024"))
    slope = read_dicom(file_with(RescaleSlope="1,500", WindowCenter="2000", WindowWidth="3000"))
    point = read_dicom(file_with(RescaleSlope="1.500", WindowCenter="2000", WindowWidth="3000"))
    np.testing.assert_array_equal(slope.pixels, point.pixels)
    assert slope.warnings == (f"RescaleSlope: {COMMA}",)


def test_pixel_aspect_ratio_with_a_decimal_comma_is_warned_of():
    image = read_dicom(file_with(PixelAspectRatio="2,5\\1"))
    assert image.shape == (round(2.5 * image.grid[0]), image.grid[1])
    assert image.warnings == (f"PixelAspectRatio: {COMMA}",)


def test_the_items_of_a_sequence_are_data_sets_or_none() -> None:
    whole = Dataset()
    whole.ProcedureCodeSequence = [Dataset(), Dataset()]
    assert len(sequence_items(whole, "ProcedureCodeSequence")) == 2
    assert sequence_items(whole, "IssuerOfAccessionNumberSequence") == []
    assert sequence_items(element("ProcedureCodeSequence", "LO", b"ab\\cd"), "ProcedureCodeSequence") == []
    assert sequence_items(element("ProcedureCodeSequence", "OB", b"abcd"), "ProcedureCodeSequence") == []
    assert sequence_items(element("ProcedureCodeSequence", "US", b"abcd"), "ProcedureCodeSequence") == []
