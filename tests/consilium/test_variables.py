import pytest

from consilium.errors import InputError
from consilium.study import Sex
from consilium.variables import LOINC, VARIABLES, by_loinc, variable


def loinc_check_digit(number: str) -> int:
    """Mod-10 check digit of the LOINC Users' Guide: every second digit, from the right, is doubled."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [2 * digit if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    return -sum(digit // 10 + digit % 10 for digit in doubled) % 10


@pytest.mark.parametrize("code", LOINC)
def test_check_digit_of_every_code(code):
    number, check = code.split("-")
    assert loinc_check_digit(number) == int(check)


def test_every_variable_has_codes_and_every_code_a_variable():
    assert all(entry.codes for entry in VARIABLES.values())
    assert {code.variable for code in LOINC.values()} == set(VARIABLES)


@pytest.mark.parametrize("entry", VARIABLES.values(), ids=VARIABLES)
def test_intervals_are_nested(entry):
    assert entry.plausible_low <= entry.normal_low < entry.normal_high <= entry.plausible_high
    for low, high in filter(None, (entry.female, entry.male)):
        assert entry.normal_low <= low < high <= entry.normal_high
    assert entry.is_plausible(entry.normal_high)
    assert not entry.is_plausible(entry.plausible_high * 1.01)


def test_substance_and_mass_codes_of_one_variable_share_a_molar_mass():
    for entry in VARIABLES.values():
        if len({code.property for code in entry.codes}) > 1:
            assert entry.molar_mass is not None, entry.name
            assert all(code.molar_mass for code in entry.codes)


def test_lookups():
    assert by_loinc("2160-0") is variable("creatinine")
    assert LOINC["2160-0"].property == "MCnc"
    assert LOINC["14682-9"].property == "SCnc"
    assert LOINC["3094-0"].molar_mass == pytest.approx(28.0134)
    assert LOINC["3091-6"].molar_mass == pytest.approx(60.056)
    assert by_loinc("10839-9") is None
    assert variable("crp").code == "1988-5"
    with pytest.raises(InputError, match="must be one of crp"):
        variable("crb")


def test_reference_interval_by_sex():
    hemoglobin = variable("hemoglobin")
    assert hemoglobin.normal_range(Sex.FEMALE) == (12, 15.5)
    assert hemoglobin.normal_range(Sex.MALE) == (13.5, 17.5)
    assert hemoglobin.normal_range() == (12, 17.5)
    assert variable("sodium").normal_range(Sex.MALE) == (135, 145)
