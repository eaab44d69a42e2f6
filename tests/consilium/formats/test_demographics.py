"""Age and sex, by any of their usual spellings, have one value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.formats.demographics import AGE_RULE, SEX_RULE, read_age, read_sex


@pytest.mark.parametrize(
    ("raw", "years"),
    [
        (67, 67.0),
        (67.5, 67.5),
        (0, 0.0),
        ("67", 67.0),
        ("67.5", 67.5),
        ("090Y", 90.0),
        ("003M", 0.25),
        ("000D", 0.0),
        ("012W", 84 / 365.25),
        ("2 weeks", 14 / 365.25),
        ("18 months", 1.5),
        ("5d", 5 / 365.25),
        ("18 mo", 1.5),
        ("1y 6m", 1.5),
        ("1 year, 6 months", 1.5),
        ("1 year and 6 months", 1.5),
        ("2w3d", 17 / 365.25),
        ("3 a", 3.0),
        ("67 years old", 67.0),
        ("67yo", 67.0),
        ("67 y/o", 67.0),
        ("67 Jahre", 67.0),
        ("67Y ", 67.0),
        ("1.5 years", 1.5),
        (None, None),
        ("", None),
        ("  ", None),
    ],
)
def test_age(raw, years):
    assert read_age(raw, "age") == (years, ())


@pytest.mark.parametrize(
    ("raw", "years"),
    [
        ("> 89", 90.0),
        (">89", 90.0),
        ("> 89 years", 90.0),
        ("90+", 90.0),
        ("90 +", 90.0),
        ("90+ years", 90.0),
        ("≥ 90", 90.0),
        (">=90", 90.0),
        ("90 and over", 90.0),
        ("90 years or older", 90.0),
        ("85+", 85.0),
        ("080Y+", 80.0),
        ("<1", 0.0),
        ("< 1 month", 0.0),
        ("< 1 year", 0.0),
    ],
)
def test_age_that_is_a_limit_is_read_at_the_limit(raw, years):
    assert read_age(raw, "age") == (years, (f"age: only a limit is given, read as {years:g} years",))


def test_age_with_a_decimal_comma_is_warned_of():
    warnings = ("age: the comma was read as a decimal point",)
    assert read_age("67,5", "age") == (67.5, warnings)
    assert read_age("1,5 years", "age") == (1.5, warnings)


@pytest.mark.parametrize(
    "raw",
    [
        "1_0",
        "６７",
        "٦٧",
        "> 18",
        "18+",
        "<5",
        "<= 1",
        "> 130",
        ">> 89",
        "> 89+",
        "9>0",
        "9+0",
        "-1",
        "131",
        "131Y",
        "Y",
        "6m 1y",
        "1y1y",
        "5 d 3",
        "67 x",
        "sixty",
        "67-70",
        "67;70",
        "1.2.3",
        "1e400",
        "nan",
    ],
)
def test_age_that_is_refused(raw):
    with pytest.raises(InputError) as refused:
        read_age(raw, "age")
    assert (refused.value.field, refused.value.rule) == ("age", AGE_RULE) or raw == "1e400"


@pytest.mark.parametrize("raw", [True, [67], float("nan"), float("inf"), 10**400, b"67"])
def test_age_that_is_no_number_is_refused(raw):
    with pytest.raises(InputError, match="age"):
        read_age(raw, "age")


@given(st.integers(0, 130))
def test_years_stay_however_they_are_written(years):
    ways = [years, float(years), f"{years}", f"{years:03}Y", f"{years} years", f"{years}.0", f"{12 * years} months"]
    assert {read_age(way, "age") for way in ways} == {(float(years), ())}


@given(st.integers(0, 200))
def test_weeks_stay_however_they_are_written(weeks):
    ways = [f"{weeks:03}W", f"{weeks} weeks", f"{weeks}wk", f"{7 * weeks}d", f"{weeks}w 0d", f"{7 * weeks} Days"]
    assert len({read_age(way, "age") for way in ways}) == 1


@given(st.text("0123456789ymwd +<>≥.,", max_size=6))
def test_age_is_refused_or_lies_within_its_bounds(text):
    try:
        years, _ = read_age(text, "age")
    except InputError:
        return
    assert years is None or 0 <= years <= 130


@pytest.mark.parametrize(
    ("raw", "sex"),
    [
        (raw, Sex.FEMALE)
        for raw in ("F", "f", "Female", "FEMALE", " female ", "F\x00", "\tF\n", "F\xa0", "w", "W", "weiblich", "Woman")
    ]
    + [(raw, Sex.MALE) for raw in ("M", "m", "male", "Male", "männlich", "maennlich", "man")]
    + [(raw, Sex.OTHER) for raw in ("O", "other", "Divers", "d", "X", "A", "UN")]
    + [(raw, Sex.UNKNOWN) for raw in ("U", "unknown", "UNK", "N", "", " ", "\n", None)],
)
def test_sex(raw, sex):
    assert read_sex(raw, "sex") is sex


@pytest.mark.parametrize("raw", ["1", "2", 1, "H", "femail", "FM", "f/m", True, ["F"]])
def test_sex_that_is_refused(raw):
    with pytest.raises(InputError) as refused:
        read_sex(raw, "sex")
    assert (refused.value.field, refused.value.rule) == ("sex", SEX_RULE)
