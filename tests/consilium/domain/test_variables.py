import copy
import csv
import pickle
import re
from importlib.resources import files

import numpy as np
import pytest

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.domain.variables import BUILT_IN, Code, Kind, Variable, VariableTable
from consilium.formats.units import conversion


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


NUMERIC = [variable for variable in BUILT_IN.values() if variable.kind is Kind.NUMERIC]
CATEGORICAL = [variable for variable in BUILT_IN.values() if variable.kind is not Kind.NUMERIC]


def named(variables):
    return pytest.mark.parametrize("variable", variables, ids=[variable.name for variable in variables])


@named(NUMERIC)
def test_intervals_are_nested(variable):
    low, high = variable.reference or (variable.plausible_low, variable.plausible_high)
    least = 0 if variable.may_be_zero else variable.plausible_low
    assert least <= low or low == 0
    assert low < high <= variable.plausible_high
    for own_low, own_high in filter(None, (variable.female, variable.male)):
        assert low <= own_low < own_high <= high
    assert variable.is_plausible(high)
    assert variable.is_plausible(0) == (variable.may_be_zero or variable.plausible_low <= 0)
    assert not variable.is_plausible(variable.plausible_high * 1.01)
    assert not variable.is_plausible(variable.plausible_low - 0.01 * abs(variable.plausible_low or 1))


@named(CATEGORICAL)
def test_categorical_variables_have_no_numbers(variable):
    assert len(variable.categories) >= 2
    assert (variable.unit, variable.reference, variable.log_scale) == ("", None, False)
    assert all(code.unit == "" for code in variable.codes)


def plausible_values(variable):
    """From one end of what is plausible to the other, both included."""
    low, high = variable.plausible_low, variable.plausible_high
    spread = np.geomspace(low, high, 41) if low > 0 else np.linspace(low, high, 41)
    return [low, *spread[1:-1].tolist(), high]


@named(NUMERIC)
def test_a_slip_by_a_thousand_is_detected_or_the_table_says_why_not(variable):
    """In every accepted unit, upwards and downwards, from everything that a patient can have."""
    undetected = set()
    for code in variable.codes:
        for unit in {code.unit, *UNITS.get(variable.unit, ())}:
            try:
                converted = conversion(variable, code, unit)
            except InputError:
                continue
            for value in plausible_values(variable):
                sent = (value - converted.offset) / converted.scale
                for slip in (sent * 1000, sent / 1000):
                    if value and variable.is_plausible(converted(slip)):
                        undetected.add(value)
    assert bool(undetected) == bool(variable.slips_undetected), sorted(undetected)[:5]


UNITS = {
    "mg/L": ("mg/dL", "ug/mL", "g/L"),
    "ug/L": ("ng/mL", "ug/dL", "mg/L"),
    "ng/L": ("pg/mL", "ng/mL", "ug/L"),
    "ng/mL": ("ug/L", "pg/mL"),
    "pg/mL": ("ng/L", "pmol/L"),
    "g/L": ("g/dL", "mg/dL", "umol/L"),
    "g/dL": ("g/L", "mmol/L"),
    "umol/L": ("mg/dL", "mmol/L", "ug/dL"),
    "mmol/L": ("mg/dL", "mEq/L", "umol/L"),
    "nmol/L": ("ug/dL", "ng/mL", "umol/L"),
    "pmol/L": ("ng/dL", "pg/mL", "nmol/L"),
    "10*9/L": ("K/uL", "/uL", "lakh/cumm"),
    "10*12/L": ("M/uL", "/uL"),
    "U/L": ("ukat/L", "kU/L"),
    "mm[Hg]": ("kPa", "cm[H2O]"),
    "%": ("1", "[ppth]", "mmol/mol"),
    "Cel": ("[degF]", "K"),
    "kg": ("lb", "g"),
    "cm": ("m", "in", "ft"),
    "s": ("ms", "min"),
}
"""Further units in which each is sent; those that a code does not take are passed over."""


@pytest.mark.parametrize(
    ("code", "unit", "right", "slipped"),
    [
        ("777-3", "10*9/L", 250, 0.25),
        ("777-3", "K/uL", 250, 250_000),
        ("6690-2", "10*9/L", 6, 0.006),
        ("6690-2", "/uL", 6000, 6),
        ("1988-5", "mg/L", 8, 0.008),
        ("2160-0", "mg/dL", 1.1, 0.0011),
        ("14682-9", "umol/L", 90, 90_000),
        ("2345-7", "mg/dL", 100, 0.1),
        ("48065-7", "ng/mL FEU", 400, 0.4),
        ("67151-1", "ng/L", 9, 0.009),
        ("718-7", "g/L", 140, 0.14),
        ("2276-4", "ng/mL", 100, 0.1),
        ("29463-7", "kg", 70, 70_000),
    ],
)
def test_slips_that_are_detected(code, unit, right, slipped):
    variable = BUILT_IN.by_code(code)
    converted = conversion(variable, BUILT_IN.codes[code], unit)
    assert variable.is_plausible(converted(right))
    assert not variable.is_plausible(converted(slipped))


