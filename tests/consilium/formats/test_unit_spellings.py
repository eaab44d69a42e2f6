import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, Kind
from consilium.formats.unit_spellings import readings
from consilium.formats.units import conversion

SPELLED = {
    # what is measured, its code, by what a value is multiplied: the spellings
    ("platelets", "777-3", 1): (
        *(
            "K/uL",
            "k/ul",
            "K/mcL",
            "x10E3/uL",
            "10E9/L",
            "10E+9/L",
            "G/L",
            "g/l",
            "10^3/µL",
            "×10⁹/L",
            "x10⁹/L",
            "10x9/L",
        ),
        *("X10(9)/L", "x 10^9/L", "10 ^ 9 / L", "thou/mm3", "Thousand/uL", "10*3/mm3", "10**3/uL", "10.e3/mm3", "E9/L"),
        *(
            "/nL",
            "Gpt/L",
            "Tsd./µl",
            "1000/uL",
            "x1000/ul",
            "10^3 cells/uL",
            "K/cumm",
            "K/mm^3",
            "x10^3 per uL",
            "10^3/mm³",
        ),
    ),
    ("platelets", "777-3", 1e-3): (
        *("cells/cumm", "/cmm", "/uL", "/mm3", "/µL", "#/uL", "/cu.mm", "per cubic mm", "{cells}/uL", "Mpt/L", "/mcL"),
    ),
    ("platelets", "777-3", 100): ("lakh/cumm", "Lakhs/mm3", "lac/cmm"),
    ("rbc", "789-8", 1): (
        *("M/uL", "m/ul", "x10E6/uL", "T/L", "t/l", "Tpt/L", "million/uL", "mill/mm3", "10^12/L", "×10¹²/L", "10E12/L"),
        *("Mio./µl", "/pL", "M/mcL", "10^6/mm3", "million cells/uL"),
    ),
    ("crp", "1988-5", 1): ("mg/L", "MG/L", "Mg/L", "mg/l", "mcg/mL", "ug/mL", "µg/ml", "μg/mL", "mg / L", "mgs/L"),
    ("crp", "1988-5", 10): ("mg/dL", "MG/DL", "mg%", "mg/100 mL", "Mg/dL", "mg/dL.", "(mg/dL)"),
    ("hemoglobin", "718-7", 1): ("g/dL", "gm/dL", "GM/DL", "gm%", "g%", "gms/dL", "grams/dL", "G/DL", "g/100mL"),
    ("hemoglobin", "718-7", 0.1): ("g/L", "G/L", "g/l"),
    ("albumin", "1751-7", 1): ("g/L", "G/L", "g/l", "mg/mL"),
    ("sodium", "2951-2", 1): ("mEq/L", "mEq/l", "meq/L", "MEQ/L", "mmol/l", "MMOL/L", "mval/L", "Mmol/L", "mmols/L"),
    ("calcium", "2000-8", 0.5): ("mEq/L", "MEQ/L", "mval/l"),
    ("magnesium", "2601-3", 0.5): ("mEq/L", "meq/l"),
    ("d_dimer", "48065-7", 1000): (
        *("mg/L FEU", "ug/mL FEU", "mg/L{FEU}", "ug{FEU}/mL", "mcg/mL FEU", "µg FEU/mL", "MG/L FEU", "mg/L (FEU)"),
        *("mg/L", "FEU mg/L"),
    ),
    ("d_dimer", "48066-5", 2): ("ng/ml DDU", "ng/mL DDU", "ng{DDU}/mL", "ng/mL"),
    ("systolic_bp", "8480-6", 1): ("mm[Hg]", "mmHg", "mmhg", "mm Hg", "MMHG", "torr"),
    ("po2", "2703-7", 7.500617): ("kPa", "KPA", "kpa"),
    ("peep", "20077-4", 1): ("cm[H2O]", "cmH2O", "cm H2O", "CMH2O"),
    ("heart_rate", "8867-4", 1): (
        *(
            "/min",
            "bpm",
            "BPM",
            "beats/min",
            "beats per minute",
            "{beats}/min",
            "1/min",
            "min-1",
            "min⁻¹",
            "per minute",
        ),
    ),
    ("respiratory_rate", "9279-1", 1): ("breaths/min", "Breaths per Minute", "br/min", "resp/min", "rpm"),
    ("spo2", "59408-5", 1): ("%", "% ", "percent", "PCT", "%{O2}", "% O2", "％"),
    ("spo2", "59408-5", 100): ("1", "{ratio}", "fraction"),
    ("tsh", "3016-3", 1): ("mIU/L", "uIU/mL", "µIU/mL", "mU/L", "MIU/L", "m[IU]/L", "u[IU]/mL", "mUI/L", "UIU/ML"),
    ("alt", "1742-6", 1): ("U/L", "IU/L", "u/l", "UI/L", "E/L", "[IU]/L", "units/L"),
    ("ldh", "2532-0", 60): ("ukat/L", "µkat/l", "UKAT/L"),
    ("egfr", "62238-1", 1): (
        *("mL/min/{1.73_m2}", "mL/min/1.73m2", "ml/min/1.73 m²", "ML/MIN/1.73 M2", "mL/min", "ml/min/1,73m²"),
        "mL/min/1.73 sq m",
    ),
    ("osmolality", "2692-2", 1): ("mosm/kg", "mOsm/kg", "mosmol/kg", "mOsm/kg H2O", "mOsmol/KgH2O"),
    ("wbc", "6690-2", 1): ("10 9/L", "x109/L", "× 10 9/L", "x10 3/uL", "Th/uL", "bil/L", "Tsd/µl", "/nl", "10⁹/l"),
    ("ast", "1920-8", 1): ("U/l 37°C", "U/L (37 C)", "IntUnit/L", "U/L (calc)", "mU/mL"),
    ("potassium", "2823-3", 1): ("mM", "mval/l", "mEq/L"),
    ("prothrombin_time", "5902-2", 1): ("Sek", "Sek.", "Sekunden", "seg", "secs."),
    ("hba1c", "4548-4", 1): ("%", "% NGSP", "% of total Hgb", "%{HbA1c}"),
    ("antithrombin", "27811-9", 1): ("%", "% activity", "% of normal", "% der Norm"),
    ("hematocrit", "4544-3", 1): ("%", "Vol.-%", "vol%", "PCV %", "mL/dL"),
    ("urine_albumin_creatinine", "14959-1", 8.8402): ("mg/mmol", "g/mol", "mg/mmol Krea", "mg/mmol creatinine"),
    ("urine_volume_24h", "3167-4", 1): ("mL", "ml/24h", "mL/24 h", "mL/d"),
    ("urine_volume_24h", "3167-4", 1000): ("L", "L/24h", "l/d"),
    ("esr", "30341-2", 1): ("mm", "mm/1st hour", "mm/Std"),
    ("inr", "34714-6", 1): ("N/A", "-", "(calc)", "unitless", "no units", "None", "Ratio"),
    ("urine_specific_gravity", "5811-5", 1): ("kg/L", "g/mL", "g/cm3", "N/A"),
    ("pain", "72514-3", 1): ("/10", "0-10", "Punkte", "{score}"),
    ("po2_blood", "11556-8", 1): ("mm/Hg", "mmHg"),
    ("ph_blood", "11558-4", 1): ("units", "pH units"),
    ("body_weight", "29463-7", 1): ("kg", "Kg.", "Kilogramm"),
    ("urine_creatinine", "14683-7", 1e-3): ("mikromol/l", "µmol/l"),
    ("esr", "4537-7", 1): ("mm/h", "mm/hr", "MM/HR", "mm/1h", "mm in 1 hr", "mm per hour"),
    ("inr", "6301-6", 1): ("", "{INR}", "INR", "ratio", "1", "[ratio]"),
    ("ph", "2744-1", 1): ("[pH]", "pH", "", "pH units"),
    ("aptt", "14979-9", 1): ("s", "sec", "secs", "seconds", "SEC"),
    ("mcv", "787-2", 1): ("fL", "fl", "FL", "um3", "µm³"),
    ("mch", "785-6", 1): ("pg", "PG", "Pg", "pg/cell"),
    ("hematocrit", "4544-3", 100): ("L/L", "l/l", "1"),
    ("body_weight", "29463-7", 0.45359237): ("lb", "lbs", "LBS", "[lb_av]", "pounds"),
    ("body_height", "8302-2", 2.54): ("in", "[in_i]", "inches"),
    ("body_height", "8302-2", 100): ("m", "M", "meters"),
    ("bmi", "39156-5", 1): ("kg/m2", "kg/m^2", "KG/M2", "kg/m²", "kg/qm", "kg/(m^2)"),
    ("oxygen_flow", "3151-8", 1): ("L/min", "l/min", "LPM"),
    ("urine_leukocytes", "5821-4", 1): ("/[HPF]", "/HPF", "per hpf", "cells/hpf", "{#}/[HPF]"),
    ("ferritin", "2276-4", 1): ("ng/mL", "ug/L", "mcg/L", "NG/ML", "micrograms/litre"),
    ("urine_protein_creatinine", "2890-2", 1): ("mg/g", "MG/G", "mg/g creat", "mg/gCr"),
    ("urine_protein_creatinine", "2890-2", 1000): ("mg/mg", "g/g"),
    ("nucleated_red_cells", "58413-6", 1): (
        "/100 WBC",
        "/100{WBCs}",
        "per 100 WBC",
        "%",
        "/100 Leuko",
        "/100 Leukozyten",
    ),
    ("hcg", "19080-1", 1): ("mIU/mL", "IU/L", "MIU/ML"),
    ("hcg", "19080-1", 1000): ("IU/ml", "[IU]/mL"),
    ("gcs", "9269-2", 1): ("{score}", "", "1", "points"),
    ("urine_specific_gravity", "2965-2", 1): ("", "1"),
}


