"""What models read of a volume: the same place of the patient whatever grid it came on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consilium.domain.errors import RecipeError
from consilium.domain.study import Study
from consilium.modalities.converter import NotConverted, condensed
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.grid import Grid
from consilium.modalities.volume.preparation import VolumePreparation
from consilium.modalities.volume.presentation import VolumeSaliency
from consilium.modalities.volume.section import VolumeSection
from consilium.modalities.volume.slice_pictures import picture, turned
from consilium.modalities.volume.typicality import TYPICALITY
from consilium.modalities.volume.volume_converter import OUTSIDE, VOLUMES, VolumeConverter
from consilium.modalities.volume.volume_record import Volume, volume_warnings
from tests.consilium.modalities.volume.made import mr, nifti, read, series, stored

WINDOW = (0.0, 1000.0)
SLOPES = np.array([2.0, 3.0, 5.0])
"""Value for each millimetre to the left, back and head, of a volume that is a plane."""


def section(**keys: Any) -> VolumeSection:
    return VolumeSection(**{"size": (16, 16, 16), "spacing": (2.0, 2.0, 2.0), "windows": (WINDOW,), **keys})


def plane(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """A volume whose values are a linear function of the place in the patient, around 0 in its middle."""
    z, y, x = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    places = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ affine.T
    middle = affine @ [*((side - 1) / 2 for side in shape[::-1]), 1]
    values = ((places - middle)[..., :3] @ SLOPES).astype(np.float32)
    return Volume(values, 1.0, 0.0, Grid(shape, affine), "0" * 64, "dicom", "CT")


def affine_of(columns: np.ndarray, start: tuple[float, float, float] = (5.0, -7.0, 11.0)) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = columns, start
    return found


TURN = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [0.1, -0.3, 1.0]]))[0]
GRIDS = {
    "as it is read": (np.diag([2.0, 2.0, -2.0]), (20, 20, 20)),
    "from feet to head": (np.diag([2.0, 2.0, 2.0]), (20, 20, 20)),
    "mirrored and coronal": (np.array([[-1.5, 0, 0], [0, 0, 2.5], [0, -1.5, 0]]), (20, 34, 34)),
    "fine": (np.diag([0.5, 0.5, 1.0]), (48, 96, 96)),
    "oblique": (TURN * np.array([1.2, 1.4, 3.0]), (24, 40, 40)),
    "tilted": (np.array([[1.5, 0, 0], [0, 1.5, 1.0], [0, 0, 3.0]]), (16, 34, 34)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_gives_the_values_at_the_places_of_the_patient(name: str) -> None:
    columns, shape = GRIDS[name]
    record = plane(affine_of(columns), shape)
    found = VolumeConverter(section())(record)[0].astype(float)

    index = np.arange(16) - 7.5
    depth, row, column = np.meshgrid(index, index, index, indexing="ij")
    expected = SLOPES[0] * 2 * column + SLOPES[1] * 2 * row - SLOPES[2] * 2 * depth
    share = np.clip((expected + 500) / 1000, 0, 1)
    inner = (found != OUTSIDE) & (np.abs(depth) < 6) & (np.abs(row) < 6) & (np.abs(column) < 6)
    assert inner.sum() > 800
    np.testing.assert_allclose(found[inner], 1 + 254 * share[inner], atol=1.01)


def test_nothing_outside_of_the_volume_is_made_up() -> None:
    found = VolumeConverter(section())(plane(affine_of(np.diag([2.0, 2.0, 2.0])), (8, 10, 12)))[0]
    inside = found != OUTSIDE
    assert [int(inside.any(axis=axes).sum()) for axes in ((1, 2), (0, 2), (0, 1))] == [8, 10, 12]


def test_windows_are_channels_and_percentiles_are_of_each_volume() -> None:
    values = np.broadcast_to(np.linspace(-1000, 1000, 16, dtype=np.float32), (16, 16, 16))
    record = Volume(values, 1.0, 0.0, Grid((16, 16, 16), np.diag([2.0, 2, 2, 1])), "0" * 64, "dicom", "CT")
    found = VolumeConverter(section(windows=((-500.0, 1000.0), (500.0, 1000.0))))(record)
    line = found[:, 8, 8].astype(float)
    np.testing.assert_allclose(line[0], 1 + 254 * np.clip((values[0, 0] + 1000) / 1000, 0, 1), atol=1)
    np.testing.assert_allclose(line[1], 1 + 254 * np.clip(values[0, 0] / 1000, 0, 1), atol=1)
    by_own = section(intensities="percentiles")
    one, other = (VolumeConverter(by_own)(replace(record, slope=slope)) for slope in (1.0, 1000.0))
    np.testing.assert_array_equal(one, other)


def test_a_condensed_volume_gives_what_it_was_condensed_to_and_its_pictures() -> None:
    whole, convert = read(series()), VolumeConverter(section())
    small = condensed(whole, [convert])

    assert small.voxels.size == 0
    np.testing.assert_array_equal(convert(small), convert(whole))
    np.testing.assert_array_equal(picture(small, 3), picture(whole, 3))
    with pytest.raises(NotConverted):
        VolumeConverter(section(spacing=(3.0, 3.0, 3.0)))(small)


def test_facts_give_back_the_record_without_its_voxels() -> None:
    whole = read(series())
    again = Volume.of_facts(whole.digest, whole.facts())

    assert again.facts() == whole.facts()
    assert again.grid.shape == whole.grid.shape
    assert again.names == ()


@pytest.mark.parametrize(
    ("columns", "row", "column"),
    [
        (np.diag([1.0, 1.0, 1.0]), 2, 3),
        (np.diag([-1.0, 1.0, 1.0]), 2, -4),
        (np.diag([1.0, -1.0, 1.0]), -3, 3),
        (np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]), 3, 2),
        (np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), -3, 3),
        (np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), 2, 3),
    ],
)
def test_pictures_are_turned_as_they_are_looked_at(columns: np.ndarray, row: int, column: int) -> None:
    marked = np.zeros((5, 7), np.uint8)
    marked[2, 3] = 1
    shown = turned(marked, Grid((5, 5, 7), affine_of(columns)))
    expected = np.zeros(shown.shape, np.uint8)
    expected[row, column] = 1
    np.testing.assert_array_equal(shown, expected)


def test_no_picture_of_a_volume_that_lies_obliquely_is_mirrored_or_stands_on_its_head() -> None:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)))
    for _ in range(300):
        columns = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        grid = Grid((5, 9, 9), affine_of(columns))
        first, second = (axis for axis in range(3) if axis != int(np.abs(grid.normal).argmax()))
        shown = turned(np.moveaxis(np.tensordot(columns[:, :2], places, 1), 0, -1), grid)
        across = (shown[0, -1] - shown[0, 0])[[first, second]]
        down = (shown[-1, 0] - shown[0, 0])[[first, second]]
        # What comes first of left, back and head grows to the right; the back is below, the head above.
        assert across[0] > 0
        assert (across[0] * down[1] - across[1] * down[0]) * (1 if second == 1 else -1) > 0


def test_the_weight_of_a_voxel_is_that_of_the_cell_that_it_lies_in() -> None:
    cells = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    to_cells = np.array([[0, 0, 0.5, -0.25], [0, 0.25, 0, -0.375], [0.5, 0, 0, -0.25]])
    saliency = VolumeSaliency(0, cells, to_cells, (6, 8, 4))

    assert saliency.over(0)[0, 0] == 0
    assert saliency.over(3)[7, 3] == 7
    assert saliency.over(1)[3, 1] == pytest.approx(4 * 0.25 + 2 * 0.375 + 0.25)
    assert np.isnan(saliency.over(5)).all()
    assert saliency.relevant()[0] == 3


def prepared(record: Volume, **keys: Any) -> Any:
    preparation = VolumePreparation(section(**keys))
    study = Study({"volume": (record,)})
    return preparation.prepare(study, study)


def test_volumes_of_another_kind_than_the_recipe_names_are_left_out_with_a_warning() -> None:
    record = read(series())
    for keys in ({"modality": "MR"}, {"plane": "coronal"}, {"least_slices": 9}, {"thickest": 2.9}):
        part = prepared(record, **keys)
        assert not part.present
        assert part.warnings == ("a volume was left out: of another kind than the model reads",)
    assert prepared(record, modality="CT", plane="axial", least_slices=8, thickest=3.0).present


def test_values_that_are_no_hounsfield_units_are_referred_where_these_are_read() -> None:
    check = TYPICALITY.checks["volume_units"]
    for record in (read(series(change=mr)), read(nifti(stored().astype(np.int16)))):
        assert check(prepared(record)) == ("The volume: the values are not known to be Hounsfield units.",)
        assert check(prepared(record, intensities="percentiles")) == ()
    assert check(prepared(read(series()))) == ()
    assert check(prepared(read(nifti((stored() - 1000).astype(np.int16))))) == ()


def test_faults_and_copies_are_told_by_the_place_of_the_volume() -> None:
    record = replace(read(series()), faults=(Fault.GAPS,), chosen="series 1 of 2 was read")
    found = volume_warnings([record, record])

    assert found[:2] == [
        "volumes[0]: series 1 of 2 was read",
        "volumes[0]: slices are missing and were filled in between their neighbours",
    ]
    assert found[-1] == "volumes[1]: the same file as another"


def test_collated_volumes_are_shares_of_windows_and_where_something_is() -> None:
    preparation = VolumePreparation(section())
    record = plane(affine_of(np.diag([2.0, 2.0, 2.0])), (8, 10, 12))
    studies = [Study({"volume": (record,)}), Study({})]
    tensors = preparation.collate([preparation.prepare(study, study) for study in studies])

    array = preparation.convert(record)[0]
    np.testing.assert_allclose(tensors[VOLUMES][0, 0, 0], np.clip(array.astype(float) - 1, 0, None) / 254, atol=1e-6)
    np.testing.assert_array_equal(tensors[VOLUMES][0, 0, 1], array != OUTSIDE)
    assert tensors["mask"].tolist() == [[True], [False]]


def test_sizes_that_a_network_cannot_read_are_refused() -> None:
    with pytest.raises(RecipeError, match="multiples of 16"):
        VolumeSection(size=(40, 64, 64))
    with pytest.raises(RecipeError, match="multiples of 32"):
        VolumeSection(size=(48, 48, 48), encoder="swin")
    assert VolumeSection(size=(40, 64, 64), encoder="slices").size == (40, 64, 64)
