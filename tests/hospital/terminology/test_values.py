from __future__ import annotations

import pytest

from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, Kind, Variable
from consilium.domain.variables import Code as VariableCode
from hospital.store.received import Code
from hospital.terminology.site_tables import CodeTable, Issuers, Terminology, document_kind
from hospital.terminology.values import assess

CRP = [Code("1988-5", "LN")]
SITE = Terminology(
    local_codes=CodeTable([("L", "CRP", "1988-5"), ("L", "CRP-OLD", "99999-9"), (None, "PO2A", "2703-7")]),
    variables=BUILT_IN.extended_with(
        [
            Variable(
                "strip",
                "Test strip",
                Kind.CATEGORICAL,
                categories=("negative", "trace", "1+"),
                ordered=True,
                codes=(VariableCode("STRIP", "strip", system="local"),),
            )
        ]
    ),
)


@pytest.mark.parametrize(
    ("raw", "unit", "value"),
    [
        ("112", "mg/L", 112.0),
        ("11,2", "mg/dl", 11.2),
        (" 5 ", "mg/L", 5.0),
        (3.5, "MG/L", 3.5),
        ("1e2", "mg/L", 100.0),
    ],
)
def test_numbers_stay_as_sent_where_their_unit_converts(raw: str | float, unit: str, value: float) -> None:
    found = assess(CRP, raw, unit, SITE)
    assert (found.code, found.value, found.unit, found.text, found.problem) == ("1988-5", value, unit, None, None)


def test_torr_is_a_unit_of_pressure() -> None:
    found = assess([Code("PO2A", "99LAB")], "80", "Torr", SITE)
    assert (found.code, found.value, found.problem) == ("2703-7", 80.0, None)


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([Code("CRP", "L"), Code("1988-5", "LN")], "1988-5"),
        ([Code("X", "L"), Code("1988-5", "http://loinc.org")], "1988-5"),
        ([Code("1988-5", "LN"), Code("PO2A", "L")], "2703-7"),
        ([Code("1988-5")], "1988-5"),
        ([Code("1988-5", "L")], None),
        ([Code("5804-0", "LN")], "5804-0"),
        ([Code("crp", "l")], None),
        ([Code("CRP", "l")], "1988-5"),
        ([], None),
    ],
)
def test_a_site_table_goes_before_loinc_and_loinc_before_nothing(codes: list[Code], code: str | None) -> None:
    assert assess(codes, "5", "mg/L", SITE).code == code


@pytest.mark.parametrize(
    ("codes", "raw", "unit", "text", "problem"),
    [
        (CRP, ">100", "mg/L", ">100", "a limit is not a value"),
        (CRP, "≤ 5", "mg/L", "≤ 5", "a limit is not a value"),
        (CRP, "haemolysed", "mg/L", "haemolysed", "value must be one finite number"),
        (CRP, "250,000", "mg/L", "250,000", "value must be written with a decimal point"),
        (CRP, "5", "furlong", "5", "unit is not understood"),
        (CRP, "5", "mmol/L", "5", "unit must be a unit that converts to mg/L"),
        (CRP, None, "mg/L", None, "no value"),
        (CRP, "", "mg/L", None, "no value"),
        (CRP, "x" * 65, "mg/L", None, "value must be one finite number"),
        ([Code("Q", "L")], "5", "", "5", "no code of it is LOINC or in the site's table"),
        ([Code("5804-0", "LN")], "5", "", "5", "5804-0 is not in the table of variables"),
        ([Code("CRP-OLD", "L")], "5", "", "5", "99999-9 is not in the table of variables"),
    ],
)
def test_what_cannot_be_used_says_why(
    codes: list[Code], raw: str | None, unit: str, text: str | None, problem: str
) -> None:
    found = assess(codes, raw, unit, SITE)
    assert (found.value, found.text) == (None, text)
    assert found.problem is not None
    assert found.problem.startswith(problem)


def test_a_comparator_beside_the_number_makes_a_limit() -> None:
    found = assess(CRP, "100", "mg/L", SITE, ">")
    assert (found.value, found.text, found.problem) == (None, ">100", "a limit is not a value")


@pytest.mark.parametrize(("raw", "category"), [("NEG", "negative"), ("(+)", "trace"), ("+", "1+")])
def test_categories_are_named_as_the_table_does(raw: str, category: str) -> None:
    found = assess([Code("STRIP")], raw, "", SITE)
    assert (found.value, found.text, found.problem) == (None, category, None)


def test_a_problem_does_not_repeat_what_was_sent() -> None:
    assert "Muster" not in str(assess(CRP, "see Mrs Muster", "Muster/L", SITE).problem)


def test_a_code_stands_once_in_a_table() -> None:
    with pytest.raises(InputError, match="must stand once for each system"):
        CodeTable([("L", "CRP", "1988-5"), ("l", "CRP", "2703-7")])


def test_what_gives_the_answer_away_is_no_kind_of_document() -> None:
    assert document_kind("history") == "history"
    with pytest.raises(InputError, match="must be one of history, indication"):
        document_kind("impression")


def test_issuers_are_named_as_configured_else_as_sent() -> None:
    issuers = Issuers({"KIS": "hospital", "1.2.3.4": "hospital"})
    assert [issuers.name("", "1.2.3.4"), issuers.name("OTHER", "9.9"), issuers.name("", "9.9"), issuers.name("")] == [
        "hospital",
        "OTHER",
        "9.9",
        None,
    ]
