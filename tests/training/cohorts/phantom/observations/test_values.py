from __future__ import annotations

import numpy as np
import pytest

from consilium.domain.variables import BUILT_IN
from consilium.formats.units import conversion
from training.cohorts.phantom.observations.values import VARIABLE_CHANNELS, evidence_of, render_values, value_of
from training.cohorts.phantom.tables import table

ROWS = {**table("values")["decisive"], **table("values")["irrelevant"]}
ALL = np.ones(len(VARIABLE_CHANNELS), dtype=bool)


@pytest.mark.parametrize("variable", ROWS)
def test_codes_units_and_factors_are_those_of_the_variable_table(variable: str) -> None:
    for code, unit, factor, _ in ROWS[variable]["units"]:
        assert BUILT_IN.codes[code].variable == variable
        assert conversion(BUILT_IN[variable], BUILT_IN.codes[code], unit)(factor) == pytest.approx(1, rel=2e-5)
    assert sum(chance for *_, chance in ROWS[variable]["units"]) == pytest.approx(1)


@pytest.mark.parametrize("variable", VARIABLE_CHANNELS)
def test_values_are_monotone_and_plausible_over_the_whole_range(variable: str) -> None:
    values = [value_of(variable, e) for e in np.linspace(-4.5, 6.5, 45)]
    steps = np.diff(values)
    assert (steps > 0).all() or (steps < 0).all()
    assert all(BUILT_IN[variable].is_plausible(value) for value in values)
    assert evidence_of(variable, value_of(variable, 1.234)) == pytest.approx(1.234)


@pytest.mark.parametrize("variable", VARIABLE_CHANNELS)
def test_the_healthy_median_is_normal_and_the_ill_move_towards_abnormal(variable: str) -> None:
    known = BUILT_IN[variable]
    low, high = known.normal_range()
    ill = value_of(variable, 4.0)
    assert not low <= ill <= high
    assert value_of(variable, -1.0) <= high or variable == "nt_probnp"


def test_written_values_carry_their_evidence() -> None:
    worst = 0.0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        evidence = rng.normal(0.5, 1.3, len(VARIABLE_CHANNELS))
        for m in render_values(evidence, ALL, rng):
            if m.evidence is None:
                continue
            ingested = conversion(BUILT_IN[m.variable], BUILT_IN.codes[m.code], m.unit)(m.value)
            assert evidence_of(m.variable, ingested) == pytest.approx(m.evidence, abs=1e-3)
            worst = max(worst, abs(m.evidence - evidence[VARIABLE_CHANNELS.index(m.variable)]))
    assert worst < 0.15


def test_what_was_not_measured_is_left_out_and_nothing_else_moves() -> None:
    measured = ALL.copy()
    measured[2] = False
    whole = render_values(np.zeros(8), ALL, np.random.default_rng(5))
    partial = render_values(np.zeros(8), measured, np.random.default_rng(5))
    assert [m for m in whole if m.variable != VARIABLE_CHANNELS[2]] == partial
    assert len(whole) == len(partial) + 1


def test_the_same_evidence_and_nuisance_give_the_same_rows() -> None:
    one, two = (render_values(np.full(8, 0.7), ALL, np.random.default_rng(6)) for _ in range(2))
    assert one == two
    changed = render_values(np.r_[3.0, np.full(7, 0.7)], ALL, np.random.default_rng(6))
    assert [m for m in changed if m.variable != "crp"] == [m for m in one if m.variable != "crp"]


def test_only_irrelevant_values_come_after_the_reference_time() -> None:
    rows = [m for seed in range(400) for m in render_values(np.zeros(8), ALL, np.random.default_rng(seed))]
    later = [m for m in rows if m.hours > 0]
    assert later
    assert all(m.evidence is None for m in later)
    assert len({(m.variable, m.unit) for m in rows}) > len(ROWS)
