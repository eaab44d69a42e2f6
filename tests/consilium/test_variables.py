import copy
import pickle

import pytest

from consilium.errors import InputError
from consilium.study import Sex
from consilium.variables import BUILT_IN, Code, Kind, Variable, VariableTable


def loinc_check_digit(number: str) -> int:
    """Mod-10 check digit of the LOINC Users' Guide: every second digit, from the right, is doubled."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [2 * digit if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    return -sum(digit // 10 + digit % 10 for digit in doubled) % 10


@pytest.mark.parametrize("code", BUILT_IN.codes)
def test_check_digit_of_every_code(code):
    number, check = code.split("-")
    assert loinc_check_digit(number) == int(check)


def test_every_variable_has_codes_and_every_code_a_variable():
    assert all(variable.codes for variable in BUILT_IN.values())
    assert {code.variable for code in BUILT_IN.codes.values()} == set(BUILT_IN)


@pytest.mark.parametrize("variable", BUILT_IN.values(), ids=BUILT_IN)
def test_intervals_are_nested(variable):
    low, high = variable.reference
    assert variable.plausible_low <= low < high <= variable.plausible_high
    for own_low, own_high in filter(None, (variable.female, variable.male)):
        assert low <= own_low < own_high <= high
    assert variable.is_plausible(high)
    assert not variable.is_plausible(variable.plausible_high * 1.01)


def test_substance_and_mass_codes_of_one_variable_share_a_molar_mass():
    for variable in BUILT_IN.values():
        if len({code.property for code in variable.codes}) > 1:
            assert variable.molar_mass is not None, variable.name
            assert all(code.molar_mass for code in variable.codes)


def test_lookups():
    assert BUILT_IN.by_code("2160-0") is BUILT_IN["creatinine"] is BUILT_IN.named("creatinine")
    assert BUILT_IN.codes["2160-0"].property == "MCnc"
    assert BUILT_IN.codes["14682-9"].property == "SCnc"
    assert BUILT_IN.codes["3094-0"].molar_mass == pytest.approx(28.0134)
    assert BUILT_IN.codes["3091-6"].molar_mass == pytest.approx(60.056)
    assert BUILT_IN.by_code("10839-9") is None
    assert BUILT_IN["crp"].code == "1988-5"
    assert "crb" not in BUILT_IN
    with pytest.raises(InputError, match="must be one of crp"):
        BUILT_IN.named("crb")


def test_reference_interval_by_sex():
    hemoglobin = BUILT_IN["hemoglobin"]
    assert hemoglobin.normal_range(Sex.FEMALE) == (12, 15.5)
    assert hemoglobin.normal_range(Sex.MALE) == (13.5, 17.5)
    assert hemoglobin.normal_range() == (12, 17.5)
    assert BUILT_IN["sodium"].normal_range(Sex.MALE) == (135, 145)


PRESEPSIN = Variable("presepsin", "Presepsin", unit="pg/mL", codes=(Code("PSEP", "presepsin", system="local"),))
CULTURE = Variable("culture", "Sputum culture", Kind.YES_NO, categories=("no", "yes"))


def test_a_table_is_extended_without_changing():
    before = tuple(BUILT_IN)
    extended = BUILT_IN.extended_with([PRESEPSIN, CULTURE])
    assert tuple(extended) == (*before, "presepsin", "culture")
    assert extended.by_code("PSEP") is PRESEPSIN
    assert (PRESEPSIN.code, CULTURE.code) == ("PSEP", "culture")
    assert CULTURE.normal_range() is None
    assert PRESEPSIN.is_plausible(1e9)
    assert tuple(BUILT_IN) == before
    assert BUILT_IN.by_code("PSEP") is None


def test_a_table_is_a_value():
    table = VariableTable((PRESEPSIN, CULTURE))
    assert table == VariableTable((PRESEPSIN, CULTURE)) == pickle.loads(pickle.dumps(table)) == copy.deepcopy(table)
    assert hash(table) == hash(copy.deepcopy(table))
    assert table != BUILT_IN


def test_a_name_or_code_that_is_taken_is_refused():
    with pytest.raises(InputError, match=r"variables.name: got 'crp'"):
        BUILT_IN.extended_with([Variable("crp", "CRP")])
    taken = Variable("mine", "Mine", codes=(Code("1988-5", "mine"),))
    with pytest.raises(InputError, match=r"variables.codes: got '1988-5', .* means crp"):
        BUILT_IN.extended_with([taken])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": Kind.CATEGORICAL}, "categories"),
        ({"kind": Kind.NUMERIC, "categories": ("a", "b")}, "categories"),
        ({"kind": Kind.CATEGORICAL, "categories": ("a", "a")}, "categories"),
        ({"kind": Kind.CATEGORICAL, "categories": ("a", "b"), "normal_categories": ("c",)}, "normal_categories"),
    ],
)
def test_categories_belong_to_categorical_variables(change, field):
    with pytest.raises(InputError) as refused:
        Variable("mine", "Mine", **change)
    assert refused.value.field == field
