"""The same radiograph twice: stored anew, resized, its window changed, its edge cut.

Radiographs are all alike, so an image is described by how it departs from the cohort's others: the low frequencies of a
small square (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), each in units of its
spread over the cohort. The signs are the hash that finds candidates; the correlation of the numbers decides.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from scipy.fft import dctn

from consilium.modalities.image.image_record import Image
from consilium.modalities.image.letterbox import Letterbox
from training.audit.buckets import Pairs, bucketed_pairs, unique_pairs

Floats = npt.NDArray[np.float64]
Fingerprints = npt.NDArray[np.float32]

SMALLEST, LARGEST = 0.90, 0.99
"""Correlation from which two images may count as one; `copy_threshold` chooses within."""
LEAST_IMAGES = 20
"""Fewer do not say how alike different images are."""

_SIDE, _FREQUENCIES = 32, 16
_TABLES = 48
_SAMPLE = 2000
_FALSE_COPIES = 0.01
"""Expected number of images that `copy_threshold` takes for a copy by chance."""


def fingerprint(square: npt.NDArray[np.uint16], image: Image) -> Fingerprints | None:
    """Low frequencies of what `image` shows, float32 [255]; None where it shows nothing.

    Parameters
    ----------
    square : uint16 [S, S]
        The image as `Letterbox.forward` prepared it.
    """
    box = Letterbox(*image.shape, len(square))
    (top, left), (height, width) = box.offset, box.inner
    content = square[top : top + height, left : left + width].astype(np.float32)
    small = np.asarray(Pillow.fromarray(content).resize((_SIDE, _SIDE), Pillow.Resampling.BOX), np.float64)
    small -= small.mean()
    norm = np.linalg.norm(small)
    if norm == 0:
        return None
    return dctn(small / norm, norm="ortho")[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:].astype(np.float32)


def near_images(fingerprints: Fingerprints, patients: npt.NDArray[np.int64], seed: int = 0) -> tuple[Pairs, float]:
    """Pairs of images that are one radiograph, and the correlation from which they count as one.

    Parameters
    ----------
    fingerprints : float32 [n, 255]
    patients : int64 [n]
    """
    if len(fingerprints) < LEAST_IMAGES:
        return np.zeros((0, 2), np.int64), LARGEST
    rng = np.random.default_rng(seed)
    spread = fingerprints.std(axis=0)
    unlike = (fingerprints - fingerprints.mean(axis=0)) / np.where(spread > 0, spread, 1)
    unlike /= np.maximum(np.linalg.norm(unlike, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    threshold = copy_threshold(unlike, patients, rng)
    bits = fingerprints > np.median(fingerprints, axis=0)
    words = np.packbits(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 64))), axis=1).view(np.uint64)
    most = _most_different_bits(threshold, bits.shape[1])
    found = []
    for pairs in bucketed_pairs(_keys(bits, rng)):
        first, second = pairs.T
        near = pairs[np.bitwise_count(words[first] ^ words[second]).sum(axis=1) <= most]
        found.append(near[np.einsum("ij,ij->i", unlike[near[:, 0]], unlike[near[:, 1]]) >= threshold])
    return unique_pairs(found, len(bits)), threshold


def copy_threshold(unlike: Fingerprints, patients: npt.NDArray[np.int64], rng: np.random.Generator) -> float:
    """Correlation that images of different patients hardly ever reach.

    The largest correlation of an image with any of another patient follows, on Fisher's scale, nearly a Gumbel
    distribution: a maximum over many. Its quartiles, which some copies do not move, place it; the threshold is what
    `_FALSE_COPIES` of all images would exceed. Images of one device and one protocol are more alike than those of many
    hospitals, and get a higher one.

    Parameters
    ----------
    unlike : float32 [n, 255]
        Of unit length.
    """
    sample = rng.permutation(len(unlike))[:_SAMPLE]
    nearest = []
    for rows in np.array_split(sample, math.ceil(len(sample) / 200)):
        likeness = unlike[rows] @ unlike.T
        likeness[patients[rows, None] == patients] = -1
        nearest.append(likeness.max(axis=1))
    low, middle, high = np.quantile(np.arctanh(np.concatenate(nearest).clip(-0.999, 0.999)), [0.25, 0.5, 0.75])
    # Quantiles of the standard Gumbel distribution.
    quartiles = -np.log(-np.log([0.25, 0.5, 0.75]))
    scale = (high - low) / (quartiles[2] - quartiles[0])
    beyond = middle - scale * quartiles[1] + scale * math.log(len(unlike) / _FALSE_COPIES)
    return float(np.clip(np.tanh(beyond), SMALLEST, LARGEST))


def _most_different_bits(correlation: float, bits: int) -> int:
    """Of two images so correlated: the mean for normal deviates, and four standard deviations."""
    share = math.acos(correlation) / math.pi
    return math.ceil(bits * share + 4 * math.sqrt(bits * share * (1 - share)))


def _keys(bits: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """Buckets of some random bits each, as many bits as would leave one image a bucket, [n, tables]."""
    length = max(8, math.ceil(math.log2(len(bits))))
    values = np.uint64(1) << np.arange(length, dtype=np.uint64)
    chosen = [rng.choice(bits.shape[1], length, replace=False) for _ in range(_TABLES)]
    return np.stack([bits[:, some].astype(np.uint64) @ values for some in chosen], axis=1)
