"""What a recipe says of pretraining: which objectives, on which pairs of modalities, in which stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from consilium.modalities.registry import modalities
from consilium.modalities.section import Section

OF_PAIRS = ("clip", "siglip", "vicreg", "local_alignment")
"""Objectives that compare two modalities of the same study."""
OF_VIEWS = ("simclr",)
"""Objectives that compare two augmented views of one modality's records."""

Positive = Annotated[int, Field(gt=0)]


def objective_names() -> tuple[str, ...]:
    """Every objective: those of pairs and views, then what the modalities declare."""
    declared = [name for modality in modalities().values() for name in modality.self_supervision]
    return (*OF_PAIRS, *OF_VIEWS, *declared)


def _known(name: str) -> str:
    if name not in objective_names():
        raise ValueError(f"must be one of {', '.join(objective_names())}")
    return name


Weights = dict[Annotated[str, AfterValidator(_known)], Annotated[float, Field(ge=0)]]


def _pair(names: Any) -> Any:
    for name in names if isinstance(names, list | tuple) else ():
        if name not in modalities():
            raise ValueError(f"must name installed modalities: {', '.join(modalities())}")
    if not isinstance(names, list | tuple) or len(names) != 2 or names[0] == names[1]:
        raise ValueError("must be two modalities, such as [image, text]")
    return tuple(names)


Pair = Annotated[tuple[str, str], BeforeValidator(_pair)]


class StageRecipe(Section):
    """One stage: what it reads otherwise than the recipe, and its own length and objectives where it has such."""

    name: str = Field(default="all", pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")
    modalities: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Keys that replace those of a modality's section in this stage, as far as the modality lets stages change them."""
    objectives: Weights | None = None
    pairs: tuple[Pair, ...] | None = None
    frozen: tuple[str, ...] = ()
    """Modalities whose encoder, and what puts it into the common space, stay as the stage before left them; the others
    learn to fit them (Zhai et al., "LiT", CVPR 2022)."""
    epochs: Positive | None = None
    learning_rate: float | None = Field(default=None, gt=0)


class PretrainingRecipe(Section):
    """Learning without labels: `consilium pretrain`."""

    objectives: Weights = Field(default_factory=dict)
    """Weights of the summed objectives; without one there is nothing to pretrain."""
    pairs: tuple[Pair, ...] = ()
    """Which modalities are compared; none named: every pair of the recipe's."""
    width: int = Field(default=128, ge=8, le=4096)
    """Dimensions of the space in which modalities are compared."""
    epochs: Positive = 16
    batch_size: int = Field(default=64, ge=4)
    learning_rate: float = Field(default=1e-3, gt=0)
    after_hours: float = Field(default=168.0, ge=0)
    """How long after the reference time a record may be made that pretraining reads: reports are written afterwards."""
    stages: tuple[StageRecipe, ...] = ()
    """One after the other, each from the weights of the one before; none: a single stage of the recipe's sections."""
    audit: bool = True
    """Fail where retrieval is better than possible, as far as the cohort knows what is possible."""

    @model_validator(mode="after")
    def _distinct(self) -> PretrainingRecipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("stages must have names of their own")
        return self

    @property
    def all_stages(self) -> tuple[StageRecipe, ...]:
        """The stages, at least one."""
        return self.stages or (StageRecipe(),)

    def weights(self, stage: StageRecipe) -> Mapping[str, float]:
        """The objectives of `stage` that have a weight."""
        chosen = self.objectives if stage.objectives is None else stage.objectives
        return {name: weight for name, weight in chosen.items() if weight > 0}
