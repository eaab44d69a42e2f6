from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.errors import InputError, TooLarge
from consilium.ingest.limits import Limits
from consilium.ingest.observations import read_observations
from consilium.ingest.units import conversion
from consilium.study import Observation
from consilium.variables import BUILT_IN


def value_of(code, value, unit):
    ((observation,), _) = read_observations([{"code": code, "value": value, "unit": unit}])
    return observation.value


@pytest.mark.parametrize(
    ("code", "value", "unit", "expected"),
    [
        ("1988-5", 12.3, "mg/L", 12.3),
        ("1988-5", 1.2, "mg/dL", 12),
        ("2160-0", 1, "mg/dL", 88.4),
        ("14682-9", 88.4, "umol/L", 88.4),
        ("14682-9", 0.0884, "mmol/L", 88.4),
        ("14682-9", 88.4, "µmol/L", 88.4),
        ("3094-0", 28, "mg/dL", 10),
        ("3091-6", 60, "mg/dL", 10),
        ("2345-7", 180, "mg/dL", 10),
        ("14749-6", 10, "mmol/L", 10),
        ("1975-2", 1, "mg/dL", 17.1),
        ("2524-7", 2, "mmol/L", 2),
        ("14118-4", 18, "mg/dL", 2),
        ("718-7", 140, "g/L", 14),
        ("59260-0", 8.7, "mmol/L", 14),
        ("33762-6", 900, "ng/L", 900),
        ("33763-4", 10, "pmol/L", 84.6),
        ("47092-2", 10, "pmol/L", 34.6),
        ("67151-1", 0.02, "ng/mL", 20),
        ("48065-7", 0.5, "ug/mL{FEU}", 500),
        ("48066-5", 0.25, "mg/L{DDU}", 500),
        ("6690-2", 7.5, "10*3/uL", 7.5),
        ("6690-2", 7.5, "10*9/L", 7.5),
        ("6690-2", 7500, "{cells}/uL", 7.5),
        ("1751-7", 4, "g/dL", 40),
        ("2532-0", 4, "ukat/L", 240),
        ("2532-0", 250, "[IU]/L", 250),
        ("2951-2", 140, "meq/L", 140),
        ("2744-1", 7.4, "[pH]", 7.4),
        ("2703-7", 10, "kPa", 75.0),
        ("2703-7", 75, "mmHg", 75),
        ("59408-5", 0.97, "1", 97),
        ("8310-5", 98.6, "[degF]", 37),
        ("8310-5", 310.15, "K", 37),
        ("8867-4", 80, "{beats}/min", 80),
        ("8867-4", 1.5, "Hz", 90),
        ("8480-6", 16, "kPa", 120),
    ],
)
def test_units_become_the_variables_own(code, value, unit, expected):
    assert value_of(code, value, unit) == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize("variable", BUILT_IN.values(), ids=BUILT_IN)
def test_own_unit_changes_nothing_and_every_code_takes_its_own(variable):
    for loinc in variable.codes:
        assert conversion(variable, loinc, loinc.unit).scale > 0
        if loinc.unit == variable.unit:
            assert value_of(loinc.code, 0.7, variable.unit) == pytest.approx(0.7, rel=1e-12, abs=1e-12)


def test_both_properties_of_a_variable_lead_to_the_same_value():
    for low, high, mass_unit, substance_unit in (
        ("2160-0", "14682-9", "mg/dL", "umol/L"),
        ("2345-7", "14749-6", "mg/dL", "mmol/L"),
        ("1975-2", "14631-6", "mg/dL", "umol/L"),
        ("30934-4", "47092-2", "pg/mL", "pmol/L"),
        ("1751-7", "54347-0", "g/dL", "umol/L"),
    ):
        molar_mass = BUILT_IN.codes[low].molar_mass
        grams_per_litre = {"mg/dL": 1e-2, "pg/mL": 1e-9, "g/dL": 10}[mass_unit]
        moles = grams_per_litre / molar_mass / {"umol/L": 1e-6, "mmol/L": 1e-3, "pmol/L": 1e-12}[substance_unit]
        assert value_of(low, 1, mass_unit) == pytest.approx(value_of(high, moles, substance_unit), rel=1e-9)


