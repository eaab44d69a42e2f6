"""The same note twice, and whether chance would write it twice.

Notes from templates are alike without being copied. So a text counts only where the other patients' notes make it too
improbable to be written twice: a model of the next word, learned from everyone but two of its authors, gives its
improbability in bits, of which a template that many share costs few. A text needs enough of them that chance repeats
none in the whole cohort, and `MARGIN` more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer

from consilium.domain.study import Study
from training.audit.buckets import Pairs, bucketed_pairs, unique_pairs

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Words = tuple[str, ...]

SIMILARITY = 0.9
"""Jaccard index of two texts' character 5-grams from which they count as nearly the same."""
LEAST_WORDS = 8
MARGIN = 60.0
"""Bits. Two patients may share one rare phrase of a template that nobody else was given, which seems to cost 50."""

_ORDER = 4
_PRIOR = 2.0
"""How many patients the shorter context counts for when a longer one speaks of the next word."""
_ROWS, _BANDS = 8, 12


@dataclass(slots=True)
class Text:
    """A text, normalised, and the rows of the cohort that hold it."""

    words: Words
    rows: list[int] = field(default_factory=list)


def distinct_texts(studies: Sequence[Study]) -> list[Text]:
    """Notes of at least `LEAST_WORDS` words; case, punctuation and blanks make no difference."""
    texts: dict[Words, Text] = {}
    for row, study in enumerate(studies):
        for words in {tuple(re.findall(r"\w+", note.text.lower())) for note in study.parts["text"]}:
            if len(words) >= LEAST_WORDS:
                texts.setdefault(words, Text(words)).rows.append(row)
    return list(texts.values())


def near_texts(texts: Sequence[Text], seed: int = 0) -> tuple[Pairs, Floats]:
    """Pairs of texts that are alike, and their Jaccard index, [P].

    MinHash with banding (Broder, 1997; Leskovec, Rajaraman and Ullman, "Mining of massive datasets", section 3.4) finds
    the candidates: a pair at `SIMILARITY` is missed with a chance of 0.1 %.
    """
    if len(texts) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    hashing = HashingVectorizer(
        analyzer="char", ngram_range=(5, 5), binary=True, norm=None, alternate_sign=False, lowercase=False
    )
    shingles = hashing.transform(" ".join(text.words) for text in texts)
    signatures = _signatures(shingles.indices, shingles.indptr, np.random.default_rng(seed))
    keys = np.stack([_folded(band) for band in np.split(signatures, _BANDS, axis=1)], axis=1)
    sizes = np.diff(shingles.indptr)
    candidates = unique_pairs(
        [
            pairs[(signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1) > 0.7]
            for pairs in bucketed_pairs(keys)
        ],
        len(texts),
    )
    likeness = np.zeros(len(candidates))
    for part in np.array_split(np.arange(len(candidates)), math.ceil(len(candidates) / 10_000) or 1):
        first, second = candidates[part].T
        common = shingles[first].multiply(shingles[second]).sum(axis=1).A1
        likeness[part] = common / (sizes[first] + sizes[second] - common)
    near = likeness >= SIMILARITY
    return candidates[near], likeness[near]


def _signatures(
    shingles: npt.NDArray[np.int32], starts: npt.NDArray[np.int32], rng: np.random.Generator
) -> npt.NDArray[np.uint64]:
    """Least hash of each text's shingles under each of many hash functions, [texts, functions]."""
    values = shingles.astype(np.uint64)
    odd = rng.integers(0, 2**63, _ROWS * _BANDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    # Multiply-shift (Dietzfelbinger et al., 1997): the high bits of a product that overflows.
    least = [np.minimum.reduceat(values * factor >> np.uint64(32), starts[:-1]) for factor in odd]
    return np.stack(least, axis=1)


def _folded(band: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One number for each row of `band`."""
    return np.unique(band, axis=0, return_inverse=True)[1].astype(np.uint64).ravel()


def improbability(texts: Sequence[Text], patients: Sequence[int]) -> Floats:
    """Bits of each text under what all patients but two of its authors wrote, [texts].

    The next word's chance given the last `_ORDER` - 1, each length of context smoothed by the next shorter one (MacKay
    and Peto, "A hierarchical Dirichlet language model", 1995). Words are counted once a patient: what one patient's
    notes repeat makes nothing more likely.

    Parameters
    ----------
    texts : sequence of Text
        All of the cohort's.
    patients : sequence of int
        Number of the patient of each row of the cohort.
    """
    written = [(n, p) for n, text in enumerate(texts) for p in sorted({patients[row] for row in text.rows})]
    lengths = np.array([len(texts[n].words) for n, _ in written], np.int64)
    known, word = np.unique([word for n, _ in written for word in texts[n].words], return_inverse=True)
    patient = np.repeat([p for _, p in written], lengths)
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chance = np.full(len(word), 1 / (len(known) + 1))
    gram = np.zeros(len(word) + 1, np.int64)
    for length in range(1, _ORDER + 1):
        here = np.flatnonzero(place >= length - 1)
        # What ends one word before; at the start of a text there is nothing, and `here` does not ask.
        context = gram[here - 1] if length > 1 else np.zeros(len(here), np.int64)
        gram[here] = _numbered(context, word[here])
        having, others = _counts(patient[here], context, gram[here])
        chance[here] = (having + _PRIOR * chance[here]) / (others + _PRIOR)
    bits = np.add.reduceat(-np.log2(chance.clip(max=1)), np.cumsum(lengths) - lengths)
    first = np.unique([n for n, _ in written], return_index=True)[1]
    return np.asarray(bits[first])


def _counts(patient: Indices, context: Indices, gram: Indices) -> tuple[Indices, Indices]:
    """How often patients other than two wrote each occurrence's `gram`, and anything after its `context`."""
    _, once = np.unique(_numbered(patient, gram), return_index=True)
    having = np.bincount(gram[once])[gram]
    following = np.bincount(context[once])[context]
    own = _numbered(patient, context)
    own_following = np.bincount(own[once])[own]
    return np.maximum(having - 2, 0), np.maximum(following - 2 * own_following, 0)


def _numbered(first: Indices, second: Indices) -> Indices:
    """A number for each pair, [n]; equal pairs have the same."""
    codes = first * (int(second.max(initial=0)) + 1) + second
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)


def needed_bits(notes: int) -> float:
    """From how many bits on a text is too improbable for two of that many notes to share it by chance."""
    return math.log2(max(1, notes * (notes - 1) // 2)) + MARGIN
