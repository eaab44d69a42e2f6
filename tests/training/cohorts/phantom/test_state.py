from __future__ import annotations

import numpy as np
import pytest
from pydicom.sr.codedict import codes

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from training.cohorts.phantom.state import FINDINGS, MEMBERS, PRESENT, SEXES, load_states, phantom_findings


def test_sixteen_findings_times_confounders() -> None:
    assert len(FINDINGS) == 4
    assert PRESENT.shape == (64, 6)
    assert len(np.unique(PRESENT, axis=0)) == 64


def test_table_is_a_distribution_for_every_age_band_and_sex() -> None:
    table = load_states()
    assert table.states.min() > 0
    np.testing.assert_allclose(table.states.sum(axis=2), 1, rtol=0, atol=1e-12)
    assert table.demographics.sum() == pytest.approx(1)
    assert table.prior.sum() == pytest.approx(1)


def test_prevalence_and_correlation_are_realistic() -> None:
    prior = load_states().prior
    prevalence = dict(zip(MEMBERS, prior @ PRESENT, strict=True))
    assert all(0.10 <= prevalence[name] <= 0.30 for name in MEMBERS)
    failure, effusion = PRESENT[:, MEMBERS.index("heart_failure")], PRESENT[:, MEMBERS.index("pleural_effusion")]
    with_failure = prior @ (failure & effusion) / (prior @ failure)
    without = prior @ (~failure & effusion) / (prior @ ~failure)
    assert with_failure > 1.8 * without


def test_table_is_the_stored_odds() -> None:
    """Pneumonia in a man of 80 with a scar and heart failure: base odds .24/.76, times 1.2, times 1.2."""
    table = load_states()
    cell = table.given([80], [SEXES.index(Sex.MALE)])[0]
    given = PRESENT[:, MEMBERS.index("scar")] & PRESENT[:, MEMBERS.index("heart_failure")]
    present = cell @ (given & PRESENT[:, MEMBERS.index("pneumonia")]) / (cell @ given)
    odds = 0.24 / 0.76 * 1.2 * 1.2
    assert present == pytest.approx(odds / (1 + odds))


def test_age_bands_hold_their_lower_edge() -> None:
    assert load_states().band([18, 39, 40, 59, 60, 75, 91]).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_draws_follow_the_table() -> None:
    table, rng = load_states(), np.random.default_rng(1)
    drawn = [table.draw(rng) for _ in range(3000)]
    frequency = np.mean([state.present for state in drawn], axis=0)
    expected = table.prior @ PRESENT
    np.testing.assert_allclose(frequency, expected, atol=4 * np.sqrt(0.25 / 3000))
    assert np.mean([state.sex is Sex.FEMALE for state in drawn]) == pytest.approx(0.49, abs=0.04)
    assert {18, 91} >= {min(s.age for s in drawn), max(s.age for s in drawn)}
    assert all(tuple(PRESENT[state.index]) == state.present for state in drawn[:50])


def test_prevalence_shift_multiplies_the_odds() -> None:
    plain, shifted = load_states(), load_states({"pneumothorax": 3.0})
    member = PRESENT[:, MEMBERS.index("pneumothorax")]
    scar = PRESENT[:, MEMBERS.index("scar")]
    rest = ~PRESENT[:, MEMBERS.index("pleural_effusion")] & ~scar

    def odds(states: np.ndarray) -> float:
        return float(states[0, 0] @ (member & rest) / (states[0, 0] @ (~member & rest)))

    assert odds(shifted.states) == pytest.approx(3 * odds(plain.states))
    assert shifted.prior @ scar == pytest.approx(plain.prior @ scar)


@pytest.mark.parametrize(("shift", "field"), [({"asthma": 2.0}, "prevalence_odds"), ({"scar": 0.0}, "scar")])
def test_bad_shift_is_refused(shift: dict[str, float], field: str) -> None:
    with pytest.raises(InputError, match=field):
        load_states(shift)


def test_codes_are_those_of_the_dictionary() -> None:
    coded = {finding.name: finding.code for finding in phantom_findings()}
    assert coded["heart_failure"] == codes.SCT.HeartFailure.value
    assert coded["pleural_effusion"] == codes.SCT.PleuralEffusion.value
    assert coded["pneumothorax"] == codes.SCT.Pneumothorax.value
    assert coded["pneumonia"] == "233604007"  # not in pydicom's dictionary; from SNOMED International's editorial guide
