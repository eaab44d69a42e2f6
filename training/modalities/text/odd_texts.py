"""Notes that say nothing, are in another language, or have lost their order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from consilium.domain.study import Study
from consilium.modalities.text.note import Note, NoteKind
from consilium.modalities.text.records import read_notes
from training.cohorts.phantom.text.note import WrittenNote
from training.evaluation.out_of_distribution.kinds import Case, Change, Kind

_NAME = "text"

_EMPTY = ("-", ".", "n/a", "none", "?", "see above", "no information", "to follow", "x", "as discussed")
"""What is typed where a field must not stay empty; a note of blanks alone is refused when it is read."""

_GERMAN = (
    "Der Patient klagt seit gestern über zunehmende Atemnot und Husten.",
    "Bei Aufnahme Fieber bis neununddreißig Grad und Schüttelfrost.",
    "Vorbekannte Herzinsuffizienz mit Beinödemen beidseits.",
    "Keine Schmerzen beim Atmen, Schmerzen in der linken Schulter.",
    "Zustand nach Operation der Hüfte vor drei Wochen.",
    "Raucht seit dreißig Jahren ein Päckchen am Tag.",
    "Auskultatorisch feuchte Rasselgeräusche rechts basal.",
    "Wir bitten um eine Aufnahme des Brustkorbs in zwei Ebenen.",
    "Frage nach Erguss, Infiltrat oder Stauung.",
    "Allergien sind nicht bekannt, nimmt einen Blutverdünner.",
    "Wohnt allein, ist im Alltag selbständig.",
    "Der Allgemeinzustand hat sich über Nacht verschlechtert.",
)
_FRENCH = (
    "Le patient se plaint depuis hier d'un essoufflement croissant et de toux.",
    "Fièvre à trente-neuf degrés avec frissons à l'admission.",
    "Insuffisance cardiaque connue avec œdèmes des deux jambes.",
    "Pas de douleur à la respiration, douleur à l'épaule gauche.",
    "Opéré de la hanche il y a trois semaines.",
    "Fume un paquet par jour depuis trente ans.",
    "Râles humides à la base droite à l'auscultation.",
    "Merci de réaliser une radiographie du thorax de face et de profil.",
    "Recherche d'un épanchement, d'un foyer ou d'une surcharge.",
    "Pas d'allergie connue, prend un anticoagulant.",
    "Vit seul et reste autonome au quotidien.",
    "L'état général s'est dégradé pendant la nuit.",
)


def empty(text: str, rng: np.random.Generator) -> str:
    """A note with nothing in it."""
    del text
    return str(rng.choice(_EMPTY))


def foreign(text: str, rng: np.random.Generator) -> str:
    """Three to seven German or French sentences."""
    del text
    language = _GERMAN if rng.random() < 0.5 else _FRENCH
    return " ".join(rng.permutation(language)[: int(rng.integers(3, 8))].tolist())


def shuffled(text: str, rng: np.random.Generator) -> str:
    """The same words in any order."""
    return " ".join(rng.permutation(text.split()).tolist())


# --- in a study ------------------------------------------------------------------------------------------------------


def _changed(change_text: Callable[[str, np.random.Generator], str]) -> Change:
    """Each note's text changed."""

    def change(case: Case, rng: np.random.Generator) -> Study:
        return _with_texts(case, [change_text(note.text, rng) for note in _notes(case)])

    return change


def _held_out_phrases(case: Case, rng: np.random.Generator) -> Study:
    """In the phrases that ordinary cohorts never use."""
    del rng
    assert case.renderer is not None
    written: WrittenNote = case.renderer.render(_NAME, case.study.study_id, held_out_phrases=True)
    words = {NoteKind.HISTORY: written.history, NoteKind.INDICATION: written.indication}
    return _with_texts(case, [words.get(note.kind, note.text) for note in _notes(case)])


def _notes(case: Case) -> tuple[Note, ...]:
    return case.study.parts[_NAME]


def _with_texts(case: Case, texts: list[str]) -> Study:
    """The study with these texts in its notes, read again as a caller would send them."""
    sent = [
        {"kind": note.kind.value, "text": text, "time": None if note.time is None else note.time.isoformat()}
        for note, text in zip(_notes(case), texts, strict=True)
    ]
    return case.study.with_parts(**{_NAME: read_notes(sent)[0]})


KINDS: tuple[Kind, ...] = (
    Kind("empty note", _NAME, True, _changed(empty)),
    Kind("foreign language", _NAME, True, _changed(foreign)),
    Kind("shuffled words", _NAME, True, _changed(shuffled)),
    Kind("held-out phrases", _NAME, False, _held_out_phrases, rendered=True),
)
