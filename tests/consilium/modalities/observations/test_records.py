import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.domain.errors import InputError, TooLarge
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, Code, Kind, Variable
from consilium.formats.units import conversion
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.records import read_observations
from consilium.modalities.registry import default_context, default_limits


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
        # The code of the mass with a unit of the substance, and the other way round, as laboratories send them.
        ("2160-0", 88.4, "umol/L", 88.4),
        ("14682-9", 1, "mg/dL", 88.4),
        ("2345-7", 10, "mmol/L", 10),
        ("718-7", 8.7, "mmol/L", 14),
        ("1975-2", 17.1, "umol/L", 17.1),
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


NUMERIC = [variable for variable in BUILT_IN.values() if variable.kind is Kind.NUMERIC]


@pytest.mark.parametrize("variable", NUMERIC, ids=[variable.name for variable in NUMERIC])
def test_own_unit_changes_nothing_and_every_code_takes_its_own(variable):
    for code in variable.codes:
        assert conversion(variable, code, code.unit).scale > 0
        if code.unit == variable.unit:
            assert value_of(code.code, 0.7, variable.unit) == pytest.approx(0.7, rel=1e-12, abs=1e-12)


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


def test_a_pending_result_is_left_out_and_stops_nothing():
    sent = [{"code": "1988-5", "value": None, "unit": "mg/L"}, {"code": "8867-4", "value": 80, "unit": "/min"}]
    observations, warnings = read_observations(sent)
    assert [observation.variable for observation in observations] == ["heart_rate"]
    assert warnings == ("observations[0] left out (C-reactive protein): no value, the result may be pending",)
    with pytest.raises(InputError, match="value"):
        read_observations([{"code": "1988-5", "unit": "mg/L"}])


@pytest.mark.parametrize(
    ("code", "unit", "rule"),
    [
        # Some weigh urea, some its nitrogen: the code alone says which, and a unit of the other kind takes that away.
        ("3094-0", "mmol/L", "mg/dL .*mmol/L as LOINC 22664-7"),
        ("22664-7", "mg/dL", "mmol/L .*mg/dL as LOINC 3091-6"),
        ("2703-7", "%", r"mm\[Hg\]"),
        ("1988-5", "mmol/L", "mg/L"),
        ("48065-7", "ng/mL{DDU}", "FEU"),
        ("48066-5", "ng/mL{FEU}", "DDU"),
        ("2744-1", "mmol/L", "pH"),
        ("1988-5", "milli grams", "mg/L"),
        ("1988-5", "", "mg/L"),
        ("1988-5", None, "mg/L"),
        ("1988-5", "10*99999999/L", "not understood"),
        ("1988-5", "((((", "not understood"),
        ("1988-5", "m" * 100, "not understood"),
    ],
)
def test_a_unit_that_is_not_understood_leaves_its_value_out(code, unit, rule):
    sent = [{"code": code, "value": 1, "unit": unit}, {"code": "8867-4", "value": 80, "unit": "/min"}]
    observations, (warning,) = read_observations(sent)
    assert [observation.variable for observation in observations] == ["heart_rate"]
    assert warning.startswith(f"observations[0] left out ({BUILT_IN.by_code(code).display}): unit ")
    assert re.search(rule, warning)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    unit=st.text(alphabet="mgLdluolkUP/.*^10923[]{}()-+%' Hz\x00é", max_size=40),
    code=st.sampled_from([c for c in BUILT_IN.codes if BUILT_IN.by_code(c).kind is Kind.NUMERIC]),
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
            {"code": "10838-1", "value": 1, "unit": "ng/mL"},
            {"code": "LAB:K", "value": "see text"},
            {"code": "1988-5", "value": 5, "unit": "mg/L"},
        ]
    )
    assert [observation.variable for observation in observations] == ["crp"]
    assert warnings == (
        "observations[0] left out: LOINC 10838-1 is not in the table of variables",
        "observations[1] left out: its code is not in the table of variables",
    )


@pytest.mark.parametrize(("value", "implausible"), [("<0", True), ("< 0.0", True), ("<=0", False), ("<0.1", False)])
def test_below_nothing_is_no_value(value, implausible):
    (observation,), warnings = read_observations([{"code": "10839-9", "value": value, "unit": "ng/mL"}])
    assert observation.implausible is implausible
    assert bool(warnings) is implausible


def test_below_zero_is_one_where_values_may_be_negative():
    (observation,), _ = read_observations([{"code": "1925-7", "value": "<0", "unit": "mmol/L"}])
    assert not observation.implausible


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


@pytest.mark.parametrize("value", [True, [5], float("nan"), float("inf"), 10**400, Decimal(5)])
def test_values_that_are_no_finite_number_are_refused(value):
    with pytest.raises(InputError) as refused:
        read_observations([{"code": "1988-5", "value": value, "unit": "mg/L"}])
    assert refused.value.field == "observations[0].value"


