"""Files that others made, cut off, and made up: they load, or are refused with an error of ours."""

import importlib.util
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.records import read_image
from tests.consilium.formats.dicom.dicom_files import HTJ2K_STREAM, LOSSLESS, dicom_file, jpeg, ramp

# pydicom's own search for its samples downloads what it does not find.
SAMPLE_FOLDERS = [Path(pydicom.data.__file__).parent / "test_files"]
if store := importlib.util.find_spec("data_store"):
    SAMPLE_FOLDERS += [Path(folder) / "data" for folder in store.submodule_search_locations]
SAMPLES = sorted(path for folder in SAMPLE_FOLDERS for path in folder.rglob("*") if path.is_file())
FRACTIONS = [tenth / 10 for tenth in range(1, 10)]
WINDOW_12_BIT = {"WindowCenter": 2048, "WindowWidth": 4096}


def read_or_none(data: bytes) -> Image | None:
    """The image, None where it was refused; any other exception fails the test."""
    try:
        image = read_image(data)
    except InputError:
        return None
    assert image.pixels.dtype == np.uint16
    assert image.pixels.ndim == 2
    return image


def test_samples_of_pydicom_load_or_are_refused():
    assert len(SAMPLES) > 150
    loaded = [path.name for path in SAMPLES if read_or_none(path.read_bytes())]
    assert len(loaded) >= 50
    assert {"CT_small.dcm", "MR_small_bigendian.dcm", "JPGExtended.dcm", "image_dfl.dcm", "693_J2KI.dcm"} <= set(loaded)
    assert not {"MR_truncated.dcm", "rtdose.dcm", "test-SR.dcm", "liver_1frame.dcm", "no_meta.dcm"} & set(loaded)


def test_encodings_of_one_sample_agree():
    by_name = {path.name: path for path in SAMPLES}
    names = ["MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit"]
    names += ["MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"]
    first, *others = [read_image(by_name[f"{name}.dcm"].read_bytes()).pixels for name in names]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_twelve_bit_jpeg_extended_shows_the_picture_of_its_jpeg_2000_twin():
    by_name = {path.name: path for path in SAMPLES}
    lossy, twin = (read_image(by_name[name].read_bytes()).pixels for name in ("JPGExtended.dcm", "JPEG2000.dcm"))
    likeness, chance = (np.corrcoef(lossy.ravel(), other.ravel())[0, 1] for other in (twin, twin[::-1]))
    assert likeness > 0.94
    assert chance < 0.8


def test_twelve_bit_jpeg_extended_is_refused_by_name_where_its_decoder_is_not_installed(monkeypatch):
    (sample,) = (path for path in SAMPLES if path.name == "JPGExtended.dcm")
    monkeypatch.delitem(get_decoder(uid.JPEGExtended12Bit)._available, "pylibjpeg")

    with pytest.raises(UnsupportedMedia, match=r"JPEG Extended .*, 12 bits.*consilium\[jpeg-extended\]"):
        read_image(sample.read_bytes())


def test_samples_cut_off_are_refused_or_whole():
    """A cut behind the pixel data, within trailing padding, leaves the picture whole."""
    for path in SAMPLES:
        data = path.read_bytes()
        if len(data) > 200_000 or (whole := read_or_none(data)) is None:
            continue
        for fraction in FRACTIONS:
            cut = read_or_none(data[: int(len(data) * fraction)])
            assert cut is None or np.array_equal(cut.pixels, whole.pixels), f"{path.name} at {fraction}"


@pytest.mark.parametrize("syntax", [*LOSSLESS, uid.JPEGBaseline8Bit], ids=lambda syntax: uid.UID(syntax).keyword)
def test_files_of_every_transfer_syntax_cut_off_are_refused(syntax):
    data = dicom_file(ramp(bits=8 if syntax == uid.JPEGBaseline8Bit else 12), syntax)
    assert read_or_none(data)
    for fraction in FRACTIONS:
        assert read_or_none(data[: int(len(data) * fraction)]) is None, fraction


# GDCM, like every decoder of the JPEG of 1992, fills up behind a cut where an end marker was put: see below.
FORGEABLE = (uid.JPEGLossless, uid.JPEGLosslessSV1)
CUT_STREAMS = [
    (syntax, end) for syntax in LOSSLESS[4:] for end in (b"", b"\xff\xd9") if not end or syntax not in FORGEABLE
]


@pytest.mark.parametrize(("syntax", "ending"), CUT_STREAMS)
def test_streams_cut_off_inside_a_whole_file_are_refused(syntax, ending, tmp_path):
    (tmp_path / "whole.dcm").write_bytes(dicom_file(ramp(), syntax, **WINDOW_12_BIT))
    whole = dcmread(tmp_path / "whole.dcm")
    stream = next(generate_frames(whole.PixelData, number_of_frames=1))
    for fraction in FRACTIONS:
        cut = stream[: int(len(stream) * fraction)] + ending
        data = dicom_file(ramp(), syntax, pixel_data=encapsulate([cut]), **WINDOW_12_BIT)
        assert read_or_none(data) is None, fraction


