"""Section: what a recipe says of one modality. Each modality derives its own in a light module, and declares it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

ENCODERS_FILE = "encoders.safetensors"
"""What a folder of pretrained encoders holds, and no model's."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A mapping of keys in a recipe; unknown ones are errors, and nothing is changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalitySection(Section):
    """What every modality's section of a recipe can be asked.

    Attributes
    ----------
    stage_keys : frozenset of str
        Keys that a stage of pretraining may change: they decide what is read, not what the encoder is made of.
    reads_own_weights : bool
        The encoder reads `weights` that are no pretrained encoders by itself, such as a file.
    """

    stage_keys: ClassVar[frozenset[str]] = frozenset()
    reads_own_weights: ClassVar[bool] = False

    weights: str | None = None
    """Pretrained encoders that the modality's encoder starts from: a folder of `consilium pretrain`, or
    ``models:/consilium-encoders-NAME@ALIAS``; None: from nothing, or what the modality's other keys name."""

    @classmethod
    def for_checks(cls) -> Self:
        """By what a cohort's files are read to be checked, without a recipe: the least that shows what is in them."""
        return cls()

    def reads(self, record: Any) -> bool:
        """Whether the model reads `record`, one of this modality within the time window."""
        del record
        return True

    @property
    def masks_identifiers(self) -> bool:
        """Whether what identifies a patient is taken out of free text before the model reads it."""
        return True

    @property
    def answers_read(self) -> tuple[str, ...]:
        """What it reads that was written after the question was answered; only pretraining may."""
        return ()

    def joined(self, other: Self) -> Self:
        """A section that reads what either reads: of the preparation that several stages of pretraining share."""
        del other
        return self


def names_encoders(weights: str | None) -> bool:
    """Whether `weights` are pretrained encoders, of the registry or in a folder, and no file of another origin."""
    return weights is not None and (weights.startswith("models:/") or (Path(weights) / ENCODERS_FILE).is_file())
