from __future__ import annotations

import numpy as np
import pytest

from training.pretraining.retrieval import galleries, rank_in_galleries, rank_own


def test_ranks_by_hand() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 0.0], [1.0, 1.0, 1.0]])
    found = rank_own(scores)
    assert found.first.tolist() == pytest.approx([1, 0, 1 / 3])
    assert found.rank.tolist() == pytest.approx([1, 0.5, 0.5])
    assert found.tenth.tolist() == [1, 1, 1]


def test_ties_share_the_places_that_are_left() -> None:
    scores = np.zeros((20, 20))
    found = rank_own(scores)
    assert found.first == pytest.approx(np.full(20, 1 / 20))
    assert found.tenth == pytest.approx(np.full(20, 10 / 20))
    scores[0, 1:13] = 1.0  # twelve before it
    assert rank_own(scores).tenth[0] == 0
    scores[0, 1:13] = 0.0
    scores[0, 1:9] = 1.0  # eight before it, eleven level: two of twelve places
    assert rank_own(scores).tenth[0] == pytest.approx(2 / 12)


def test_galleries_are_whole_or_all_there_is() -> None:
    assert [len(group) for group in galleries(250, seed=1)] == [100, 100]
    assert len(np.unique(np.concatenate(galleries(250, seed=1)))) == 200
    assert [len(group) for group in galleries(60, seed=1)] == [60]
    assert galleries(9, seed=1) == []
    assert [g.tolist() for g in galleries(250, seed=1)] == [g.tolist() for g in galleries(250, seed=1)]


def test_a_record_is_looked_for_in_its_own_gallery() -> None:
    scores = np.eye(4)
    scores[0, 3] = 2.0  # better, but of the other gallery
    found = rank_in_galleries(scores, [np.array([0, 1]), np.array([2, 3])])
    assert found.figures() == {"r1": 1.0, "r10": 1.0, "rank": 1.0}
