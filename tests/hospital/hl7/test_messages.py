from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.errors import InputError, TooLarge
from consilium.formats.time_zone import TimeZone
from hospital.hl7.messages import MOST_PARTS, Separators, escaped, parse, read_time, unescaped
from tests.hospital.hl7.sent_messages import PID, message

BERLIN = TimeZone("Europe/Berlin")
USUAL = Separators("|", "^", "~", "\\", "&")


def test_fields_repetitions_components_and_subcomponents_are_counted_from_one() -> None:
    person = parse(message("PID|1||4711^^^KIS&1.2.3&ISO^MR~99^^^B||Muster^Erika")).first("PID")
    assert person is not None
    assert [person.text(3), person.text(3, 4, 2), person.text(3, 5)] == ["4711", "1.2.3", "MR"]
    assert [person.text(3, repetition=2), person.text(3, 4, repetition=2)] == ["99", "B"]
    assert person.repetitions(3) == 2
    assert [person.text(5, 2), person.text(5, 3), person.text(5, 2, 2), person.text(40)] == ["Erika", "", "", ""]
    assert [person.repetitions(2), person.repetitions(40)] == [0, 0]


def test_the_header_counts_its_separators() -> None:
    header = parse(message(PID)).header
    assert [header.text(3), header.text(9), header.text(9, 2), header.text(10), header.text(12)] == [
        "LIS",
        "ORU",
        "R01",
        "42",
        "2.5.1",
    ]


def test_declared_separators_are_used() -> None:
    sent = parse(b"MSH#*+!@#LIS#H#C#R#20200301##ORU*R01#42#P#2.5\rPID###47!S!11***KIS@1.2@ISO+99")
    person = sent.first("PID")
    assert person is not None
    assert [person.text(3), person.text(3, 4), person.text(3, 4, 2), person.text(3, repetition=2)] == [
        "47*11",
        "KIS",
        "1.2",
        "99",
    ]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_line_end_ends_a_segment(end: str) -> None:
    sent = parse(message(PID, "OBX|1|NM|A||1").replace(b"\r", end.encode()))
    assert [segment.name for segment in sent.segments] == ["MSH", "PID", "OBX"]


def test_a_line_that_is_no_segment_belongs_to_the_text_before() -> None:
    result = parse(message("OBX|1|TX|A||first line\nsecond line|||")).first("OBX")
    assert result is not None
    assert result.free_text(5) == "first line\nsecond line"


@pytest.mark.parametrize(
    ("declared", "encoding", "warnings"),
    [
        ("", "utf-8", 0),
        ("UNICODE UTF-8", "utf-8", 0),
        ("8859/1", "latin-1", 0),
        ("8859/15", "iso8859-15", 0),
        ("WINDOWS-1252", "cp1252", 0),
        ("8859/1~UNICODE UTF-8", "latin-1", 0),
        ("", "cp1252", 1),
        ("ASCII", "cp1252", 1),
        ("UNICODE UTF-8", "cp1252", 1),
        ("zip", "cp1252", 1),
    ],
)
def test_umlauts_are_read_in_the_declared_encoding_or_in_the_one_that_fits(
    declared: str, encoding: str, warnings: int
) -> None:
    sent = message("PID|1||4711||Müßig^Zoë", charset=declared).decode().encode(encoding)
    read = parse(sent)
    assert read.first("PID").text(5) == "Müßig"  # type: ignore[union-attr]
    assert len(read.warnings) == warnings


def test_an_undeclared_encoding_of_the_sender_is_configured() -> None:
    read = parse(message("PID|1||4711||Łódź").decode().encode("cp1250"), "cp1250")
    assert read.first("PID").text(5) == "Łódź"  # type: ignore[union-attr]
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"one\.br\two\.sp2\three", "one\ntwo\n\nthree"),
        (r"\H\bold\N\ text\.in+4\x", "bold text    x"),
        ("\\X41C3A4\\", "Aä"),
        (r"\.sp9999\.", "\n" * 10 + "."),
        (r"\Cab12\\M1b2c3d\x", "x"),
        (r"C:\temp\new", r"C:\temp\new"),
        ("one \\ alone", "one \\ alone"),
    ],
)
def test_escape_sequences(sent: str, meant: str) -> None:
    assert unescaped(sent, USUAL, "utf-8") == meant


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_what_is_escaped_is_read_again(text: str) -> None:
    assert unescaped(escaped(text), USUAL, "utf-8") == text


def test_line_ends_and_control_characters_never_leave_within_a_field() -> None:
    assert escaped("a\r\nb\x0bc\x1cd\re\x00f") == "a\\.br\\b\\.br\\c\\.br\\d\\.br\\ef"


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (b"", "must begin with MSH"),
        (b"PID|1", "must begin with MSH"),
        (b"MSH", "must begin with MSH"),
        (b"MSH|^~\\&", "must begin with MSH"),
        (b"MSHa^~\\&a", "must begin with MSH"),
        (b"MSH|^^\\&|x", "differ from each other"),
        (b"MSH&^~\\&x", "differ from each other"),
        (message(PID) + message(PID), "must be one segment"),
    ],
)
def test_what_is_no_message_is_refused(sent: bytes, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        parse(sent)


def test_a_message_of_too_many_parts_is_refused_before_it_is_split() -> None:
    with pytest.raises(TooLarge, match="parts"):
        parse(message("OBX" + "|" * (MOST_PARTS + 1)))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        for segment in parse(b"MSH|^~\\&|A|B|C|D|20200301||ORU^R01|1|P|2.5\r" + body).segments:
            segment.text(3, 2)
            segment.free_text(5)
    except InputError:
        pass


def test_nothing_of_a_message_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        read = parse(message(r"PID|1||4711||\XZZ\Secret\Q9\\"))
        assert "Secret" in read.first("PID").text(5)  # type: ignore[union-attr]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("20200301100000", datetime(2020, 3, 1, 10, tzinfo=timezone(timedelta(hours=1)))),
        ("202007011000", datetime(2020, 7, 1, 10, tzinfo=timezone(timedelta(hours=2)))),
        ("2020030110+0000", datetime(2020, 3, 1, 10, tzinfo=UTC)),
        ("20200301100000.25-0500", datetime(2020, 3, 1, 10, 0, 0, 250000, timezone(timedelta(hours=-5)))),
        ("20200301", None),
        ("2020", None),
        ("", None),
        ("yesterday", None),
        ("20201301100000", None),
    ],
)
def test_times(written: str, moment: datetime | None) -> None:
    assert read_time(written, BERLIN) == moment


def test_a_day_is_read_of_a_date_or_a_time() -> None:
    person = parse(message("PID|1||1||||19500712|F||195007121200")).first("PID")
    assert person is not None
    assert [person.day(7), person.day(10), person.day(8)] == [date(1950, 7, 12), date(1950, 7, 12), None]


def test_a_text_of_a_hundred_thousand_lines_is_one_segment_however_long_it_grows() -> None:
    """Joined once: appended line by line to one string, it would be copied a hundred thousand times."""
    lines = 100_000
    sent = message("OBX|1|TX|ANAM^^L||line 0\n" + "\n".join(f"line {number}" for number in range(1, lines)))
    found = parse(sent)
    assert [segment.name for segment in found.segments] == ["MSH", "OBX"]
    text = found.segments[1].free_text(5).splitlines()
    assert (len(text), text[0], text[-1]) == (lines, "line 0", f"line {lines - 1}")
