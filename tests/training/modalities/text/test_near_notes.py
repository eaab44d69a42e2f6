import math
from itertools import combinations

import numpy as np
import pytest

from consilium.domain.study import Study
from consilium.modalities.text.note import Note, NoteKind
from training.modalities.text.near_notes import (
    MARGIN,
    SIMILARITY,
    Text,
    distinct_texts,
    improbability,
    near_texts,
    needed_bits,
)

NAMES = [f"{a}{b}{c}" for a in "bdfglmnprst" for b in ("a", "e", "io", "u") for c in ("k", "lum", "rt", "x")]


def words(seed, count=30):
    return tuple(np.random.default_rng(seed).choice(NAMES, count).tolist())


def shingles(text):
    joined = " ".join(text.words)
    return {joined[i : i + 5] for i in range(len(joined) - 4)}


def test_case_punctuation_and_blanks_make_no_difference():
    texts = ["Fever, cough; and  chills for 3 days now.", "FEVER cough and chills - for 3 days NOW", "Fever."]
    studies = [Study({"text": (Note(NoteKind.HISTORY, text),)}) for text in texts]
    [text] = distinct_texts(studies)
    assert text.words == ("fever", "cough", "and", "chills", "for", "3", "days", "now")
    assert text.rows == [0, 1]


def test_the_search_finds_what_comparing_each_with_each_finds():
    texts = [Text(words(seed, 60)) for seed in range(100)]
    for number in range(30):
        changed = list(texts[number].words)
        changed[7 : 7 + number // 6] = ["altered"]
        texts.append(Text(tuple(changed)))
    held = [shingles(text) for text in texts]
    jaccard = {(i, j): len(held[i] & held[j]) / len(held[i] | held[j]) for i, j in combinations(range(len(held)), 2)}
    expected = {pair: value for pair, value in jaccard.items() if value >= SIMILARITY}
    pairs, likeness = near_texts(texts)
    assert 0 < len(expected) <= 30
    assert {tuple(pair) for pair in pairs.tolist()} == set(expected)
    assert likeness.tolist() == pytest.approx([expected[tuple(pair)] for pair in pairs.tolist()])
    assert len(near_texts(texts[:1])[0]) == 0


def test_improbability_by_hand():
    """Four patients; what the two who wrote the last text say is not counted."""
    texts = [Text(("a", "b"), [0]), Text(("a", "c"), [1]), Text(("a", "d"), [2, 3])]
    unheard = 1 / 5  # four words are known, and another may come
    # The two others wrote four words, two of them "a", none of them "d"; after "a" they wrote two, none of them "d".
    a = (2 + 2 * unheard) / (4 + 2)
    d = (0 + 2 * (0 + 2 * unheard) / (4 + 2)) / (2 + 2)
    assert improbability(texts, [0, 1, 2, 3])[2] == pytest.approx(-math.log2(a) - math.log2(d))


def test_a_template_costs_little_and_own_words_cost_much():
    template = words(0)
    texts = [Text(template, list(range(50))), *(Text(words(seed), [49 + seed]) for seed in range(1, 50))]
    texts.append(Text(words(1000), [200, 201]))
    bits = improbability(texts, list(range(202)))
    needed = needed_bits(101)
    assert bits[0] < needed / 2
    assert bits[-1] > 2 * needed
    assert bits[1] == pytest.approx(bits[2], rel=0.5)


def test_what_one_patient_repeats_makes_nothing_more_likely():
    """Ten versions of one patient's note beside one of another: without these two nobody wrote it."""
    base = words(5)
    versions = [Text((*base, NAMES[n]), [n]) for n in range(10)]
    others = [Text(words(seed), [100 + seed]) for seed in range(40)]
    alone, beside = ([*versions[:1], Text(base, [50]), *others], [*versions, Text(base, [50]), *others])
    patients = [0] * 10 + list(range(1, 200))
    first, second = improbability(alone, patients)[1], improbability(beside, patients)[10]
    assert second == pytest.approx(first, rel=0.02)


def test_needed_bits_grow_with_the_pairs():
    assert needed_bits(2) == MARGIN
    assert needed_bits(65) == pytest.approx(MARGIN + math.log2(65 * 32))
