from itertools import combinations

import numpy as np

from training.audit.buckets import bucketed_pairs, linked, unique_pairs


def test_every_pair_that_shares_a_key_in_some_table_comes_once():
    keys = np.random.default_rng(0).integers(0, 12, (60, 3)).astype(np.uint64)
    expected = {(i, j) for i, j in combinations(range(60), 2) if (keys[i] == keys[j]).any()}
    found = unique_pairs(list(bucketed_pairs(keys)), 60)
    assert len(found) == len(expected)
    assert {tuple(pair) for pair in found.tolist()} == expected


def test_a_large_bucket_costs_little_and_stays_linked():
    pairs = unique_pairs(list(bucketed_pairs(np.zeros((1500, 1), np.uint64))), 1500)
    assert len(pairs) < 1500 * 256
    assert len(set(linked(pairs, 1500).tolist())) == 1


def test_nothing_shared_gives_no_pair():
    assert list(bucketed_pairs(np.arange(10, dtype=np.uint64)[:, None])) == []
    assert unique_pairs([], 10).shape == (0, 2)


def test_links_reach_through_others():
    groups = linked(np.array([[0, 2], [2, 4], [1, 3]]), 6)
    assert groups[0] == groups[2] == groups[4]
    assert groups[1] == groups[3]
    assert len(set(groups.tolist())) == 3