@pytest.mark.parametrize(
    ("code", "unit", "rule"),
    [
        ("2160-0", "umol/L", "mg/dL .*umol/L as LOINC 14682-9"),
        ("14682-9", "mg/dL", "umol/L .*mg/dL as LOINC 2160-0"),
        ("2703-7", "%", r"mm\[Hg\]"),
        ("6690-2", "K/uL", "10.3/uL"),
        ("1988-5", "mmol/L", "mg/L"),
        ("1988-5", "10*9999/L", "mg/L"),
        ("48065-7", "ng/mL{DDU}", "FEU"),
        ("48066-5", "ng/mL{FEU}", "DDU"),
        ("2744-1", "mmol/L", "pH"),
        ("1988-5", "milligrams", "UCUM"),
        ("1988-5", "", "UCUM"),
        ("1988-5", "10*99999999/L", "UCUM"),
        ("1988-5", "((((", "UCUM"),
        ("1988-5", "m" * 100, "UCUM"),
    ],
)
def test_wrong_units_are_named_with_what_is_accepted(code, unit, rule):
    with pytest.raises(InputError, match=rule) as refused:
        read_observations([{"code": code, "value": 1, "unit": unit}])
    assert refused.value.field == "observations[0].unit"
    assert refused.value.value == unit


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    unit=st.text(alphabet="mgLdluolkUP/.*^10923[]{}()-+%' Hz\x00é", max_size=40),
    code=st.sampled_from(list(BUILT_IN.codes)),
)
def test_made_up_units_convert_or_are_refused(unit, code):
    try:
        scale = conversion(BUILT_IN.by_code(code), BUILT_IN.codes[code], unit).scale
    except InputError:
        return
    assert np.isfinite(scale)


def test_observation_keeps_what_was_received():
    (observation,), warnings = read_observations(
        [{"code": "2160-0", "value": 2, "unit": "mg/dL", "time": "2020-03-01T08:30:00"}]
    )
    assert observation == Observation(
        "creatinine",
        "2160-0",
        observation.value,
        2.0,
        "mg/dL",
        datetime(2020, 3, 1, 8, 30, tzinfo=UTC),
        implausible=False,
    )
    assert not warnings


def test_unknown_codes_are_left_out_with_a_warning():
    observations, warnings = read_observations(
        [
            {"code": "10839-9", "value": 1, "unit": "ng/mL"},
            {"code": "1988-5", "value": 5, "unit": "mg/L"},
        ]
    )
    assert [observation.variable for observation in observations] == ["crp"]
    assert warnings == ("observations[0] left out: LOINC 10839-9 is not in the table of variables",)


def test_implausible_values_are_kept_marked_and_warned_of():
    observations, warnings = read_observations(
        [
            {"code": "59408-5", "value": 97, "unit": "1"},
            {"code": "2823-3", "value": 41, "unit": "mmol/L"},
            {"code": "2823-3", "value": 4.1, "unit": "mmol/L"},
            {"code": "1988-5", "value": -1, "unit": "mg/L"},
        ]
    )
    assert [observation.implausible for observation in observations] == [True, True, False, True]
    assert warnings[1] == "observations[1] not used: implausible value (Potassium)"
    assert len(warnings) == 3


@pytest.mark.parametrize("value", [True, "5 mg", None, [5], float("nan"), float("inf"), 10**400, Decimal(5)])
def test_values_that_are_no_finite_number_are_refused(value):
    with pytest.raises(InputError) as refused:
        read_observations([{"code": "1988-5", "value": value, "unit": "mg/L"}])
    assert refused.value.field == "observations[0].value"


@pytest.mark.parametrize("value", [5, 5.0, np.float32(5), np.int64(5), Fraction(5)])
def test_numbers_of_every_make_are_taken(value):
    assert value_of("1988-5", value, "mg/L") == 5.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": "crp"}, "observations[0].code"),
        ({"code": 19885}, "observations[0].code"),
        ({"code": None}, "observations[0].code"),
        ({"unit": None}, "observations[0].unit"),
        ({"unit": 3}, "observations[0].unit"),
        ({"time": "now"}, "observations[0].time"),
        ({"units": "mg/L"}, "observations[0]"),
    ],
)
def test_what_is_wrong_is_named(change, field):
    with pytest.raises(InputError) as refused:
        read_observations([{"code": "1988-5", "value": 1, "unit": "mg/L"} | change])
    assert refused.value.field == field


def test_too_many():
    with pytest.raises(TooLarge):
        read_observations([{"code": "1988-5", "value": 1, "unit": "mg/L"}] * 3, limits=Limits(observations=2))
