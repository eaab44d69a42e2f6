"""Words for probabilities: every probability has one, and one alone."""

from __future__ import annotations

import math

import pytest

from consilium.domain.certainty import Certainty, certainty_of

WORDS = ["very unlikely", "unlikely", "possible", "probable", "almost certain"]


@pytest.mark.parametrize(
    ("probability", "word"),
    [(0, 0), (0.0499, 0), (0.05, 1), (0.2499, 1), (0.25, 2), (0.5, 2), (0.7499, 2), (0.75, 3), (0.95, 4), (1, 4)],
)
def test_a_word_stands_from_its_least_probability_up_to_the_next_words(probability: float, word: int) -> None:
    assert certainty_of(probability) == WORDS[word]


def test_the_ranges_leave_nothing_out() -> None:
    assert [one.value for one in Certainty] == WORDS
    assert [one.lowest for one in Certainty] + [1.0] == [0.0] + [one.below for one in Certainty]


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_no_probability_has_no_word(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        certainty_of(probability)
