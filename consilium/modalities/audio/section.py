"""What a recipe says of sounds."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from consilium.modalities.section import ModalitySection


class AudioSection(ModalitySection):
    """The sound encoder: a residual network over time and frequency; under the fusion stacked, features of both.

    The defaults suit heart sounds; lung sounds reach to some 2,000 Hz, coughs further.
    """

    rate: int = Field(default=2000, ge=500, le=16_000)
    """Samples a second that the model reads; sounds are resampled."""
    seconds: int = Field(default=10, ge=2, le=60)
    """Length that the model reads: the middle of a longer sound; a shorter one ends where it ends."""
    low_hz: float = Field(default=25, ge=10)
    """What lies below is filtered out."""
    high_hz: float = 900
    """What lies above is filtered out."""
    bands: int = Field(default=32, ge=8, le=128)
    """Bands of frequency, evenly spaced on the mel scale."""
    window_ms: int = Field(default=40, ge=10, le=200)
    """Length of sound whose spectrum is taken at a time."""
    hop_ms: int = Field(default=12, ge=4, le=100)
    """From one spectrum to the next."""
    width: int = Field(default=16, ge=4, le=256)
    """Channels of the first stage."""
    blocks: int = Field(default=1, ge=1, le=4)
    """Residual blocks of each of the four stages."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low_hz * 2 <= self.high_hz <= 0.48 * self.rate:
            raise ValueError("high_hz must be at least twice low_hz, and at most 0.48 of rate")
        if self.hop_ms > self.window_ms:
            raise ValueError("hop_ms must be at most window_ms")
        return self
