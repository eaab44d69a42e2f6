"""The recipe's section of pulse waves."""

from __future__ import annotations

from pydantic import Field

from consilium.modalities.encoder_section import EncoderSection


class PulseSection(EncoderSection):
    """The pulse encoder: a small network over windows of the wave."""

    window: int = Field(default=16, ge=4, le=256)
    """Samples of one token."""
    width: int = Field(default=16, ge=4)
