import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, Kind, Variable
from consilium.formats.quantities import Comparator, Quantity, read_category, read_quantity

PROTEIN, NITRITE = BUILT_IN["urine_protein"], BUILT_IN["urine_nitrite"]
INTUBATED = Variable("intubated", "Intubated", Kind.YES_NO, categories=("no", "yes"))
GRADE = Variable("grade", "Grade", Kind.CATEGORICAL, categories=("1", "2", "Very Severe"))


@pytest.mark.parametrize(
    ("given", "value", "comparator"),
    [
        ("<0.3", 0.3, "<"),
        ("< 0.3", 0.3, "<"),
        (" <  0.3 ", 0.3, "<"),
        ("<.5", 0.5, "<"),
        ("＜0.3", 0.3, "<"),
        ("less than 5", 5, "<"),
        ("Below 5", 5, "<"),
        ("<=5", 5, "<="),
        ("=<5", 5, "<="),
        ("≤ 5", 5, "<="),
        ("up to 5", 5, "<="),
        ("≥ 90", 90, ">="),
        (">=90", 90, ">="),
        ("≧90", 90, ">="),
        (">1000", 1000, ">"),
        ("> 1000", 1000, ">"),
        (">1e3", 1000, ">"),
        ("greater than 1000", 1000, ">"),
        ("<-2", -2, "<"),
        ("12.5", 12.5, None),
        ("−1.2", -1.2, None),
        (12, 12, None),
    ],
)
def test_limits_are_kept_with_their_comparator(given, value, comparator):
    assert read_quantity(given, None, "o") == Quantity(value, None if comparator is None else Comparator(comparator))


@pytest.mark.parametrize("comparator", ["<", "<=", ">=", ">", " < "])
def test_a_comparator_of_its_own_is_taken(comparator):
    assert read_quantity(0.3, comparator, "o") == Quantity(0.3, Comparator(comparator.strip()))
    assert read_quantity("0.3", comparator, "o") == Quantity(0.3, Comparator(comparator.strip()))


def test_a_decimal_comma_is_warned_of():
    quantity = read_quantity("< 0,3", None, "observations[2]")
    assert (quantity.value, quantity.comparator) == (0.3, Comparator.BELOW)
    assert quantity.warnings == ("observations[2].value: the comma was read as a decimal point",)


def test_comparators_that_differ_are_refused():
    with pytest.raises(InputError, match="must be <, as the value says") as refused:
        read_quantity("<0.3", ">", "o")
    assert refused.value.field == "o.comparator"
    assert read_quantity("<0.3", "<", "o").comparator is Comparator.BELOW
    with pytest.raises(InputError, match="must be one of <, <=, >=, >"):
        read_quantity(0.3, "ad", "o")


@pytest.mark.parametrize(
    "given",
    ["<", "<<3", "<3>", "3<", "<three", "1-2", "<1_000", "250,000", "< 250,000", "5 mg", "3.1.2", "hemolyzed", ""],
)
def test_what_is_no_number_and_no_limit_is_refused_as_a_whole(given):
    with pytest.raises(InputError) as refused:
        read_quantity(given, None, "o")
    assert (refused.value.field, refused.value.value) == ("o.value", given)


WRITTEN = {
    Comparator.BELOW: ("<", "< ", "＜", "less than ", "LESS THAN "),
    Comparator.AT_MOST: ("<=", "<= ", "≤", "≦ ", "=<", "at most "),
    Comparator.AT_LEAST: (">=", "≥ ", "≧", "=>", "At Least "),
    Comparator.ABOVE: (">", "> ", "＞", "more than ", "greater than "),
    None: ("", " ", "+"),
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), number=st.decimals(0, 100_000, places=3), after=st.sampled_from(["", " ", "\t"]))
def test_a_limit_written_otherwise_is_the_same(data, number, after):
    comparator = data.draw(st.sampled_from(list(WRITTEN)))
    plain = f"{number}"
    forms = [plain, f"{number:f}", f"{float(number):.3e}" if len(number.as_tuple().digits) <= 4 else plain]
    for form in forms:
        written = data.draw(st.sampled_from(WRITTEN[comparator])) + form + after
        assert read_quantity(written, None, "o") == Quantity(float(number), comparator)
    assert read_quantity(float(number), comparator and comparator.value, "o") == Quantity(float(number), comparator)


@pytest.mark.parametrize(
    ("given", "category"),
    [
        *dict.fromkeys(
            ("negative", "Negative", "NEG", "neg.", "Nil", "none", "not detected", "-", "−", "absent"), "negative"
        ).items(),
        *dict.fromkeys(("Normal", "0", 0), "negative").items(),
        *dict.fromkeys(("trace", "Trace", "TR", "traces", "+/-", "±", "(+)", "trace-intact"), "trace").items(),
        *dict.fromkeys(("+", "1+", "+1", "(1+)", "1 +", "Small", "＋"), "1+").items(),
        *dict.fromkeys(("++", "2+", "+2", "moderate"), "2+").items(),
        *dict.fromkeys(("+++", "3+", "large", "3 plus"), "3+").items(),
        *dict.fromkeys(("++++", "4+"), "4+").items(),
    ],
)
def test_grades_of_a_test_strip(given, category):
    assert read_category(PROTEIN, given, "o") == category


