import numpy as np
import pytest
from PIL import Image as Pillow

from consilium.modalities.image.letterbox import Letterbox


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