def test_substance_and_mass_codes_of_one_variable_share_a_molar_mass():
    for variable in NUMERIC:
        if len({code.property for code in variable.codes} & {"MCnc", "SCnc"}) > 1:
            assert variable.molar_mass is not None, variable.name
            assert all(code.molar_mass for code in variable.codes)


# IUPAC standard atomic weights 2021, abridged.
ATOMIC_WEIGHTS = {
    "H": 1.008,
    "C": 12.011,
    "N": 14.007,
    "O": 15.999,
    "Na": 22.990,
    "Mg": 24.305,
    "P": 30.974,
    "Cl": 35.45,
    "K": 39.098,
    "Ca": 40.078,
    "Fe": 55.845,
    "Co": 58.933,
    "I": 126.90,
}


def table_rows(name):
    lines = files("consilium.domain").joinpath(name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize(
    "row", [row for row in table_rows("variables.csv") if row["formula"]], ids=lambda row: row["name"]
)
def test_molar_masses_are_those_of_the_formulas(row):
    atoms = re.findall(r"([A-Z][a-z]?)(\d*)", row["formula"])
    assert "".join(element + number for element, number in atoms) == row["formula"]
    mass = sum(ATOMIC_WEIGHTS[element] * int(number or 1) for element, number in atoms)
    assert float(row["molar_mass"]) == pytest.approx(mass, rel=2e-4)


def test_every_molar_mass_has_a_formula_or_is_a_proteins():
    without = {row["name"] for row in table_rows("variables.csv") if row["molar_mass"] and not row["formula"]}
    assert without == {"hemoglobin", "albumin", "nt_probnp", "bnp"}


def test_equivalents_are_charges():
    charges = {variable.name: variable.charge for variable in NUMERIC if variable.charge}
    assert {name for name, charge in charges.items() if charge == 2} == {"calcium", "calcium_ionized", "magnesium"}
    assert set(charges.values()) == {1, 2}


def test_every_code_names_its_source():
    text = files("consilium.domain").joinpath("loinc.csv").read_text(encoding="utf-8")
    named = set(re.findall(r"^#   (\w+) ", text, re.MULTILINE))
    rows = table_rows("loinc.csv")
    assert {row["source"] for row in rows} == named
    assert all(row["long_name"] and row["property"] for row in rows)


def test_what_an_emergency_department_and_a_ward_order_is_there():
    wanted = {
        *("hemoglobin", "hematocrit", "mcv", "platelets", "neutrophils", "lymphocytes", "inr", "aptt", "fibrinogen"),
        *("d_dimer", "alt", "ast", "alp", "ggt", "bilirubin", "bilirubin_direct", "lipase", "ammonia", "creatinine"),
        *("egfr", "urea", "sodium", "potassium", "chloride", "bicarbonate", "calcium", "magnesium", "phosphate"),
        *(
            "ph",
            "pco2",
            "po2",
            "base_excess",
            "lactate",
            "ph_venous",
            "pco2_venous",
            "carboxyhemoglobin",
            "tsh",
            "free_t4",
        ),
        *("troponin_t", "troponin_i", "nt_probnp", "creatine_kinase", "ck_mb", "crp", "procalcitonin", "interleukin_6"),
        *("ferritin", "iron", "transferrin", "vitamin_b12", "cholesterol", "ldl_cholesterol", "triglycerides", "hba1c"),
        *("urine_protein", "urine_nitrite", "urine_leukocytes", "abo_rh_group", "hcg", "ethanol", "heart_rate", "spo2"),
        *("respiratory_rate", "temperature", "systolic_bp", "mean_bp", "fio2", "oxygen_flow", "gcs", "gcs_eye", "pain"),
        *("body_weight", "body_height", "urine_output"),
    }
    assert wanted <= set(BUILT_IN)
    assert len(BUILT_IN) >= 120
    assert BUILT_IN["urine_protein"].categories == ("negative", "trace", "1+", "2+", "3+", "4+")
    assert BUILT_IN["abo_group"].ordered is False


def test_lookups():
    assert BUILT_IN.by_code("2160-0") is BUILT_IN["creatinine"] is BUILT_IN.named("creatinine")
    assert BUILT_IN.codes["2160-0"].property == "MCnc"
    assert BUILT_IN.codes["14682-9"].property == "SCnc"
    assert BUILT_IN.codes["3094-0"].molar_mass == pytest.approx(28.0134)
    assert BUILT_IN.codes["3091-6"].molar_mass == pytest.approx(60.056)
    assert BUILT_IN.by_code("10838-1") is None
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
