"""NIfTI: what another reader reads, and headers that lie."""

from __future__ import annotations

import gzip
import math
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from consilium.domain.errors import InputError, TooLarge
from consilium.modalities.registry import default_limits
from consilium.modalities.volume.faults import Fault
from tests.consilium.modalities.volume.made import nifti, read, stored, unpacked
from tests.consilium.modalities.volume.nibabel_files import BIG, NIFTI2, QFORM, SFORM

DATA = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6))
"""As nibabel has it: columns, rows, slices."""
AFFINE = np.array(
    [
        [1.9503406286239624, 0.29651522636413574, 0.2995002567768097, 10.0],
        [0.32176271080970764, -1.4132319688796997, 0.8821315169334412, -20.0],
        [-0.30436834692955017, 0.40602222084999084, 2.851691246032715, 30.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""As nibabel reads it, to right, front and head."""
VALUES = stored(3).astype(np.int16)


@pytest.mark.parametrize("file", [SFORM, QFORM, NIFTI2, BIG])
@pytest.mark.parametrize("zipped", [False, True])
def test_values_and_places_are_those_that_nibabel_reads(file: str, zipped: bool) -> None:
    data = unpacked(file)
    record = read(gzip.compress(data) if zipped else data)

    slope, intercept = (2, -5) if file is SFORM else (1, 0)
    np.testing.assert_array_equal(record.values(0, 6), DATA.transpose(2, 1, 0) * slope + intercept)
    np.testing.assert_allclose(record.grid.affine, np.diag([-1, -1, 1, 1]) @ AFFINE, atol=2e-5)
    assert record.faults == ()
    assert record.modality == ""


def test_a_part_of_the_scale_that_is_no_number_is_none() -> None:
    record = read(nifti(VALUES, f_112=(math.nan,), f_116=(7.0,)))
    np.testing.assert_array_equal(record.values(0, 8), VALUES)


def test_sform_and_qform_that_contradict_each_other_are_named() -> None:
    mirrored = np.diag([-1.0, 2.0, 3.0, 1.0])
    record = read(nifti(VALUES, affine=mirrored, codes=(1, 1)))
    assert record.faults == (Fault.ORIENTATION,)
    assert record.grid.affine[0, 0] == 1
    assert read(nifti(VALUES, codes=(1, 1))).faults == ()
    turned = np.array([[0.77, -1.28, 0, 0], [0.64, 1.54, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    assert read(nifti(VALUES, affine=turned, codes=(1, 1))).faults == (Fault.ORIENTATION,)
    assert read(nifti(VALUES, affine=turned)).faults == ()
    broken = read(nifti(VALUES, codes=(1, 1), f_256=math.nan))
    assert broken.faults == (Fault.ORIENTATION,)
    np.testing.assert_array_equal(broken.grid.affine, np.diag([-1, -2, 3, 1]))
    nowhere = read(nifti(VALUES, codes=(0, 0)))
    assert nowhere.faults == (Fault.ORIENTATION,)
    assert nowhere.grid.spacing == pytest.approx((3, 2, 1))


@pytest.mark.parametrize("size", [5.0, 0.0, math.nan, math.inf])
def test_sizes_of_voxels_that_contradict_each_other_are_named(size: float) -> None:
    record = read(nifti(VALUES, f_84=size))
    assert record.faults == (Fault.ORIENTATION,)
    assert "sform and pixdim are of voxels of different sizes; sform was read" in record.warnings
    assert record.grid.spacing == pytest.approx((3, 2, 1))


@pytest.mark.parametrize(("way", "runs", "faults"), [
    (1.0, 3, ()), (0.0, 3, ()), (-1.0, -3, ()), (0.3, 3, (Fault.ORIENTATION,)), (math.nan, 3, (Fault.ORIENTATION,)),
])  # fmt: skip
def test_which_way_slices_run_is_stated_or_named(way: float, runs: int, faults: tuple[Fault, ...]) -> None:
    record = read(nifti(VALUES, codes=(1, 0), f_76=way))
    assert record.grid.affine[2, 2] == runs
    assert record.faults == faults


def test_under_a_negative_slope_the_lowest_value_is_the_highest_voxel() -> None:
    values = VALUES.astype(np.float32)
    values[2, 3, 4] = np.nan
    assert read(nifti(values, f_112=-2.0)).values(2, 3)[0, 3, 4] == -2 * np.nanmax(values)


@pytest.mark.parametrize("sizes", [(500,), (1, 348, 2000)])
def test_gzip_of_several_parts_is_read_and_its_checksum_looked_at(sizes: tuple[int, ...]) -> None:
    whole = nifti(VALUES)
    edges = (0, *sizes, len(whole))
    packed = b"".join(gzip.compress(whole[a:b]) for a, b in pairwise(edges))
    record = read(packed)

    np.testing.assert_array_equal(record.values(0, 8), VALUES)
    assert record.warnings == ()
    assert read(packed + b"junk").grid.shape == (8, 10, 12)
    for damaged in (packed[:-8], packed[:-8] + bytes(4) + packed[-4:]):
        with pytest.raises(InputError, match="gzip file that is whole"):
            read(damaged)


def test_what_is_behind_the_voxels_is_named() -> None:
    for sent in (nifti(VALUES) + bytes(2), gzip.compress(nifti(VALUES) + bytes(2))):
        assert any("the file goes on" in warning for warning in read(sent).warnings)


def test_a_small_file_that_declares_large_voxels_takes_no_memory_for_them() -> None:
    sent = gzip.compress(nifti(VALUES, **{"8h_40": (3, 700, 700, 600, 1, 1, 1, 1)}, h_70=64))
    tracemalloc.start()
    with pytest.raises(InputError, match="which declares them"):
        read(sent)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_voxels_that_are_no_numbers_are_counted_and_read_as_the_lowest() -> None:
    values = VALUES.astype(np.float32)
    values[2, 3, 4] = np.nan
    values[5, 1, 1] = np.inf
    record = read(nifti(values))

    assert "2 voxels are no numbers, and were read as the lowest value" in record.warnings
    assert record.values(2, 3)[0, 3, 4] == np.nanmin(values)
    with pytest.raises(InputError, match="at least half"):
        read(nifti(np.full((8, 8, 8), np.nan, np.float32)))


def test_a_blank_volume_is_named() -> None:
    assert read(nifti(np.full((8, 8, 8), 7, np.int16))).faults == (Fault.BLANK,)


def test_units_of_length_are_read() -> None:
    assert read(nifti(VALUES, B_123=3, f_280=(1000.0,), f_300=(2000.0,), f_320=(3000.0,))).grid.spacing == (
        pytest.approx((3, 2, 1))
    )
    assert any("unit of its distances" in warning for warning in read(nifti(VALUES, B_123=0)).warnings)


HEADERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "absurd size": (lambda: nifti(VALUES, **{"8h_40": (3, 32767, 32767, 32767, 1, 1, 1, 1)}), "voxels"),
    "negative size": (lambda: nifti(VALUES, **{"8h_40": (3, -5, 5, 5, 1, 1, 1, 1)}), "dim"),
    "no dimension": (lambda: nifti(VALUES, **{"8h_40": (0, 5, 5, 5, 1, 1, 1, 1)}), "dim"),
    "eight dimensions": (lambda: nifti(VALUES, h_40=8), "dim"),
    "times": (lambda: nifti(VALUES, **{"8h_40": (4, 4, 5, 6, 3, 1, 1, 1)}), "dim"),
    "a plane": (lambda: nifti(VALUES, **{"8h_40": (2, 12, 10, 1, 1, 1, 1, 1)}), "slices"),
    "colours": (lambda: nifti(VALUES, h_70=128), "datatype"),
    "complex numbers": (lambda: nifti(VALUES, h_70=32), "datatype"),
    "offset within the header": (lambda: nifti(VALUES, f_108=10.0), "vox_offset"),
    "offset nowhere": (lambda: nifti(VALUES, f_108=math.nan), "vox_offset"),
    "offset behind the end": (lambda: nifti(VALUES, f_108=9_000_000.0), "voxels"),
    "a header alone": (lambda: nifti(VALUES, B_346=ord("i"))[:348], "magic"),
    "a flat affine": (lambda: nifti(VALUES, f_280=0.0), "affine"),
    "an affine of no numbers": (lambda: nifti(VALUES, f_280=math.inf), "affine"),
    "parallel axes": (lambda: nifti(VALUES, affine=np.array(
        [[1, 1, 0, 0], [0, 0.01, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), "affine"),
    "no rotation": (lambda: nifti(VALUES, codes=(1, 0), f_256=3.0), "quatern_b"),
    "a slope that leaves nothing": (lambda: nifti(VALUES, f_112=1e-40), "scl_slope"),
    "a slope without end": (lambda: nifti(VALUES, f_112=3e38), "scl_slope"),
    "values without end": (lambda: nifti(VALUES.astype(np.float32) * np.float32(1e30)), "voxels"),
    "seconds": (lambda: nifti(VALUES, B_123=4), "xyzt_units"),
    "gzip of text": (lambda: gzip.compress(b"nothing" * 100), "file"),
    "gzip of nothing": (lambda: gzip.compress(b""), "file"),
    "damaged gzip": (lambda: b"\x1f\x8b" + bytes(100), "gzip"),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_headers_that_lie_are_refused(what: str) -> None:
    data, field = HEADERS[what]
    for sent in (data(), gzip.compress(data())) if "gzip" not in what else (data(),):
        with pytest.raises(InputError) as caught:
            read(sent)
        assert caught.value.field == f"volumes[0].{field}"


@pytest.mark.parametrize("share", range(10))
def test_truncated_files_are_refused(share: int) -> None:
    for whole in (nifti(VALUES), gzip.compress(nifti(VALUES))):
        with pytest.raises(InputError):
            read(whole[: len(whole) * share // 10])


def test_no_more_is_unpacked_than_is_declared() -> None:
    bomb = gzip.compress(nifti(VALUES) + bytes(100_000_000))
    assert read(bomb).grid.shape == (8, 10, 12)
    with pytest.raises(TooLarge):
        read(nifti(VALUES), default_limits().but(volume_voxels=900))