def scale(name, code, unit):
    return conversion(BUILT_IN[name], BUILT_IN.codes[code], unit)


@pytest.mark.parametrize(
    ("name", "code", "factor", "unit"), [(*key, u) for key, units in SPELLED.items() for u in units]
)
def test_units_as_laboratories_spell_them(name, code, factor, unit):
    converted = scale(name, code, unit)
    assert converted.scale == pytest.approx(factor, rel=1e-6)
    assert converted.offset == 0


@pytest.mark.parametrize(("unit", "factor"), [("ΜG/ML", 1), ("MG/ML", 1000), ("ΜG/DL", 0.01), ("MG/DL", 10)])
def test_a_micro_sign_in_capitals_is_no_milli(unit, factor):
    assert scale("crp", "1988-5", unit).scale == pytest.approx(factor)


@pytest.mark.parametrize("unit", ["Cel", "C", "°C", "degC", "deg C", "DEG C", "celsius", "℃", "ºC", "degrees C", "c"])
def test_celsius(unit):
    assert scale("temperature", "8310-5", unit)(37.2) == pytest.approx(37.2, abs=1e-9)


@pytest.mark.parametrize("unit", ["F", "°F", "[degF]", "degF", "FAHRENHEIT", "deg F"])
def test_fahrenheit(unit):
    assert scale("temperature", "8310-5", unit)(98.6) == pytest.approx(37, abs=1e-9)