def test_jpeg_cut_off_is_refused_unless_its_end_was_forged():
    """JPEG streams have no length: with an end marker put behind the cut, decoders fill up the rest and cannot know."""
    stream = jpeg(ramp(bits=8))
    for fraction in FRACTIONS:
        cut = stream[: int(len(stream) * fraction)]
        assert read_or_none(cut) is None
        data = dicom_file(ramp(bits=8), uid.JPEGBaseline8Bit, pixel_data=encapsulate([cut]))
        assert read_or_none(data) is None


SEEDS = [
    *(dicom_file(ramp(), syntax, **WINDOW_12_BIT) for syntax in LOSSLESS),
    dicom_file(ramp(bits=8), uid.JPEGBaseline8Bit),
    dicom_file(np.stack([ramp(8, 8, 8)] * 3, axis=-1), PixelPaddingValue=3),
]
HEADER_VALUES = {
    "Rows": st.integers(0, 65535),
    "Columns": st.integers(0, 65535),
    "SamplesPerPixel": st.sampled_from([0, 1, 2, 3, 4, 65535]),
    "BitsAllocated": st.sampled_from([0, 1, 7, 8, 12, 16, 32, 64, 65535]),
    "BitsStored": st.integers(0, 40),
    "HighBit": st.integers(0, 40),
    "PixelRepresentation": st.integers(0, 3),
    "PlanarConfiguration": st.integers(0, 3),
    "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL_422", "", "X" * 16]),
    "NumberOfFrames": st.sampled_from(["", "0", "1", "2", "-1", "999999999"]),
    "WindowCenter": st.sampled_from(["", "0", "-1e300", "1e300", "1\\2\\3", "2048"]),
    "WindowWidth": st.sampled_from(["", "0", "-5", "1", "1e-300", "1e300", "1\\2\\3", "4096"]),
    "RescaleSlope": st.sampled_from(["", "0", "1e300", "-1e300", "-1", "1e-300"]),
    "RescaleIntercept": st.sampled_from(["", "1e300", "-5"]),
    "VOILUTFunction": st.sampled_from(["", "LINEAR", "LINEAR_EXACT", "SIGMOID", "NONE"]),
    "PixelPaddingValue": st.integers(0, 32767),
    "PixelPaddingRangeLimit": st.integers(0, 32767),
    "PixelSpacing": st.sampled_from(["", "0\\0", "1", "-1\\1", "1e300\\1", "0.1\\0.2\\0.3", "0.1\\0.3", "1e-30\\9"]),
    "PixelAspectRatio": st.sampled_from(["", "0\\0", "1", "-1\\1", "1\\2", "999999999\\1"]),
    "PatientAge": st.sampled_from(["", "036Y", "9", "XXXY", "1000"]),
    "BodyPartExamined": st.sampled_from(["", "CHEST", "Anna Meier", "?" * 16]),
    "ViewPosition": st.sampled_from(["", "PA", "AP\\PA", "?" * 16]),
    "AcquisitionDate": st.sampled_from(["", "20200230", "00000000", "99999999"]),
    "AcquisitionTime": st.sampled_from(["", "250000", "1", "236060.9999999"]),
}
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@FUZZ
@given(
    syntax=st.sampled_from([*LOSSLESS[:4], uid.HTJ2K]),
    signed=st.booleans(),
    elements=st.fixed_dictionaries({}, optional=HEADER_VALUES),
)
def test_made_up_headers(syntax, signed, elements):
    pixels = ramp().view(np.int16) if signed and syntax != uid.HTJ2K else ramp()
    data = dicom_file(pixels, syntax, pixel_data=pixels.tobytes() if syntax in LOSSLESS[:4] else None, **elements)
    image = read_or_none(data)
    if image is not None:
        assert image.grid == (elements.get("Rows", 48), elements.get("Columns", 64))


@FUZZ
@given(
    seed=st.sampled_from(SEEDS),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    in_header=st.booleans(),
)
def test_flipped_bytes(seed, places, in_header):
    data = bytearray(seed)
    for place, value in places:
        data[132 + int(place * (min(len(data), 900) - 132)) if in_header else int(place * len(data))] = value
    read_or_none(bytes(data))


@FUZZ
@given(
    rubbish=st.binary(max_size=400), start=st.sampled_from([b"", b"\x00" * 128 + b"DICM", b"\xff\xd8\xff", b"II*\x00"])
)
def test_rubbish(rubbish, start):
    assert read_or_none(start + rubbish) is None


@FUZZ
@given(places=st.lists(st.tuples(st.integers(0, len(HTJ2K_STREAM) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_flipped_bytes_in_a_stream(places):
    stream = bytearray(HTJ2K_STREAM)
    for place, value in places:
        stream[place] = value
    read_or_none(dicom_file(ramp(), uid.HTJ2K, pixel_data=encapsulate([bytes(stream)])))
