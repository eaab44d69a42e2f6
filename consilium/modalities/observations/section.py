"""What a recipe says of observations."""

from __future__ import annotations

from pydantic import Field

from consilium.modalities.section import ModalitySection


class ObservationsSection(ModalitySection):
    """The observation encoder: one token per variable, age and sex."""

    width: int = Field(default=64, ge=8)
    """Hidden width of the numeric embedding of a value."""
    depth: int = Field(default=1, ge=0)
    """Transformer layers over the observation tokens."""
    history: int = Field(default=1, ge=1, le=2)
    """1: the last value of each variable; 2: also how old it is, and how it changed since the one before."""
