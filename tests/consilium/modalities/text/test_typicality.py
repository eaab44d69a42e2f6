from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from consilium.modalities.text.typicality import Bigrams

VOCABULARY = 20


def test_bigrams_are_witten_and_bells_by_hand() -> None:
    # Pieces: 0 1 0 2 by four patients; 3 4 by two, who are too few.
    rows = [[0, 1, 0, 2]] * 4 + [[3, 4, -1, -1]] * 2
    bigrams = Bigrams.fit(torch.tensor(rows), np.array([f"p{n}" for n in range(6)]), 5)
    # Counted pieces: 0 eight times, 1 and 2 four times each, one more of each of the five.
    alone = np.array([9, 5, 5, 1, 1]) / 21
    assert torch.exp(-bigrams.alone).numpy() == pytest.approx(alone)
    # After 0 came 1 and 2, four times each: two kinds in eight; after 1 came 0, four times: one kind.
    after_zero = (4 + 2 * alone[1]) / 10
    after_one = (4 + 1 * alone[0]) / 5
    expected = -(2 * math.log(after_zero) + math.log(after_one)) / 3
    asked = torch.tensor([[0, 1, 0, 2, -1, -1], [3, 4, -1, -1, -1, -1], [0, 3, -1, -1, -1, -1], [2] + [-1] * 5])
    found = bigrams.surprisal(asked).numpy()
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[1] == pytest.approx(-math.log(alone[4]), rel=1e-5)
    assert found[2] == pytest.approx(-math.log(2 / 10 * alone[3]), rel=1e-5)
    assert found[3] == 0


def test_what_follows_a_piece_adds_up_to_one() -> None:
    starts = np.random.default_rng(5).integers(0, VOCABULARY, (200, 1))
    pieces = torch.from_numpy((starts + np.arange(8)) % VOCABULARY)
    bigrams = Bigrams.fit(pieces, np.array([f"p{n}" for n in range(200)]), VOCABULARY)
    for first in range(VOCABULARY):
        pairs = torch.tensor([[first, second] for second in range(VOCABULARY)])
        assert torch.exp(-bigrams.surprisal(pairs)).sum() == pytest.approx(1, abs=1e-4)


def test_a_pair_of_words_that_few_patients_have_is_not_in_the_table() -> None:
    rows = torch.tensor([[0, 1, 2]] * 9 + [[1, 0, 2]] * 9)
    one_patient_often = np.array([f"p{n}" for n in range(9)] + ["p9"] * 9)
    bigrams = Bigrams.fit(rows, one_patient_often, 3)
    assert bigrams.pairs.tolist() == [0 * 3 + 1, 1 * 3 + 2]
