"""The recipe's section of any wave."""

from __future__ import annotations

from pydantic import Field

from consilium.modalities.section import ModalitySection


class WaveSection(ModalitySection):
    """A small network over windows of the wave."""

    window: int = Field(default=8, ge=4)
    """Samples of one token."""