@pytest.mark.parametrize("given", ["positive", "5+", "+++++", "100 mg/dL", "1", 1, "see note", "", None, [1]])
def test_what_is_no_grade_is_refused(given):
    with pytest.raises(InputError, match="must be one of negative, trace, 1"):
        read_category(PROTEIN, given, "o")


@pytest.mark.parametrize(
    ("given", "category"),
    [("neg", "negative"), ("Positive", "positive"), ("POS", "positive"), ("+", "positive"), ("1+", "positive")],
)
def test_two_categories(given, category):
    assert read_category(NITRITE, given, "o") == category


def test_a_trace_of_nitrite_is_neither():
    with pytest.raises(InputError):
        read_category(NITRITE, "trace", "o")


@pytest.mark.parametrize(
    ("name", "given", "category"),
    [
        ("abo_group", "AB", "AB"),
        ("abo_group", "o", "O"),
        ("abo_group", "0", "O"),
        ("abo_group", "Group B", "B"),
        ("abo_group", "blood group A", "A"),
        ("rh_group", "Positive", "positive"),
        ("rh_group", "+", "positive"),
        ("rh_group", "Rh-", "negative"),
        ("rh_group", "RhD positive", "positive"),
        ("rh_group", "D neg", "negative"),
        ("abo_rh_group", "A Pos", "A positive"),
        ("abo_rh_group", "O-", "O negative"),
        ("abo_rh_group", "0 Rh(D) neg", "O negative"),
        ("abo_rh_group", "AB+", "AB positive"),
        ("abo_rh_group", "B Rh positive", "B positive"),
        ("rh_group", "positiv", "positive"),
        ("abo_rh_group", "A Rh pos.", "A positive"),
        ("sars_cov_2", "Detected", "positive"),
        ("sars_cov_2", "nachgewiesen", "positive"),
        ("sars_cov_2", "Nicht nachweisbar", "negative"),
        ("sars_cov_2", "négatif", "negative"),
        ("influenza_a", "no detectado", "negative"),
        ("urine_glucose", "Spuren", "trace"),
        ("sars_cov_2", "NOT DETECTED", "negative"),
    ],
)
def test_blood_groups_and_swabs(name, given, category):
    assert read_category(BUILT_IN[name], given, "o") == category


@pytest.mark.parametrize(
    ("name", "given"), [("abo_group", "A+"), ("abo_group", "C"), ("abo_rh_group", "A"), ("rh_group", "A")]
)
def test_half_a_blood_group_is_none(name, given):
    with pytest.raises(InputError):
        read_category(BUILT_IN[name], given, "o")


@pytest.mark.parametrize(
    ("given", "category"),
    [
        (True, "yes"),
        (False, "no"),
        (1, "yes"),
        (0, "no"),
        ("Y", "yes"),
        ("no", "no"),
        ("TRUE", "yes"),
        ("negative", "no"),
    ],
)
def test_yes_and_no(given, category):
    assert read_category(INTUBATED, given, "o") == category


@pytest.mark.parametrize(("given", "category"), [(1, "1"), (2.0, "2"), ("very  severe", "Very Severe"), (" 2 ", "2")])
def test_a_cohorts_own_categories(given, category):
    assert read_category(GRADE, given, "o") == category


YES_NO = Variable("ventilated", "Ventilated", Kind.YES_NO, categories=("no", "yes"))
TRIAGE = Variable("triage", "Triage", Kind.CATEGORICAL, categories=("1", "2", "3.", "Größe  L"), ordered=True)


@pytest.mark.parametrize("given", [True, 1, 1.0, "1", "1.0", "1,0", "TRUE", "Yes", "y", "ja", "J", "oui", "Sí", "SI"])
def test_yes(given):
    assert read_category(YES_NO, given, "o") == "yes"


@pytest.mark.parametrize("given", [False, 0, 0.0, "0", "0.0", "FALSE", "No", "n", "nein", "Non", "absent", "−"])
def test_no(given):
    assert read_category(YES_NO, given, "o") == "no"


@pytest.mark.parametrize("given", [2, "2.0", "10", "1.5", float("nan"), "nan", "", "unknown", "nd", "ND", None])
def test_neither_yes_nor_no(given):
    with pytest.raises(InputError, match="must be one of no, yes"):
        read_category(YES_NO, given, "o")


@pytest.mark.parametrize(
    ("given", "category"),
    [
        ("2.0", "2"),
        (2.0, "2"),
        ("1", "1"),
        ("3", "3."),
        ("3.", "3."),
        ("GRÖSSE l", "Größe  L"),
        (" größe\tl ", "Größe  L"),
    ],
)
def test_a_category_is_found_whatever_its_case_blanks_or_decimals(given, category):
    assert read_category(TRIAGE, given, "o") == category


def test_what_may_be_not_done_is_not_negative():
    """ND stands for not detected as well as for not done."""
    with pytest.raises(InputError):
        read_category(BUILT_IN["sars_cov_2"], "ND", "o")


@pytest.mark.parametrize("given", ["normal", "0"])
def test_a_blood_group_is_not_normal(given):
    with pytest.raises(InputError):
        read_category(BUILT_IN["rh_group"], given, "o")


def test_of_many_categories_the_first_are_named():
    ward = Variable("ward", "Ward", Kind.CATEGORICAL, categories=tuple(f"w{number}" for number in range(500)))
    with pytest.raises(InputError, match=r"must be one of w0, w1, .*, w19 and 480 more$"):
        read_category(ward, "x", "o")
