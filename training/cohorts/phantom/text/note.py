"""Note: history and indication from the evidence's grades and a way of writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.modalities.text.note import NoteKind
from training.cohorts.phantom.tables import table

TEXT_CHANNELS: tuple[str, ...] = tuple(table("evidence")["text"])
GRADES = 7
_HELD_OUT = 2
"""Phrases at the end of each grade's bank that ordinary cohorts never use."""


@dataclass(frozen=True, slots=True, eq=False)
class Wording:
    """How evidence is put into words.

    Attributes
    ----------
    thresholds : float64 [C, G - 1]
        What cuts each channel's evidence into grades.
    phrases : mapping of channel to list of list of str
        What can be written for each of its grades.
    """

    thresholds: npt.NDArray[np.float64]
    phrases: Mapping[str, Sequence[Sequence[str]]]

    @classmethod
    def stored(cls, evidence: str = "evidence", phrases: str = "phrases") -> Wording:
        """That of the stored tables of these names."""
        bank = table(phrases)
        return cls(np.array([table(evidence)["grade_thresholds"][name] for name in bank]), bank)

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.phrases)

    def grades(self, evidence: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Grade 0 … G - 1 of each channel's evidence; [..., C]."""
        return (np.asarray(evidence)[..., None] > self.thresholds).sum(axis=-1)

    def phrase(self, channel: str, grade: int, draw: float, held_out: bool = False) -> str:
        """The phrase of a channel's grade that a uniform draw picks, out of the ordinary or the held-out ones."""
        bank = self.phrases[channel][grade]
        bank = bank[-_HELD_OUT:] if held_out else bank[:-_HELD_OUT]
        return str(bank[int(draw * len(bank))])


ORDINARY = Wording.stored()


@dataclass(frozen=True, slots=True)
class Span:
    """The characters start … stop of a note that say one channel's grade."""

    kind: NoteKind
    channel: str
    grade: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class WrittenNote:
    """What a clinician wrote, and which characters of it are decisive."""

    history: str
    indication: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class _Style:
    """A writer's habits: separator, capitals, and which abbreviations are used."""

    separator: str
    capitals: bool
    abbreviations: tuple[tuple[str, str], ...]

    def word(self, text: str) -> str:
        for long, short in self.abbreviations:
            text = text.replace(long, short)
        return text[0].upper() + text[1:] if self.capitals else text


def _style(rng: np.random.Generator) -> _Style:
    stored = table("writing")
    separator = stored["separators"][int(rng.integers(len(stored["separators"])))]
    abbreviates, draws = rng.random() < 0.5, rng.random(len(stored["abbreviations"]))
    chosen = tuple((a, b) for (a, b), draw in zip(stored["abbreviations"], draws, strict=True) if draw < 0.7)
    return _Style(separator, separator == ". " and bool(rng.random() < 0.8), chosen if abbreviates else ())


def _compose(
    kind: NoteKind, heading: str, items: list[tuple[str, str | None]], grades: dict[str, int], style: _Style
) -> tuple[str, list[Span]]:
    """Join items to one passage; spans of those that belong to a channel."""
    text, spans = heading, []
    for position, (words, channel) in enumerate(items):
        if position:
            text += style.separator
        start = len(text)
        text += style.word(words)
        if channel is not None:
            spans.append(Span(kind, channel, grades[channel], start, len(text)))
    return text + ".", spans


def render_note(
    evidence: npt.ArrayLike,
    rng: np.random.Generator,
    site: str,
    *,
    wording: Wording = ORDINARY,
    held_out_phrases: bool = False,
) -> WrittenNote:
    """History and indication.

    Parameters
    ----------
    evidence : float [C]
        Of the wording's channels. Only its grades show: evidence between the same thresholds gives the same bytes.
    rng : Generator
        Nuisance: which phrase of the grade, order, fillers, openers, separators, abbreviations.
    site : str
        Whose headings are used.
    held_out_phrases : bool
        Write with the held-out phrases instead of the ordinary ones.
    """
    writing = table("writing")
    heading = next(row["heading"] for row in table("sites")["sites"] if row["name"] == site)
    levels = wording.grades(evidence)
    grades = {name: int(level) for name, level in zip(wording.channels, levels, strict=True)}
    draws = rng.random(len(wording.channels))
    phrases = [
        (wording.phrase(name, grade, draw, held_out_phrases), name)
        for (name, grade), draw in zip(grades.items(), draws.tolist(), strict=True)
    ]
    order = rng.permutation(len(phrases))
    asked = int(rng.integers(1, 3))
    fillers = rng.permutation(len(writing["fillers"]))[: int(rng.integers(1, 5))]
    history: list[tuple[str, str | None]] = [phrases[k] for k in order[asked:]]
    history += [(writing["fillers"][k], None) for k in fillers]
    history = [history[k] for k in rng.permutation(len(history))]
    openers = [writing[f"{kind}_openers"] for kind in ("history", "indication")]
    first, question = (bank[int(rng.integers(len(bank)))] for bank in openers)
    indication: list[tuple[str, str | None]] = [(question, None), *(phrases[k] for k in order[:asked])]
    if rng.random() < 0.6:
        history.insert(0, (first, None))
    style = _style(rng)
    long, long_spans = _compose(NoteKind.HISTORY, heading["history"], history, grades, style)
    short, short_spans = _compose(NoteKind.INDICATION, heading["indication"], indication, grades, style)
    return WrittenNote(long, short, (*long_spans, *short_spans))
