"""What a recipe says of ECGs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from consilium.modalities.section import Fraction, ModalitySection


class EcgSection(ModalitySection):
    """The ECG encoder: a residual network over time; under the fusion stacked, features of the average beat."""

    rate: int = Field(default=250, ge=100, le=500)
    """Samples a second that the model reads; recordings are resampled."""
    seconds: int = Field(default=10, ge=5, le=60)
    """Length that the model reads: the middle of a longer recording; a shorter one is filled up."""
    wrong_gains: Literal["scaled", "microvolts"] = "scaled"
    """Of a file whose gains are wrong. scaled: its voltages are unknown, it is read at a common size and the study is
    referred. microvolts: one step of its integers is a microvolt, where the source is known to be so."""
    width: int = Field(default=16, ge=4, le=256)
    """Channels of the first stage."""
    blocks: int = Field(default=1, ge=1, le=4)
    """Residual blocks of each of the four stages."""
    lead_dropout: Fraction = 0.1
    """P(a lead is left out) while the network is trained, so that recordings of few leads can be read."""
