"""Gates: what a version must pass before it serves, read from YAML and checked once. No torch here.

`packaged_gates` is what comes with the project. A section that is left out, or null, is not demanded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from consilium.configuration.recipe_errors import recipe_error
from consilium.domain.diagnosis import Verdict
from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError, RecipeError
from consilium.modalities.section import Fraction, Section

Margin = Annotated[float, Field(gt=0, lt=0.5)]
Positive = Annotated[float, Field(gt=0)]


class ChampionGate(Section):
    """Not inferior to the champion: the mean AUROC over findings, paired by study, by bootstrap over patients."""

    margin: Margin = 0.02
    """AUROC that a version may be worse by on the studies that the champion was tested on."""
    newest_margin: Margin = 0.03
    """Likewise on the newest cohort, where one is given."""
    least_common: Fraction = 0.9
    """Share of the champion's test studies that the version must have been tested on, too."""


class SubgroupGate(Section):
    """No group of patients worse off than under the champion."""

    margin: Margin = 0.1
    """A group fails whose AUROC of a finding is lower by more than this, and not by chance."""


class CalibrationGate(Section):
    """Probabilities that mean what they say, on the version's own test studies."""

    ece_above_chance: Fraction = 0.03
    """By how much the mean calibration error may exceed that of perfect probabilities on as many studies."""
    slope: tuple[Positive, Positive] = (0.7, 1.4)
    """Band of each finding's calibration slope; one fails that lies outside of it, and not by chance."""

    @model_validator(mode="after")
    def _ordered(self) -> CalibrationGate:
        if not self.slope[0] < self.slope[1]:
            raise ValueError("slope must be a lower and a higher number")
        return self


class CoverageGate(Section):
    """Prediction sets that hold the truth as often as they say."""

    chance: Fraction = 0.01
    """So many coverages outside of their bands are too many as chance alone leaves there at most this often."""


class AuditGate(Section):
    """What the audit of the cohort ended in."""

    verdicts: tuple[Verdict, ...] = Field(default=("sound",), min_length=1)


class OutOfDistributionGate(Section):
    """Altered inputs are noticed, and ordinary ones left alone."""

    far_auroc: Fraction = 0.8
    """Least AUROC of every kind of far input, as the altered part shows it."""
    flagged_times: Positive = 4.0
    """Ordinary studies may be flagged so many times as often as the recipe's rate says."""
    required: bool = True
    """False: a version without these figures passes."""


class FaithfulnessGate(Section):
    """Each modality has an explanation that depends on what the model has learned."""

    required: bool = True
    """False: a version without these figures passes."""


class ServingGate(Section):
    """The reference studies answered rightly on the deployment's backend, in time, and within its memory."""

    backend: str = "auto"
    device: str = "auto"
    p95_ms: Positive = 1000.0
    """Of the answer to one study, from its records on; 95 of 100 are faster."""
    memory_mb: Positive = 4096.0
    """Most memory of a process that has loaded the model and answered, in 10⁶ bytes; its share of a GPU's likewise."""


class SizeGate(Section):
    artifact_mb: Positive = 2000.0
    """All files of the artifact, in 10⁶ bytes."""


class LicenceGate(Section):
    allowed: tuple[str, ...] | None = None
    """Licences of pretrained weights; None: any that is stated, so that ``not stated`` fails."""


class Gates(Section):
    """What is demanded of a version.

    Attributes
    ----------
    alpha : float
        Chance that an inferior version is taken for a non-inferior one, over all looks at the same test studies.
    looks : int
        How often these may be looked at.
    spending : str
        ``equal``: each look has alpha / looks (Bonferroni), as fits a test set of which every look sees all.
        ``obrien_fleming``: hardly any of alpha early and most of it late (Lan and DeMets, Biometrika 1983), for a test
        set that grows.
    bootstrap : int
        Replicates over patients.
    """

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    looks: int = Field(default=20, ge=1, le=1000)
    spending: Literal["equal", "obrien_fleming"] = "equal"
    bootstrap: int = Field(default=2000, ge=100)
    champion: ChampionGate | None = None
    subgroups: SubgroupGate | None = None
    calibration: CalibrationGate | None = None
    coverage: CoverageGate | None = None
    audit: AuditGate | None = None
    out_of_distribution: OutOfDistributionGate | None = None
    faithfulness: FaithfulnessGate | None = None
    serving: ServingGate | None = None
    size: SizeGate | None = None
    licences: LicenceGate | None = None

    @model_validator(mode="after")
    def _demands_something(self) -> Gates:
        if all(getattr(self, name) is None for name in SECTIONS):
            raise ValueError(f"must demand something: one of {', '.join(SECTIONS)}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of what is demanded, however the file is written."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


SECTIONS = tuple(name for name, field in Gates.model_fields.items() if field.default is None)


def packaged_gates() -> Path:
    """The file that comes with the project."""
    return Path(__file__).with_name("gates.yaml")


def load_gates(path: Path | None = None) -> Gates:
    """The gates in the YAML file `path`; None: those that come with the project.

    Raises
    ------
    InputError
        The file cannot be read.
    RecipeError
        It is no mapping, a key is unknown or a value breaks its rule.
    """
    path = path or packaged_gates()
    try:
        data = yaml.safe_load(decode_text(path.read_bytes(), "gates"))
    except OSError as error:
        raise InputError("gates", str(path), f"must be a YAML file that can be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError("gates", path.name, f"must be YAML ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise RecipeError("gates", path.name, "must be a mapping of keys to values")
    try:
        return Gates.model_validate(data)
    except ValidationError as error:
        raise recipe_error(error, Gates, ("gates",)) from None
