import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import fisher_exact

from training.audit.association import associate, holm


def test_patients_count_with_the_studies_that_show_their_finding():
    #                  a, a,  b, b,  c,  d (unknown)
    labels = np.array([1, 0, 0, 0, 0, np.nan], np.float32)
    holds = np.array([[0, 3], [1, 0], [0, 0], [1, 0], [0, 1], [1, 1]])
    found = associate(holds, labels, np.array(list("aabbcd")))
    assert (found.present, found.absent) == (1, 2)
    assert found.holding_present.tolist() == [0, 1], "a's study without the finding does not count"
    assert found.holding_absent.tolist() == [1, 1]


def test_p_is_fishers_and_the_odds_ratio_haldanes():
    rng = np.random.default_rng(0)
    labels = (rng.random(80) < 0.4).astype(np.float32)
    holds = rng.random((80, 6)) < np.where(labels[:, None] == 1, 0.6, [0.1, 0.3, 0.5, 0.6, 0.7, 0.9])
    patients = np.arange(80).astype(str)
    found = associate(csr_array(holds), labels, patients)
    for w in range(6):
        a, b = int(holds[labels == 1, w].sum()), int(holds[labels == 0, w].sum())
        table = [[a, b], [found.present - a, found.absent - b]]
        tails = [fisher_exact(table, side).pvalue for side in ("less", "greater")]
        assert found.p[w] == pytest.approx(min(1, 2 * min(tails)))
        smoothed = (a + 0.5) * (found.absent - b + 0.5) / ((b + 0.5) * (found.present - a + 0.5))
        assert found.odds_ratio[w] == pytest.approx(smoothed)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert holm(np.zeros(0)).tolist() == []
