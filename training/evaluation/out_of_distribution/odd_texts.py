"""Notes that say nothing, are in another language, or have lost their order."""

from __future__ import annotations

import numpy as np

_EMPTY = ("-", ".", "n/a", "none", "?", "see above", "no information", "to follow", "x", "as discussed")
"""What is typed where a field must not stay empty; a note of blanks alone is refused at the door."""

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
