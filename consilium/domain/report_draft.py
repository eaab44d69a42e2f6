"""A draft of a report: sentences that say what a model's answer says, each with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from consilium.domain.certainty import Certainty
from consilium.domain.wire import Share, Wire, WireValue

SectionName = Literal["notice", "indication", "comparison", "technique", "findings", "impression"]
SECTIONS: tuple[SectionName, ...] = get_args(SectionName)
"""In their order."""


@dataclass(frozen=True, slots=True)
class SupportingEvidence(WireValue):
    """Something in the study that speaks for a sentence."""

    modality: str
    text: str
    """What: a word, a value; the modality itself where all of it was weighed as one."""
    log_odds: float
    """What it adds to the log-odds of the finding; below 0 beside a sentence that speaks against it."""


@dataclass(frozen=True, slots=True)
class DraftSentence(WireValue):
    """One sentence.

    It is about a finding, or quotes a record, or says how the answer was made.
    """

    text: str
    finding: str | None = None
    """The name of the finding that it is about."""
    probability: Share | None = None
    """Calibrated, of that finding."""
    certainty: Certainty | None = None
    """The word for that probability; null where the model does not judge the finding in this study."""
    record: str | None = None
    """The record that it quotes, by its position: `notes[0]`."""
    evidence: tuple[SupportingEvidence, ...] = ()
    """What speaks for it most; empty where nothing of it was explained."""


@dataclass(frozen=True, slots=True)
class DraftSection(WireValue):
    """A section under its heading."""

    name: SectionName
    heading: str
    sentences: tuple[DraftSentence, ...]


class Draft(Wire):
    """A draft, for a physician to correct and sign."""

    language: str
    """BCP 47: `en`, `de`."""
    sections: tuple[DraftSection, ...]

    @property
    def text(self) -> str:
        """The sections as plain text: a heading, then a sentence a line, quotations in quotation marks.

        So no line of a record can pass for a heading or for a sentence of the draft.
        """
        return "\n\n".join("\n".join([one.heading, *map(_in_text, one.sentences)]) for one in self.sections)


def _in_text(sentence: DraftSentence) -> str:
    words = " ".join(sentence.text.split())
    return words if sentence.record is None else f'"{words}"'
