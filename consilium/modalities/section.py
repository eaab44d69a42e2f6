"""Section: what a recipe says of one modality. Each modality derives its own in a light module, and declares it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A mapping of keys in a recipe; unknown ones are errors, and nothing is changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalitySection(Section):
    """What every modality's section of a recipe can be asked."""

    def reads(self, record: Any) -> bool:
        """Whether the model reads `record`, one of this modality within the time window."""
        del record
        return True

    @property
    def masks_identifiers(self) -> bool:
        """Whether what identifies a patient is taken out of free text before the model reads it."""
        return True
