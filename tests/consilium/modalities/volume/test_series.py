"""DICOM series are put together by where their slices lie; what does not fit together is named or refused."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    XRayAngiographicImageStorage,
    generate_uid,
)

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.modalities.registry import default_limits
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.archive import pack
from tests.consilium.modalities.volume.made import (
    SHAPE,
    enhanced,
    files,
    mr,
    packed,
    read,
    series,
    slice_dataset,
    stored,
    written,
)


def hounsfield(seed: int = 0) -> np.ndarray:
    return 2.0 * stored(seed) - 1000


def at(number: int, z: float) -> Callable[[Dataset, int], None]:
    """Slice `number` at another height."""

    def change(dataset: Dataset, own: int) -> None:
        if own == number:
            dataset.ImagePositionPatient = [-3.0, -4.0, z]

    return change


def test_a_series_in_any_order_is_sorted_by_position_and_scaled() -> None:
    def misnumbered(dataset: Dataset, number: int) -> None:
        dataset.InstanceNumber = 100 - number

    record = read(series(change=misnumbered))

    np.testing.assert_array_equal(record.values(0, SHAPE[0]), hounsfield())
    assert record.voxels.dtype == np.int16
    assert (record.modality, record.faults, record.warnings) == ("CT", (), ())
    assert record.grid.spacing == pytest.approx((3, 0.5, 0.75))
    np.testing.assert_allclose(record.grid.affine @ [2, 4, 5, 1], [-3 + 2 * 0.75, -4 + 4 * 0.5, 15, 1])
    assert record.patient.age == 60
    assert record.names == ("Doe^Jane", "4711")
    assert "4711" not in repr(record)


def test_a_rescale_of_each_slice_is_its_own() -> None:
    def own(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + number, -number

    record = read(series(change=own))

    factors = np.arange(SHAPE[0], dtype=float)[:, None, None]
    np.testing.assert_allclose(record.values(0, SHAPE[0]), stored() * (1 + factors) - factors)


def test_missing_slices_are_named_and_filled_in() -> None:
    rows = np.arange(24, dtype=np.int16)[:, None, None] * np.ones((24, 6, 6), np.int16)
    whole = files(rows)
    record = read(packed(whole[:9] + whole[10:]))

    assert record.faults == (Fault.GAPS,)
    assert "1 slices are missing" in record.warnings
    np.testing.assert_array_equal(record.values(0, 24), 2.0 * rows - 1000)


def test_a_distance_that_changes_is_named_and_the_longest_stretch_read() -> None:
    def thicker(dataset: Dataset, number: int) -> None:
        if number > 5:
            dataset.ImagePositionPatient = [-3.0, -4.0, 15 + 4.6 * (number - 5)]

    record = read(series(change=thicker))

    assert Fault.DISTANCES in record.faults
    np.testing.assert_array_equal(record.values(0, 6), hounsfield()[:6])
    assert record.grid.shape[0] == 6


def test_behind_a_gap_that_is_too_long_to_fill_nothing_is_read() -> None:
    whole = files(stored(0, (24, 4, 4)))
    record = read(packed(whole[:8] + whole[14:]))

    assert record.faults == (Fault.DISTANCES,)
    assert "8 slices at other distances were left out" in record.warnings
    np.testing.assert_array_equal(record.values(0, 10), 2.0 * stored(0, (24, 4, 4))[14:] - 1000)


def test_a_tilted_gantry_is_named_and_kept_in_the_grid() -> None:
    def leaning(dataset: Dataset, number: int) -> None:
        dataset.ImagePositionPatient = [-3.0, -4.0 + 3 * np.tan(np.radians(20)) * number, 3.0 * number]

    record = read(series(change=leaning))

    assert "the gantry was tilted by 20 degrees, which was corrected" in record.warnings
    assert record.grid.spacing[0] == pytest.approx(3)
    np.testing.assert_allclose(record.grid.affine[:3, 2], [0, 3 * np.tan(np.radians(20)), 3])


def test_slices_that_were_sent_twice_are_read_once() -> None:
    contents = files(stored())
    record = read(packed([*contents, *contents[:3]]))

    assert "3 slices were sent twice" in record.warnings
    np.testing.assert_array_equal(record.values(0, SHAPE[0]), hounsfield())


def test_an_instance_uid_of_two_different_images_is_refused_and_of_one_packed_anew_is_not() -> None:
    contents = files(stored(0))
    for other in (
        files(stored(1))[3],
        written(slice_dataset(stored(0)[3], 3, ImagePositionPatient=[-3.0, -4.0, 30.0])),
    ):
        with pytest.raises(InputError, match="must be of one image alone") as caught:
            read(packed([*contents, other]))
        assert caught.value.field.startswith("volumes[0].files[")
    again = slice_dataset(stored(0)[3], 3)
    again.compress(RLELossless, stored(0)[3], generate_instance_uid=False)
    record = read(packed([*contents, written(again, RLELossless)]))
    np.testing.assert_array_equal(record.values(0, SHAPE[0]), hounsfield())


def test_slices_without_an_instance_uid_are_each_their_own() -> None:
    contents = []
    for number, row in enumerate(stored()):
        dataset = slice_dataset(row, number)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPInstanceUID = ""
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=False, implicit_vr=False, little_endian=True)
        contents.append(out.getvalue())
    np.testing.assert_array_equal(read(packed(contents)).values(0, SHAPE[0]), hounsfield())


@pytest.mark.parametrize("name", ["a", "b"])
def test_files_of_two_patients_are_no_volume(name: str) -> None:
    other = files(stored(1), lambda dataset, number: setattr(dataset, "PatientID", f"other {number // 99}"), name)
    with pytest.raises(InputError, match="must be of one patient") as caught:
        read(packed([*files(stored(0))[:4], *other[4:]]))
    assert caught.value.field == "volumes[0].PatientID"


def test_ct_and_mr_of_one_series_are_never_one_volume() -> None:
    record = read(series(change=lambda dataset, number: mr(dataset, number) if number % 2 else None))

    assert (record.modality, record.grid.shape[0]) == ("CT", 4)
    assert record.chosen.startswith("series 1 of 2 was read (CT")
    np.testing.assert_array_equal(record.values(0, 4), hounsfield()[::2])


def test_a_few_thin_slices_do_not_stand_for_a_series_of_more_than_twice_their_length() -> None:
    def thin(dataset: Dataset, number: int) -> None:
        dataset.ImagePositionPatient = [-3.0, -4.0, 0.6 * number]
        dataset.SliceThickness = 0.6

    rows = stored(0, (40, 4, 4))
    record = read(packed([*files(rows), *files(stored(1, (4, 4, 4)), thin, "b")]))

    np.testing.assert_array_equal(record.values(0, 40), 2.0 * rows - 1000)
    assert "series 1 of 2" in record.chosen


def test_of_two_echoes_at_one_place_the_first_is_read_and_named() -> None:
    first = files(stored(0), EchoTime=10)
    second = [
        written(slice_dataset(row, number, SOPInstanceUID=generate_uid(), EchoTime=80))
        for number, row in enumerate(stored(1))
    ]
    record = read(packed(first + second))

    assert any("differ in EchoTime" in warning for warning in record.warnings)
    np.testing.assert_array_equal(record.values(0, SHAPE[0]), hounsfield(0))


def test_slices_at_one_place_that_nothing_tells_apart_are_refused() -> None:
    second = [
        written(slice_dataset(row, number, SOPInstanceUID=generate_uid())) for number, row in enumerate(stored(1))
    ]
    with pytest.raises(InputError, match="must be one at each place"):
        read(packed(files(stored(0)) + second))


def test_localizers_and_slices_of_another_size_or_orientation_are_left_out_by_name() -> None:
    scout = slice_dataset(np.zeros((20, 20), np.int16), 50, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    larger = slice_dataset(np.zeros((20, 20), np.int16), 51)
    lying = slice_dataset(stored()[0], 52, ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1.0])
    record = read(packed([*files(stored()), *(written(one) for one in (scout, larger, lying))]))

    assert "1 localizers were left out" in record.warnings
    assert "2 slices of another size, spacing or orientation were left out" in record.warnings
    assert record.grid.shape == SHAPE


def test_of_several_series_one_is_chosen_and_it_is_told_why() -> None:
    def coronal(dataset: Dataset, number: int) -> None:
        dataset.ImageOrientationPatient = [1.0, 0, 0, 0, 0, -1.0]
        dataset.ImagePositionPatient = [0.0, 1.0 * number, 0.0]
        dataset.SeriesNumber = 3

    def thick(dataset: Dataset, number: int) -> None:
        dataset.ImagePositionPatient = [-3.0, -4.0, 6.0 * number]
        dataset.SliceThickness, dataset.SeriesNumber = 6, 2

    contents = [*files(stored(2), coronal, "c"), *files(stored(1), thick, "b"), *files(stored(0))]
    record = read(packed(contents))

    np.testing.assert_array_equal(record.values(0, SHAPE[0]), hounsfield(0))
    assert record.chosen.startswith("series 1 of 3 was read (CT, axial, original, 8 slices of 3 mm)")


def test_other_files_and_objects_beside_a_series_are_counted() -> None:
    other = slice_dataset(stored()[0], 60, SOPClassUID=XRayAngiographicImageStorage)
    record = read(packed([*files(stored()), written(other), b"read me"]))

    assert any("1 file was left out: X-Ray Angiographic" in warning for warning in record.warnings)
    assert any("1 file was left out: no DICOM" in warning for warning in record.warnings)


def test_an_index_of_a_disc_and_pixels_that_are_not_read_are_named_as_what_they_are() -> None:
    index = Path(str(get_testdata_file("DICOMDIR"))).read_bytes()
    wide = slice_dataset(stored()[0], 61, BitsAllocated=32)
    record = read(packed([*files(stored()), index, written(wide)]))

    assert "1 file was left out: no image" in record.warnings
    assert "1 file was left out: BitsAllocated 32" in record.warnings


def test_big_endian_and_compressed_slices_are_read_as_others() -> None:
    big = [
        written(slice_dataset(row, number, PixelData=row.astype(">i2").tobytes()), ExplicitVRBigEndian)
        for number, row in enumerate(stored())
    ]
    np.testing.assert_array_equal(read(packed(big)).values(0, SHAPE[0]), hounsfield())
    compressed = []
    for number, row in enumerate(stored()):
        dataset = slice_dataset(row, number)
        dataset.compress(RLELossless, row, generate_instance_uid=False)
        compressed.append(written(dataset, RLELossless))
    np.testing.assert_array_equal(read(packed(compressed)).values(0, SHAPE[0]), hounsfield())
    np.testing.assert_array_equal(read(packed(files(stored()), zipfile.ZIP_DEFLATED)).values(0, SHAPE[0]), hounsfield())


@pytest.mark.parametrize("order", [None, [3, 1, 0, 2, 7, 6, 5, 4]])
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_of_an_enhanced_object_have_their_own_place_and_scale(order: list[int] | None, compressed: bool) -> None:
    whole = enhanced(stored(), order)
    if compressed:
        alone = []
        for number in order or range(SHAPE[0]):
            one = slice_dataset(stored()[number], 0)
            one.compress(RLELossless, stored()[number])
            alone.append(bytes(one.PixelData))
        from pydicom.encaps import generate_frames

        streams = [next(generate_frames(data, number_of_frames=1)) for data in alone]
        whole.PixelData = encapsulate(streams)
        whole["PixelData"].VR = "OB"
    record = read(written(whole, RLELossless) if compressed else written(whole))

    expected = hounsfield() + np.arange(SHAPE[0])[:, None, None]
    np.testing.assert_allclose(record.values(0, SHAPE[0]), expected)
    assert record.grid.spacing == pytest.approx((3, 0.5, 0.75))
    assert record.faults == ()


def test_the_scale_of_a_sample_of_pydicom_is_that_of_its_own_reader() -> None:
    from pydicom import dcmread

    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm"):
        sample = dcmread(get_testdata_file(name))
        normal = np.cross(*np.reshape([float(x) for x in sample.ImageOrientationPatient], (2, 3)))
        contents = []
        for number in range(4):
            sample.SOPInstanceUID = sample.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            place = np.array([float(x) for x in sample.ImagePositionPatient]) + (normal * 2 if number else 0)
            sample.ImagePositionPatient = [f"{x:.8g}"[:16] for x in place]
            out = io.BytesIO()
            sample.save_as(out)
            contents.append(out.getvalue())
        record = read(packed(contents))
        slope, intercept = float(sample.get("RescaleSlope", 1)), float(sample.get("RescaleIntercept", 0))
        np.testing.assert_allclose(record.values(0, 1)[0], sample.pixel_array * slope + intercept)


def test_a_ct_without_its_rescale_has_no_hounsfield_units() -> None:
    assert Fault.UNITS in read(series(RescaleSlope=None, RescaleIntercept=None)).faults
    assert Fault.UNITS in read(series(RescaleType="US")).faults
    assert read(series(change=mr)).faults == ()


def _with(keyword: str, value: object, only: int | None = None) -> bytes:
    def change(dataset: Dataset, number: int) -> None:
        if only is None or number == only:
            setattr(dataset, keyword, value)

    return series(change=change)


def _without(keyword: str) -> bytes:
    return series(**{keyword: None})


REFUSED = {
    "one slice": (lambda: packed(files(stored())[:1]), "slices", "at least 4"),
    "an enhanced object of one frame": (lambda: written(enhanced(stored()[:1])), "slices", "at least 4"),
    "a single slice without a zip": (lambda: files(stored())[0], "slices", "at least 4"),
    "localizers": (lambda: series(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "slices", "no localizers"),
    "too many missing": (lambda: packed(files(stored(0, (40, 4, 4)))[::3] + files(stored(0, (40, 4, 4)))[1:3]),
                         "slices", "must miss at most"),
    "chaos": (lambda: series(change=lambda dataset, number: setattr(
        dataset, "ImagePositionPatient", [0.0, 0.0, float(number**2)])), "slices", "at one distance"),
    "a slice aside": (lambda: series(change=lambda dataset, number: setattr(
        dataset, "ImagePositionPatient", [40.0 * (number == 3), 0.0, 3.0 * number])), "ImagePositionPatient", "line"),
    "NaN spacing": (lambda: _with("PixelSpacing", None), "files[", "2 finite"),
    "zero spacing": (lambda: _with("PixelSpacing", [0, 0]), "files[", "above 0"),
    "huge spacing": (lambda: _with("PixelSpacing", [900, 900]), "ImagePositionPatient", "voxels of"),
    "no position": (lambda: _without("ImagePositionPatient"), "files[", "3 finite"),
    "no orientation": (lambda: _without("ImageOrientationPatient"), "files[", "6 finite"),
    "skewed orientation": (lambda: _with("ImageOrientationPatient", [1, 0, 0, 0.9, 0.1, 0]), "files[", "unit vectors"),
    "a slope that leaves nothing": (lambda: _with("RescaleSlope", "1e-300"), "files[", "from 1e-09"),
    "more pixels than frames": (lambda: written(_longer()), "PixelData", "must be 1920 bytes"),
    "slope 0": (lambda: _with("RescaleSlope", 0), "files[", "not 0"),
    "colours": (lambda: _with("PhotometricInterpretation", "RGB", 0), "files[0].SamplesPerPixel", "contradicts"),
    "short pixels": (lambda: _with("PixelData", b"\0" * 100, 2), "files[", "must be 240 bytes"),
    "no pixels": (lambda: _without("PixelData"), "files[", "must be present"),
    "frames without groups": (lambda: written(_fewer_groups()), "PerFrameFunctionalGroupsSequence", "one item"),
    "no frames": (lambda: series(NumberOfFrames=8), "NumberOfFrames", "must be 1"),
    "an empty zip": (lambda: packed({}), "zip", "must hold"),
    "a zip of text": (lambda: packed([b"a", b"b"]), "files", "must be DICOM files"),
    "a zip of zips": (lambda: packed([series()]), "files", "must be DICOM files"),
    "nothing": (lambda: b"", "file", "must be a zip"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(600), "file", "must be a zip"),
}  # fmt: skip


def _fewer_groups() -> Dataset:
    whole = enhanced(stored())
    whole.NumberOfFrames = 9
    return whole


def _longer() -> Dataset:
    whole = enhanced(stored())
    whole.PixelData += b"\1" * 240
    return whole


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_volume_is_refused_with_field_and_rule(what: str) -> None:
    data, field, rule = REFUSED[what]
    with pytest.raises(InputError) as caught:
        read(data())
    assert caught.value.field.startswith(f"volumes[0].{field}")
    assert rule in caught.value.rule
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("share", range(10))
@pytest.mark.parametrize("kind", ["zip", "enhanced"])
def test_truncated_files_are_refused(kind: str, share: int) -> None:
    whole = series() if kind == "zip" else written(enhanced(stored()))
    with pytest.raises(InputError):
        read(whole[: len(whole) * share // 10])


def test_archives_that_unpack_to_no_end_are_refused_before_they_do() -> None:
    bomb = packed({"a": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge):
        read(bomb, default_limits().but(volume_voxels=1_000_000))
    with pytest.raises(TooLarge):
        read(series(), default_limits().but(volume_voxels=100))
    with pytest.raises(TooLarge):
        read(packed({f"{number}": b"" for number in range(16_385)}))
    with pytest.raises(TooLarge, match="70000 entries"):
        read(packed({"a": b""}) + b"PK\x01\x02" * 69_999)
    with pytest.raises(TooLarge, match="size"):
        read(series(), default_limits().but(volume_bytes=1000))


def test_sizes_that_an_archive_understates_are_not_believed() -> None:
    data = bytearray(packed({"a": bytes(100_000)}, zipfile.ZIP_DEFLATED))
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    with pytest.raises(InputError):
        read(bytes(data))


def test_encrypted_members_and_other_compressions_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="stored or deflated"):
        read(packed(files(stored()), zipfile.ZIP_LZMA))
    data = bytearray(series())
    place = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        data[place + 8] |= 1
    with pytest.raises(UnsupportedMedia, match="encrypted"):
        read(bytes(data))


def test_names_in_an_archive_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {f"../../out/{number}": content for number, content in enumerate(files(stored()))}
    assert read(packed(contents)).grid.shape == SHAPE
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_packed_without_links_and_the_same_each_time(tmp_path: Path) -> None:
    folder, other = tmp_path / "series", tmp_path / "other"
    (folder / "below").mkdir(parents=True)
    other.mkdir()
    contents = files(stored())
    for number, content in enumerate(contents):
        (folder / ("below" if number % 2 else ".") / f"{number}.dcm").write_bytes(content)
    (other / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(other / "secret")
    (folder / "linked").symlink_to(other)
    (folder / ".hidden").write_bytes(b"hidden")
    sent = pack(folder, 1 << 20)

    assert sent == pack(folder, 1 << 20)
    assert b"secret" not in sent
    assert len(zipfile.ZipFile(io.BytesIO(sent)).namelist()) == SHAPE[0]
    np.testing.assert_array_equal(read(sent).values(0, SHAPE[0]), hounsfield())
    assert zipfile.ZipFile(io.BytesIO(sent)).namelist() == [f"{number:05d}" for number in range(SHAPE[0])]
    with pytest.raises(TooLarge):
        pack(folder, 1000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="must hold"):
        pack(tmp_path / "empty", 1000)


def test_folders_that_lie_too_deep_are_refused(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"a" * 64)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"file")
    assert len(zipfile.ZipFile(io.BytesIO(pack(tmp_path, 1000))).namelist()) == 1
    (deep / "a").mkdir()
    with pytest.raises(InputError, match="at most 64 folders deep"):
        pack(tmp_path, 1000)


def test_names_that_are_no_text_are_packed(tmp_path: Path) -> None:
    for number, content in enumerate(files(stored())):
        (tmp_path / os.fsdecode(b"M\xfcller%d" % number)).write_bytes(content)
    sent = pack(tmp_path, 1 << 20)

    assert b"ller" not in sent
    np.testing.assert_array_equal(read(sent).values(0, SHAPE[0]), hounsfield())


def test_a_folder_below_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    for number, content in enumerate(files(stored())):
        (tmp_path / str(number)).write_bytes(content)
    whole = os.scandir

    def refusing(path: str | Path) -> object:
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError):
        pack(tmp_path, 1 << 20)
