"""What a recipe says of training objectives: the weight of each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from consilium.modalities.section import Section


class ObjectivesRecipe(Section):
    """Weights of the summed losses."""

    fused: float = Field(default=1.0, ge=0)
    """All modalities that the study has."""
    subset: float = Field(default=1.0, ge=0)
    """What modality dropout left of them."""
    modality: float = Field(default=0.5, ge=0)
    """Each modality's own head."""
    distillation: float = Field(default=0.0, ge=0)
    """What each modality's own head owes to a teacher that was trained on that modality alone."""
    targets: float = Field(default=0.5, ge=0)
    """The cohort's targets beside the findings, by all modalities and by what modality dropout left of them; 0: the
    model does not answer them."""
    coral: float = Field(default=0.0, ge=0)
    """How far the fused states of different sources lie apart, in mean and covariance."""
    adversarial: float = Field(default=0.0, ge=0)
    """How well a network tells the source from the fused state, which the encoders unlearn."""
    gradient: Literal["sum", "mmpareto"] = "sum"
    """How the gradients of the fused and the modalities' own losses meet in an encoder."""