@pytest.mark.parametrize("value", ["5 mg", "1_000", "250,000", "1,2,3", "hemolyzed", "negative", "1+", "<", ""])
def test_text_that_is_no_number_and_no_limit_is_left_out(value):
    sent = [{"code": "1988-5", "value": value, "unit": "mg/L"}, {"code": "1988-5", "value": 7, "unit": "mg/L"}]
    observations, (warning,) = read_observations(sent)
    assert [observation.value for observation in observations] == [7]
    assert warning.startswith("observations[0] left out (C-reactive protein): value must be")


@pytest.mark.parametrize(
    ("code", "value", "unit", "kept", "given", "comparator", "text"),
    [
        ("1988-5", "<0.3", "mg/dL", 3.0, 0.3, "<", "<0.3"),
        ("48065-7", "> 20", "mg/L FEU", 20_000, 20, ">", ">20"),
        ("62238-1", "≥ 90", "mL/min/1.73m2", 90, 90, ">=", ">=90"),
        ("67151-1", "<=5", "ng/L", 5, 5, "<=", "<=5"),
    ],
)
def test_limits_are_kept_with_their_comparator(code, value, unit, kept, given, comparator, text):
    (observation,), warnings = read_observations([{"code": code, "value": value, "unit": unit}])
    assert observation.value == pytest.approx(kept)
    assert (observation.given_value, observation.comparator, observation.given_text) == (given, comparator, text)
    assert not observation.implausible
    assert not warnings
    ((by_key,), _) = read_observations([{"code": code, "value": given, "comparator": comparator, "unit": unit}])
    assert by_key == observation


def test_a_limit_with_a_decimal_comma_is_read_and_warned_of():
    (observation,), warnings = read_observations([{"code": "1988-5", "value": "< 0,3", "unit": "mg/dL"}])
    assert (observation.given_text, observation.value) == ("<0.3", pytest.approx(3.0))
    assert warnings == ("observations[0].value: the comma was read as a decimal point",)


def test_a_limit_beyond_what_a_patient_can_have_is_marked():
    (observation,), warnings = read_observations([{"code": "2951-2", "value": ">1400", "unit": "mmol/L"}])
    assert observation.implausible
    assert warnings == ("observations[0] not used: implausible value (Sodium)",)


def test_categories_are_kept_with_their_position():
    observations, warnings = read_observations(
        [
            {"code": "20454-5", "value": "++"},
            {"code": "5802-4", "value": "NEG", "unit": ""},
            {"code": "882-1", "value": "0 Rh-", "time": "2020-03-01T08:30:00"},
            {"code": "20454-5", "value": "100 mg/dL", "unit": "mg/dL"},
        ]
    )
    assert [(o.variable, o.category, o.value, o.given_text) for o in observations] == [
        ("urine_protein", "2+", 3, "2+"),
        ("urine_nitrite", "negative", 0, "negative"),
        ("abo_rh_group", "O negative", 0, "O negative"),
    ]
    assert observations[2].time == datetime(2020, 3, 1, 8, 30, tzinfo=UTC)
    assert [warning.split(":")[0] for warning in warnings] == ["observations[3] left out (Urine protein)"]


def test_a_cohorts_own_table_is_read():
    presepsin = Variable("presepsin", "Presepsin", unit="pg/mL", codes=(Code("PSEP", "presepsin", system="local"),))
    shock = Variable(
        "shock", "Shock", Kind.YES_NO, categories=("no", "yes"), codes=(Code("SHK", "shock", system="local"),)
    )
    sent = [
        {"code": "PSEP", "value": ">2", "unit": "NG/ML"},
        {"code": "SHK", "value": True},
        {"code": "1988-5", "value": 5, "unit": "mg/L"},
    ]
    observations, warnings = read_observations(
        sent, context=default_context(variables=BUILT_IN.extended_with([presepsin, shock]))
    )
    assert [(o.variable, o.value, o.given_text) for o in observations] == [
        ("presepsin", pytest.approx(2000), ">2"),
        ("shock", 1, "yes"),
        ("crp", 5, "5"),
    ]
    assert not warnings


def test_a_limit_and_a_number_have_different_digests():
    both = [read_observations([{"code": "1988-5", "value": v, "unit": "mg/L"}])[0] for v in ("5", "<5", ">5")]
    assert len({Study({"observations": observations}).input_digests()["observations"] for observations in both}) == 3


@pytest.mark.parametrize("value", [5, 5.0, np.float32(5), np.int64(5), Fraction(5)])
def test_numbers_of_every_make_are_taken(value):
    assert value_of("1988-5", value, "mg/L") == 5.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": " "}, "observations[0].code"),
        ({"code": "c" * 65}, "observations[0].code"),
        ({"code": 19885}, "observations[0].code"),
        ({"code": None}, "observations[0].code"),
        ({"comparator": "~"}, "observations[0].comparator"),
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
        read_observations(
            [{"code": "1988-5", "value": 1, "unit": "mg/L"}] * 3,
            context=default_context(limits=default_limits().but(observations=2)),
        )
