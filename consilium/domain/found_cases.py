"""What a search finds: the cases that are most like a study, and the sentences that fit it.

Declared once, as a diagnosis is: filled by `consilium.inference.search_index`, sent by the service, read by its client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consilium.domain.diagnosis import ModelIdentity, Neighbour
from consilium.domain.wire import Wire, WireValue


@dataclass(frozen=True, slots=True)
class FoundSentence(WireValue):
    """A sentence that fits, written about another patient."""

    sentence: str
    """As it stands in the cohort, masked as its notes are."""
    similarity: float
    """Cosine of the sentence and the study, -1 to 1."""
    case: str
    """Pseudonym of the case that it was written about; of several, the one that is most like the study."""


class Found(Wire):
    """What a search found, most alike first.

    Every study has nearest cases, also one that is unlike all of them.
    """

    cases: tuple[Neighbour, ...]
    sentences: tuple[FoundSentence, ...]
    """Each describes another patient; whether it holds for this one is for a reader to decide."""
    modalities: tuple[str, ...]
    """What was searched with: the modalities that the encoders read and the study has."""
    absent: tuple[str, ...]
    """The modalities that the encoders read and the study lacks."""
    encoders: ModelIdentity
    """Which encoders compared the study with the cases."""
    index_digest: str
    """SHA-256 of the manifest of the search index."""
    input_digests: dict[str, str]
    """SHA-256 of every record received, by position."""
    warnings: tuple[str, ...]
    """What the reader must know of the input: implausible value, unknown view, record outside the window, note cut
    off."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON's types."""
        return self.model_dump(mode="json")
