"""What the model reads, as the service says: records that it does not read make no new answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from consilium.api.schemas import ModelInformation
from consilium.domain.study import Window

_IMAGES, _NOTES, _OBSERVATIONS = "image", "text", "observations"


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """What a model reads of a study.

    Attributes
    ----------
    digest : str
        Of the model's manifest.
    window : Window
        How far from the study a record may lie.
    note_kinds, codes : frozenset of str
        Of the notes and values that it reads.
    images, notes, observations, body_bytes : int
        How many, and how much, one request may hold.
    """

    digest: str
    window: Window = field(default_factory=Window)
    note_kinds: frozenset[str] = frozenset({"history", "indication"})
    codes: frozenset[str] = frozenset()
    images: int = 16
    notes: int = 64
    observations: int = 1000
    body_bytes: int = 256 << 20

    @classmethod
    def of(cls, information: ModelInformation) -> ModelInputs:
        """Of what ``GET /v1/model`` answers."""
        parts, limits = information.reads.parts, information.limits.model_dump()
        text, values = parts.get(_NOTES), parts.get(_OBSERVATIONS)
        return cls(
            digest=information.model.manifest_digest,
            window=Window(information.reads.before_hours, information.reads.after_hours),
            note_kinds=frozenset(() if text is None else text.note_kinds),
            codes=frozenset(
                () if values is None else (code.code for variable in values.variables for code in variable.codes)
            ),
            images=limits["images"] if _IMAGES in information.reads.modalities else 0,
            notes=limits["notes"],
            observations=limits["observations"],
            body_bytes=limits["body_bytes"],
        )
