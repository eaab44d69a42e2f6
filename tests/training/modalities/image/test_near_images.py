import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from consilium.modalities.image.image_record import Image
from consilium.modalities.image.letterbox import Letterbox
from training.modalities.image.near_images import LARGEST, LEAST_IMAGES, SMALLEST, fingerprint, near_images


def pixels(seed, shape=(120, 100), common=0.0):
    """A smooth picture of its own; `common`: share of one picture that all have."""
    own, shared = (gaussian_filter(np.random.default_rng(s).normal(size=shape), 6) for s in (seed, 10_000))
    values = (1 - common) * own + common * shared
    return np.rint((values - values.min()) / np.ptp(values) * 60000).astype(np.uint16)


def taken(array, side=64):
    image = Image(array, "0" * 64, "png")
    return fingerprint(Letterbox(*array.shape, side).forward(array), image)


def test_a_fingerprint_ignores_exposure_size_and_padding():
    original = pixels(0)
    first = taken(original)
    assert first.shape == (255,)
    for other in (
        taken(original // 2 + 900),
        taken(original, side=128),
        taken(np.kron(original, np.ones((2, 2), np.uint16))),
    ):
        assert np.corrcoef(first, other)[0, 1] > 0.999
    assert abs(np.corrcoef(first, taken(pixels(1)))[0, 1]) < 0.5


def test_a_constant_image_has_none():
    assert taken(np.full((50, 70), 9, np.uint16)) is None


@pytest.fixture(scope="module")
def many():
    """Fingerprints of 2000 images that vary in few ways, as radiographs do, and of 40 copies of the first 40."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(2000, 30)) @ rng.normal(size=(30, 255)) + 2 * rng.normal(size=(2000, 255)) + 5
    noise = 0.25 * own[:40].std(axis=0) * rng.normal(size=(40, 255))
    return np.concatenate([own, own[:40] + noise]).astype(np.float32)


def test_the_search_finds_what_comparing_each_with_each_finds(many):
    pairs, threshold = near_images(many, np.arange(len(many)))
    unlike = (many - many.mean(axis=0)) / many.std(axis=0)
    unlike /= np.linalg.norm(unlike, axis=1, keepdims=True)
    expected = np.argwhere(np.triu(unlike @ unlike.T >= threshold, 1))
    assert pairs.tolist() == expected.tolist()
    assert pairs.tolist() == [[n, 2000 + n] for n in range(40)]


def test_the_more_alike_different_images_are_the_more_a_copy_must_be(many):
    rng = np.random.default_rng(1)
    diverse = rng.normal(size=(500, 255)).astype(np.float32)
    uniform = (rng.normal(size=(500, 4)) @ rng.normal(size=(4, 255)) + 0.2 * rng.normal(size=(500, 255))).astype(
        np.float32
    )
    patients = np.arange(500)
    assert near_images(diverse, patients)[1] == SMALLEST
    pairs, threshold = near_images(uniform, patients)
    assert SMALLEST < threshold <= LARGEST
    assert len(pairs) == 0


def test_one_patients_images_do_not_raise_the_threshold(many):
    """Three of each patient: follow-ups that resemble each other more than anyone else's."""
    rng = np.random.default_rng(2)
    base = rng.normal(size=(100, 255))
    followed = np.repeat(base, 3, axis=0) + 0.4 * rng.normal(size=(300, 255))
    threshold = near_images(followed.astype(np.float32), np.repeat(np.arange(100), 3))[1]
    assert threshold == SMALLEST


def test_too_few_images_are_not_compared():
    few = np.random.default_rng(3).normal(size=(LEAST_IMAGES - 1, 255)).astype(np.float32)
    few[1] = few[0]
    assert len(near_images(few, np.arange(len(few)))[0]) == 0


def test_copies_of_most_images_are_still_found():
    rng = np.random.default_rng(4)
    own = rng.normal(size=(100, 255))
    twice = np.concatenate([own, own + 0.02 * rng.normal(size=own.shape)]).astype(np.float32)
    assert near_images(twice, np.arange(200))[0].tolist() == [[n, 100 + n] for n in range(100)]
