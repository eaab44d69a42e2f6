"""A number is the whole text, in whatever accepted way it is written, or it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.errors import InputError
from consilium.formats.decimals import AMBIGUOUS, RULE, parse_decimal, read_decimal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1024", -1024.0),
        ("+0.143", 0.143),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("2.5E-1", 0.25),
        (" 12 ", 12.0),
        ("007", 7.0),
        ("0.1000000000000000055511151231257827", 0.1),
    ],
)
def test_number_is_read(text, value):
    assert read_decimal(text, "value") == (value, ())


@pytest.mark.parametrize(
    ("text", "value"), [("1,9", 1.9), ("-1024,5", -1024.5), ("0,143", 0.143), ("1,000000", 1.0), ("1,9e2", 190.0)]
)
def test_decimal_comma_is_read_with_a_warning(text, value):
    assert read_decimal(text, "value") == (value, ("value: the comma was read as a decimal point",))


@pytest.mark.parametrize("text", ["1,000", "250,000", "-12,345"])
def test_comma_that_may_divide_thousands_is_refused(text):
    with pytest.raises(InputError) as refused:
        read_decimal(text, "value")
    assert (refused.value.field, refused.value.value, refused.value.rule) == ("value", text, AMBIGUOUS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1_000",
        "nan",
        "NaN",
        "inf",
        "-infinity",
        "1e999",
        "１２",
        "١٢",
        "१२",
        "1.2.3",
        "1,2,3",
        "1.000,5",
        "1,000.5",
        "1 2",
        "12 mg",
        "0x10",
        "1e",
        "e3",
        ".",
        ",",
        "1,",
        ",5",
        "--1",
        "+-1",
        "- 1",
        "1\\2",
        "½",
        "1٫5",
        "1/2",
        "<0.3",
    ],
)
def test_what_is_no_number_as_a_whole_is_refused(text):
    with pytest.raises(InputError) as refused:
        read_decimal(text, "value")
    assert (refused.value.field, refused.value.rule) == ("value", RULE)


@given(st.decimals(-(10**9), 10**9, places=6), st.sampled_from(["", "0", "00"]), st.sampled_from(["", " ", "  "]))
def test_value_stays_however_the_number_is_written(number, zeros, blanks):
    plain = f"{number:f}"
    sign, digits = ("-", plain[1:]) if plain.startswith("-") else ("+", plain)
    expected = float(number)
    ways = [plain, f"{blanks}{sign}{zeros}{digits}{zeros}{blanks}", f"{number:e}", plain.replace(".", ",")]
    assert {parse_decimal(way).value for way in ways} == {expected}
    assert parse_decimal(plain.replace(".", ",")).comma


@given(st.text(max_size=8) | st.text("0123456789.,-+eE_ \\", max_size=8))
def test_nothing_is_read_from_a_part_of_a_text(text):
    number = parse_decimal(text)
    if number is not None:
        written = text.strip()
        assert written.isascii()
        assert set(written) <= set("0123456789.,+-eE")
        assert number.value == float(written.replace(",", "."))
