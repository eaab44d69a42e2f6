from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.domain.errors import InputError, TooLarge
from consilium.formats.time_zone import TimeZone
from consilium.modalities.registry import default_context, default_limits
from consilium.modalities.text.note import Note, NoteKind
from consilium.modalities.text.records import clean_text, read_notes


def test_notes_are_read_in_order():
    notes, warnings = read_notes(
        [
            {"kind": "history", "text": "  Known COPD.\r\nEx-smoker. ", "time": "2020-03-01T10:00:00"},
            {"kind": "impression", "text": "No pneumothorax"},
        ]
    )
    assert warnings == ()
    assert notes == (
        Note(NoteKind.HISTORY, "Known COPD.\nEx-smoker.", datetime(2020, 3, 1, 10, tzinfo=UTC)),
        Note(NoteKind.IMPRESSION, "No pneumothorax", None),
    )


def test_text_is_normalised():
    assert clean_text("fie\u0300vre\tC", "t", 100) == "fi\u00e8vre\tC"
    assert clean_text("fie\u00ad\u0300vre", "t", 100) == "fi\u00e8vre"


LINE_ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_every_line_end_ends_a_line(end):
    assert clean_text(f"No effusion{end}Heart normal", "t", 100) == "No effusion\nHeart normal"


@pytest.mark.parametrize("separator", ["\x1f", "\x00", "\x01", "\x1b", "\x7f", "\x8d", "\u200b", "\ufffa"], ids=ascii)
def test_other_controls_and_the_zero_width_space_separate(separator):
    assert clean_text(f"No effusion{separator}Heart normal", "t", 100) == "No effusion Heart normal"


@pytest.mark.parametrize("trace", ["\u00ad", "\u200c", "\u200d", "\u2060", "\ufeff", "\u200e", "\u202e"], ids=ascii)
def test_joiners_hyphens_and_marks_of_direction_leave_no_trace(trace):
    assert clean_text(f"pneu{trace}monia", "t", 100) == "pneumonia"


def test_windows_1252_that_was_taken_for_latin_1_is_what_was_written():
    assert clean_text(b"fever\x96cough, \x93dry\x94, it\x92s".decode("latin-1"), "t", 100) == "fever–cough, “dry”, it’s"


@given(st.lists(st.sampled_from(["cough", "38.5", "Fieber", "咳嗽"]), min_size=1, max_size=6), st.data())
@settings(max_examples=50, deadline=None)
def test_words_are_the_same_whatever_separates_them(words, data):
    between = st.sampled_from([*LINE_ENDS, " ", "\t", "\u00a0", "\u3000", "\x1f", "\x00", "\u200b"])
    text = words[0] + "".join(data.draw(between) + word for word in words[1:])
    assert clean_text(text, "t", 100).split() == words


@pytest.mark.parametrize(
    ("entry", "field", "rule"),
    [
        ({"kind": "finding", "text": "x"}, "notes[1].kind", "history, indication, findings, impression"),
        ({"kind": 3, "text": "x"}, "notes[1].kind", "must be one of"),
        ({"kind": "history"}, "notes[1].text", "is required"),
        ({"kind": "history", "text": 5}, "notes[1].text", "must be text"),
        ({"kind": "history", "text": " \x00 "}, "notes[1].text", "must not be empty"),
        ({"kind": "history", "text": "a\ud800b"}, "notes[1].text", "valid Unicode"),
        ({"kind": "history", "text": "x", "tiem": None}, "notes[1]", "the nearest is .time."),
        ({"kind": "history", "text": "x", "time": "yesterday"}, "notes[1].time", "ISO 8601"),
        ({"kind": "history", "text": "x", "time": "2020-03-01"}, "notes[1].time", "ISO 8601"),
        ({"kind": "history", "text": "x", "time": 1583056800}, "notes[1].time", "ISO 8601"),
        ("Known COPD", "notes[1]", "must be an object"),
    ],
)
def test_what_is_wrong_is_named(entry, field, rule):
    with pytest.raises(InputError, match=rule) as refused:
        read_notes([{"kind": "history", "text": "fine"}, entry])
    assert refused.value.field == field


def test_limits():
    with pytest.raises(TooLarge, match=r"notes\[0\].text"):
        read_notes(
            [{"kind": "history", "text": "x" * 11}],
            context=default_context(limits=default_limits().but(note_characters=10)),
        )
    with pytest.raises(TooLarge, match="3 entries"):
        read_notes(
            [{"kind": "history", "text": "x"}] * 3, context=default_context(limits=default_limits().but(notes=2))
        )
    with pytest.raises(InputError, match="must be a list"):
        read_notes({"kind": "history", "text": "x"})


def test_time_with_an_offset_is_that_instant_by_the_clock_of_the_site():
    given = datetime(2020, 3, 1, 10, tzinfo=timezone(timedelta(hours=5)))
    ((note,), _) = read_notes(
        [{"kind": "history", "text": "x", "time": given.isoformat()}],
        context=default_context(zone=TimeZone("Asia/Tokyo")),
    )
    assert note.time == given
    assert note.time.isoformat() == "2020-03-01T14:00:00+09:00"