def test_hba1c_of_the_ifcc_is_no_tenth_of_percent():
    """48 mmol/mol is 6.5 %, the limit of diabetes: IFCC-NGSP master equation."""
    assert scale("hba1c", "4548-4", "mmol/mol")(48) == pytest.approx(6.5, abs=0.05)
    assert scale("hba1c", "59261-8", "mmol/mol")(53) == pytest.approx(7.0, abs=0.05)
    assert scale("hba1c", "4548-4", "%")(6.5) == 6.5


@pytest.mark.parametrize(
    ("code", "unit"),
    [
        ("777-3", "103/uL"),  # 10³ whose exponent was lost
        ("777-3", "109/L"),
        ("777-3", "mil/mm3"),  # a thousand in Spanish, a million elsewhere
        ("777-3", "K"),
        ("777-3", "pg"),
        ("1988-5", "mmol/L"),
        ("1988-5", "mg"),
        ("1988-5", "mEq/L"),
        ("1751-7", "10*9/L"),
        ("718-7", "%"),
        ("3094-0", "mmol/L"),  # the code says mass
        ("14879-1", "mEq/L"),  # phosphate has no one charge
        ("48065-7", "ng/mL DDU"),
        ("48066-5", "ng/mL FEU"),
        ("2703-7", "%"),
        ("8480-6", "U/L"),
        ("1988-5", "10*99/L"),
        ("1988-5", "see report"),
        ("1988-5", "N/A"),
        ("6301-6", "%"),  # a prothrombin time after Quick
        ("9269-2", "%"),
        ("713-8", ""),  # 0.8 may be a share or percent
        ("713-8", "N/A"),
        ("4544-3", "-"),
    ],
)
def test_what_is_of_another_dimension_or_unclear_is_not_understood(code, unit):
    with pytest.raises(InputError) as refused:
        conversion(BUILT_IN.by_code(code), BUILT_IN.codes[code], unit)
    assert refused.value.field == "unit"
    assert refused.value.value == unit


