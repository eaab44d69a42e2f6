from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.filewriter import write_file_meta_info

from consilium.domain.errors import UnreadableImage, UnsupportedMedia
from consilium.formats.dicom.file_structure import is_dicom
from consilium.modalities.image.records import read_image
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

WINDOW_12_BIT = {"WindowCenter": 2048, "WindowWidth": 4096}
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)


def parts(syntax, pixels=None):
    """File meta information and data set of a file, each by itself."""
    whole = dicom_file(ramp() if pixels is None else pixels, syntax, **WINDOW_12_BIT)
    read = dcmread(BytesIO(whole))
    file = BytesIO()
    write_file_meta_info(file, read.file_meta)
    size = len(file.getvalue())
    assert whole[132 : 132 + size] == file.getvalue()
    return whole[132 : 132 + size], whole[132 + size :]


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: uid.UID(syntax).keyword)
@pytest.mark.parametrize("before", [b"", bytes(128) + b"DICM", b"DICM"])
def test_native_data_set_without_file_meta_information_is_read(syntax, before):
    _, dataset = parts(syntax)
    np.testing.assert_array_equal(read_image(before + dataset).pixels, np.rint(ramp() / 4095 * 65535))


@pytest.mark.parametrize("syntax", [*NATIVE, uid.DeflatedExplicitVRLittleEndian, uid.JPEGLSLossless])
def test_file_meta_information_without_preamble_is_read(syntax):
    meta, dataset = parts(syntax)
    for before in (b"", b"DICM"):
        np.testing.assert_array_equal(read_image(before + meta + dataset).pixels, np.rint(ramp() / 4095 * 65535))


def test_compressed_data_set_without_file_meta_information_is_refused_by_what_is_missing():
    _, dataset = parts(uid.JPEGLSLossless)
    with pytest.raises(UnreadableImage, match="TransferSyntaxUID"):
        read_image(dataset)


def test_preamble_of_another_format_is_passed_over():
    whole = bytearray(dicom_file(ramp(), **WINDOW_12_BIT))
    whole[:4] = b"II*\x00"
    assert read_image(bytes(whole)).source == "dicom"


@pytest.mark.parametrize("data", [b"", b"\x08\x00", b"\x00\x08\x05\x00\x00\x00", b"\x08\x00\x05\x00\xff\xff\xff\x7f"])
def test_what_does_not_begin_as_a_data_set_is_not_taken_for_one(data):
    assert not is_dicom(data)
    with pytest.raises(UnsupportedMedia):
        read_image(data)


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: uid.UID(syntax).keyword)
def test_data_set_without_anything_before_it_cut_off_is_refused(syntax):
    _, dataset = parts(syntax)
    for tenth in range(1, 10):
        with pytest.raises((UnreadableImage, UnsupportedMedia)):
            read_image(dataset[: len(dataset) * tenth // 10])


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless])
@pytest.mark.parametrize("behind", [b"\xff" * 100, bytes(1000), b"\n", b"of a disk block" * 10])
def test_what_lies_behind_the_pixels_is_passed_over(syntax, behind):
    whole = dicom_file(ramp(), syntax, **WINDOW_12_BIT)
    np.testing.assert_array_equal(read_image(whole + behind).pixels, np.rint(ramp() / 4095 * 65535))
