import pickle

import numpy as np
import pytest
from PIL import Image as Pillow

from consilium.modalities.converter import NotConverted, condensed
from consilium.modalities.image.image_record import Image, image_warnings
from consilium.modalities.image.letterbox import Letterbox, SquareConverter
from consilium.modalities.image.presentation import CellGrid


@pytest.mark.parametrize("shape", [(200, 100), (100, 200), (64, 64), (3000, 7), (1, 1)])
def test_an_image_lies_whole_and_in_proportion_inside_the_square(shape: tuple[int, int]) -> None:
    box = Letterbox(*shape, 64)
    height, width = box.inner
    top, left = box.offset
    assert max(height, width) == 64
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.1) or min(height, width) == 1
    out = box.forward(np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16))
    outside = out.copy()
    outside[top : top + height, left : left + width] = 0
    assert not outside.any()


@pytest.mark.parametrize("shape", [(200, 100), (63, 64), (3000, 7)])
def test_pixels_are_resampled_as_floating_point_numbers_wherever_they_lie_in_memory(shape: tuple[int, int]) -> None:
    whole = np.random.default_rng(2).integers(0, 65536, (2 * shape[0], shape[1]), dtype=np.uint16)
    for pixels in (whole[: shape[0]], whole[::2], whole[::-2, ::-1]):
        box = Letterbox(*shape, 64)
        height, width = box.inner
        top, left = box.offset
        small = Pillow.fromarray(pixels.astype(np.float32)).resize((width, height), Pillow.Resampling.BILINEAR)
        low, high = np.percentile(np.asarray(small), (0.5, 99.5))
        expected = np.rint(np.clip((np.asarray(small) - low) / (high - low), 0, 1) * 65535)
        np.testing.assert_array_equal(box.forward(pixels)[top : top + height, left : left + width], expected)


def test_exposure_and_offset_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 20000, (90, 90), dtype=np.uint16)
    box = Letterbox(90, 90, 64)
    brighter = (pixels * 2 + 5000).astype(np.uint16)
    assert np.abs(box.forward(pixels).astype(int) - box.forward(brighter)).max() <= 8


def test_a_constant_image_is_black_and_not_nan() -> None:
    assert not Letterbox(50, 40, 64).forward(np.full((50, 40), 40000, np.uint16)).any()


def test_a_map_comes_back_where_it_was() -> None:
    box = Letterbox(100, 400, 64)
    cells = np.zeros((16, 16), np.float32)
    cells[8, 12] = 1  # square rows 32..36, columns 48..52: original row about 62, column about 312
    back = box.backward(cells)
    assert back.shape == (100, 400)
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert row == pytest.approx((34 - box.offset[0]) * 400 / 64, abs=15)
    assert column == pytest.approx(50 * 400 / 64, abs=15)


def test_a_map_comes_back_on_the_files_own_grid_where_its_pixels_are_not_square() -> None:
    cells = np.zeros((16, 16), np.float32)
    cells[8, 12] = 1
    square = Letterbox(100, 400, 64).backward(cells)
    stored = Letterbox(100, 400, 64, grid=(50, 400)).backward(cells)
    assert stored.shape == (50, 400)
    row, column = np.unravel_index(stored.argmax(), stored.shape)
    full_row, full_column = np.unravel_index(square.argmax(), square.shape)
    assert 2 * row == pytest.approx(full_row, abs=2)
    assert column == pytest.approx(full_column, abs=2)


@pytest.mark.parametrize("blank", [False, True])
def test_a_condensed_image_gives_the_squares_and_the_warnings_of_the_whole_one(blank: bool) -> None:
    drawn = np.random.default_rng(5).integers(0, 65536, (300, 200), dtype=np.uint16)
    image = Image(np.full_like(drawn, 7) if blank else drawn, "ab" * 32, "png", warnings=("a doubt",), names=("Roe",))
    converters = [SquareConverter(64), SquareConverter(32)]
    light: Image = pickle.loads(pickle.dumps(condensed(image, converters)))
    for converter in converters:
        assert np.array_equal(converter(light), converter(image))
    assert light.pixels.size == 0
    assert (light.shape, light.blank, light.names) == ((300, 200), blank, ("Roe",))
    assert light.facts() == image.facts()
    assert image_warnings([light, light]) == image_warnings([image, image])
    with pytest.raises(NotConverted, match="letterbox2-48"):
        SquareConverter(48)(light)


def test_without_converters_an_image_stays_whole() -> None:
    image = Image(np.eye(9, dtype=np.uint16), "ab" * 32, "png")
    assert condensed(image, ()) is image


@pytest.mark.parametrize(("shape", "grid"), [((90, 60), None), ((40, 100), None), ((60, 60), (30, 60))])
def test_cells_over_their_place_are_the_map_over_the_original_pixels(shape, grid):
    box = Letterbox(*shape, 48, grid)
    cells = np.random.default_rng(3).normal(size=(6, 6)).astype(np.float32)
    np.testing.assert_allclose(CellGrid(cells, box.place).over(*(grid or shape)), box.backward(cells), atol=1e-5)
