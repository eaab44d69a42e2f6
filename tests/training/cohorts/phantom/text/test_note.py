from __future__ import annotations

import itertools

import numpy as np

from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import GRADES, ORDINARY, TEXT_CHANNELS, WrittenNote, render_note

PHRASES = [
    (channel, grade, phrase)
    for channel, grades in table("phrases").items()
    for grade, bank in enumerate(grades)
    for phrase in bank
]


def _shortened(phrase: str) -> str:
    """With every abbreviation there is, in lower case."""
    phrase = phrase.lower()
    for long, short in table("writing")["abbreviations"]:
        phrase = phrase.replace(long, short)
    return phrase.lower()


def _note(evidence: list[float] | np.ndarray, seed: int, **options: bool) -> WrittenNote:
    return render_note(np.asarray(evidence, dtype=float), np.random.default_rng(seed), "north", **options)


def test_every_channel_has_its_grades_and_phrases() -> None:
    assert tuple(table("phrases")) == TEXT_CHANNELS
    assert all(len(grades) == GRADES >= 7 for grades in table("phrases").values())
    assert all(len(bank) - 1 >= 5 for grades in table("phrases").values() for bank in grades)


def test_no_phrase_stands_in_two_grades_however_it_is_abbreviated() -> None:
    fillers = [(None, None, filler) for filler in table("writing")["fillers"]]
    for (one, grade, phrase), (other, other_grade, text) in itertools.permutations([*PHRASES, *fillers], 2):
        if (one, grade) != (other, other_grade) and one is not None:
            assert phrase.lower() not in text.lower(), (phrase, text)
            assert _shortened(phrase) not in _shortened(text), (phrase, text)


def test_the_same_grades_give_the_same_bytes() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        evidence = rng.normal(0.5, 1, len(TEXT_CHANNELS))
        other = np.array(
            [
                np.r_[t[0] - 1, (t[1:] + t[:-1]) / 2, t[-1] + 2][g]
                for t, g in zip(ORDINARY.thresholds, ORDINARY.grades(evidence), strict=True)
            ]
        )
        assert (other != evidence).all()
        assert _note(evidence, seed) == _note(other, seed)


def test_another_grade_changes_its_own_span_and_nothing_else() -> None:
    for seed in range(20):
        before, after = _note([0.0] * 6, seed), _note([3.5, 0, 0, 0, 0, 0], seed)
        spans = {span.channel: span for span in before.spans}, {span.channel: span for span in after.spans}
        for channel in TEXT_CHANNELS:
            old, new = (
                getattr(note, by_channel[channel].kind.value)[by_channel[channel].start : by_channel[channel].stop]
                for note, by_channel in zip((before, after), spans, strict=True)
            )
            assert (old != new) == (channel == "pneumonia")
        changed = getattr(after, spans[1]["pneumonia"].kind.value)
        kept = changed[: spans[1]["pneumonia"].start] + changed[spans[1]["pneumonia"].stop :]
        original = getattr(before, spans[0]["pneumonia"].kind.value)
        assert kept == original[: spans[0]["pneumonia"].start] + original[spans[0]["pneumonia"].stop :]


def test_spans_hold_a_phrase_of_their_grade() -> None:
    for seed in range(60):
        note = _note(np.random.default_rng(seed).normal(0.6, 1.3, 6), seed)
        assert {span.channel for span in note.spans} == set(TEXT_CHANNELS)
        for span in note.spans:
            written = getattr(note, span.kind.value)[span.start : span.stop]
            bank = table("phrases")[span.channel][span.grade][:-2]
            assert _shortened(written) in {_shortened(phrase) for phrase in bank}
        assert note.history.endswith(".")
        assert note.indication.startswith("Indication: ")


def test_held_out_phrases_are_written_only_where_asked() -> None:
    held_out = {text.lower() for grades in table("phrases").values() for bank in grades for text in bank[-2:]}
    ordinary = " ".join(_note(np.random.default_rng(s).normal(0.6, 1.3, 6), s).history.lower() for s in range(200))
    assert not any(phrase in ordinary for phrase in held_out)
    unseen = _note([0.0] * 6, 4, held_out_phrases=True)
    assert {span.grade for span in unseen.spans} == {2}
    assert any(phrase in (unseen.history + unseen.indication).lower() for phrase in held_out)


def test_length_of_a_note_hardly_follows_its_grades() -> None:
    """Otherwise a probe of the note's length would call a clean cohort suspect."""
    rng = np.random.default_rng(0)
    evidence = rng.normal(0.4, 1.1, (1500, 6))
    length = [len(note.history) + len(note.indication) for note in (_note(e, s) for s, e in enumerate(evidence))]
    for channel in range(len(TEXT_CHANNELS)):
        assert abs(np.corrcoef(evidence[:, channel], length)[0, 1]) < 0.15


def test_notes_say_neither_age_nor_sex() -> None:
    words = " ".join([phrase for *_, phrase in PHRASES] + table("writing")["fillers"]).lower().split()
    assert not {"he", "she", "his", "her", "man", "woman", "male", "female", "year-old", "y/o"} & set(words)