def test_no_prefix_above_kilo_is_read():
    assert readings("Mg/dL") == ("mg/dL",)
    assert readings("MMOL/L") == readings("Mmol/L") == ("mmol/L",)
    assert not {"Gg/L", "Tg/L", "Pg/mL", "Mg/dL"} & {
        unit for text in ("GG/L", "TG/L", "PG/ML") for unit in readings(text)
    }


SENT = [
    (name, code, unit)
    for (name, code, _), units in SPELLED.items()
    for unit in units
    if not re.search("[µμ°º℃⁰¹²³⁴-⁹％]", unit)
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    sent=st.sampled_from(SENT),
    upper=st.lists(st.booleans(), min_size=40, max_size=40),
    before=st.sampled_from(["", " ", "\u00a0", "  "]),
    around=st.sampled_from(["", " "]),
    value=st.floats(0.01, 1e4),
)
@example(sent=("crp", "1988-5", "mg/dL"), upper=[True] * 40, before=" ", around=" ", value=1.2)
def test_case_and_blanks_change_no_value(sent, upper, before, around, value):
    name, code, unit = sent
    rewritten = "".join(c.upper() if up else c.lower() for c, up in zip(unit, upper, strict=False))
    rewritten = before + re.sub(r"(?<=\w)/(?=\w)", f"{around}/{around}", rewritten) + before
    assert scale(name, code, rewritten)(value) == pytest.approx(scale(name, code, unit)(value), rel=1e-12)


NUMERIC = [code for code in BUILT_IN.codes.values() if BUILT_IN[code.variable].kind is Kind.NUMERIC]


@pytest.mark.parametrize("code", NUMERIC, ids=[code.code for code in NUMERIC])
def test_every_code_takes_its_own_unit_in_any_case(code):
    variable = BUILT_IN[code.variable]
    own = conversion(variable, code, code.unit)
    assert own.scale > 0
    for unit in (code.unit.upper(), code.unit.lower()):
        other = conversion(variable, code, unit)
        assert math.isclose(other.scale, own.scale, rel_tol=1e-12), unit
        assert math.isclose(other.offset, own.offset, abs_tol=1e-12), unit
