from datetime import datetime, timedelta, timezone

import pytest

from consilium.errors import InputError, TooLarge
from consilium.ingest.limits import Limits
from consilium.ingest.notes import clean_text, read_notes
from consilium.study import Note, NoteKind


def test_notes_are_read_in_order():
    notes = read_notes(
        [
            {"kind": "history", "text": "  Known COPD.\r\nEx-smoker. ", "time": "2020-03-01T10:00:00"},
            {"kind": "impression", "text": "No pneumothorax"},
        ]
    )
    assert notes == (
        Note(NoteKind.HISTORY, "Known COPD.\nEx-smoker.", datetime(2020, 3, 1, 10)),
        Note(NoteKind.IMPRESSION, "No pneumothorax", None),
    )


def test_text_is_normalised_and_control_characters_go():
    assert clean_text("fie\u0300vre\x00 \x1b[31m38\u200b.5\u202e\tC", "t") == "fi\u00e8vre [31m38.5\tC"
    assert clean_text("a\rb", "t") == "a\nb"


@pytest.mark.parametrize(
    ("entry", "field", "rule"),
    [
        ({"kind": "finding", "text": "x"}, "notes[1].kind", "history, indication, findings, impression"),
        ({"kind": 3, "text": "x"}, "notes[1].kind", "must be one of"),
        ({"kind": "history"}, "notes[1].text", "must be given"),
        ({"kind": "history", "text": 5}, "notes[1].text", "must be text"),
        ({"kind": "history", "text": " \x00 "}, "notes[1].text", "must not be empty"),
        ({"kind": "history", "text": "a\ud800b"}, "notes[1].text", "valid Unicode"),
        ({"kind": "history", "text": "x", "tiem": None}, "notes[1]", "did you mean time"),
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
        read_notes([{"kind": "history", "text": "x" * 11}], limits=Limits(note_characters=10))
    with pytest.raises(TooLarge, match="3 entries"):
        read_notes([{"kind": "history", "text": "x"}] * 3, limits=Limits(notes=2))
    with pytest.raises(InputError, match="must be a list"):
        read_notes({"kind": "history", "text": "x"})


def test_time_with_an_offset_becomes_local_time():
    given = datetime(2020, 3, 1, 10, tzinfo=timezone(timedelta(hours=5)))
    (note,) = read_notes([{"kind": "history", "text": "x", "time": given.isoformat()}])
    assert note.time == given.astimezone().replace(tzinfo=None)
    assert note.time.tzinfo is None
