"""Recipe: the whole typed configuration of a model and its training.

A recipe is a YAML file, either one of those packaged in `training/recipes` or the user's own. It is checked once,
cannot be changed afterwards, is logged with the run and travels in the artifact. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from consilium.configuration.modality_sections import Scope, read_sections
from consilium.configuration.objectives_recipe import ObjectivesRecipe
from consilium.configuration.pretraining_recipe import PretrainingRecipe
from consilium.configuration.recipe_errors import recipe_error
from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError, RecipeError
from consilium.domain.study import Window
from consilium.modalities.registry import modalities
from consilium.modalities.section import Fraction, Section


def _installed(name: str) -> str:
    if name not in modalities():
        raise ValueError(f"must be one of {', '.join(modalities())}")
    return name


ModalityName = Annotated[str, AfterValidator(_installed)]
"""A modality that is installed (`consilium.modalities.registry`)."""


def _declared(name: str) -> str:
    known = [check for modality in modalities().values() for check in modality.refer_checks]
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return name


CheckName = Annotated[str, AfterValidator(_declared)]
"""A check that an installed modality declares."""
Positive = Annotated[int, Field(gt=0)]


MODALITY_DROPOUT = 0.3
"""Where a recipe names no chance for a modality."""


class CohortRecipe(Section):
    """Which kind of cohort is read. The other keys are that kind's options, checked where the cohort is read."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = "manifest"

    @property
    def options(self) -> dict[str, Any]:
        """What the section holds beside the kind."""
        return dict(self.model_extra or {})


class InputRecipe(Section):
    """How far from the reference time a record may lie that a model reads."""

    before_hours: float = Field(default=72.0, gt=0)
    after_hours: float = Field(default=0.0, ge=0)

    @property
    def window(self) -> Window:
        return Window(self.before_hours, self.after_hours)


FusionName = Literal[
    "concat",
    "late",
    "cross_attention",
    "early",
    "gated",
    "bottleneck",
    "perceiver",
    "gated_cross_attention",
    "hierarchical",
    "stacked",
]


class FusionRecipe(Section):
    """How the tokens of all modalities become one state."""

    name: Literal[FusionName, "auto"] = "concat"
    """stacked: linear, and fitted without gradient descent (`training.closed_form`) on features of encoders that are
    not trained; for tens to hundreds of patients. auto: one of the candidates."""
    candidates: tuple[FusionName, ...] = Field(default=("stacked", "concat"), min_length=2)
    """What auto chooses from, by AUROC in a cross-validation of the training studies: the first, unless another is
    better by more than a standard error over patients."""
    folds: int = Field(default=3, ge=2, le=20)
    """Of that cross-validation, grouped by patient."""
    width: int = Field(default=128, ge=16)
    """Width D of every token and of the joint state."""
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: Fraction = 0.1
    latents: int = Field(default=8, ge=1, le=64)
    """Tokens through which modalities meet: the bottleneck's, the latents of a Perceiver, or those that each modality
    brings to its pairs in a hierarchy."""

    @property
    def linear(self) -> bool:
        """Encoders give it features as they are, which it whitens and reads by a linear map."""
        return self.name == "stacked"

    @model_validator(mode="after")
    def _different(self) -> FusionRecipe:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates must name each fusion once")
        return self


class ClosedFormRecipe(Section):
    """How the fusion ``stacked`` is fitted, without gradient descent, on features of encoders that are not trained."""

    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0), min_length=1)
    """How strongly the weights of a modality's head may be held to 0 (L2, in studies): the best by nested folds."""
    folds: int = Field(default=5, ge=2, le=20)
    """Patient-grouped folds of the training studies that choose the strengths and stack the modalities."""


class TrainingRecipe(Section):
    epochs: Positive = 20
    batch_size: Positive = 32
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: Fraction = 0.1
    """Share of all steps."""
    gradient_clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and kept; 0: the weights as they are."""
    patience: Positive = 5
    """Epochs without a better validation loss before the run stops early."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU that has the units, float32 elsewhere."""
    modality_dropout: dict[ModalityName, Fraction] = Field(default_factory=dict)
    """Chance of each modality to be hidden from one of the losses; 0.3 for a modality that is not named."""
    devices: Positive = 1
    """Processes of data parallel training, over all machines, a GPU each where there are GPUs."""
    compile: bool = False
    """torch.compile the model's training step."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the CPU's arithmetic; None: see `consilium.system.threads`."""
    workers: int = Field(default=0, ge=0)
    closed_form: ClosedFormRecipe = ClosedFormRecipe()


class SplitRecipe(Section):
    """Fractions of the patients, where the cohort does not fix its splits."""

    train: Fraction = 0.6
    validation: Fraction = 0.1
    calibration: Fraction = 0.1
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _whole(self) -> SplitRecipe:
        if abs(self.train + self.validation + self.calibration + self.test - 1) > 1e-6:
            raise ValueError("train, validation, calibration and test must add up to 1")
        return self


class CalibrationRecipe(Section):
    """How logits become probabilities, intervals and sets."""

    method: Literal["auto", "scaling", "vector", "isotonic", "venn_abers"] = "auto"
    """auto: the one with the lowest cross-validated NLL; scaling, unless that is beaten by a standard error."""
    target_sensitivity: float = Field(default=0.9, gt=0, lt=1)
    coverage: float = Field(default=0.9, gt=0.5, lt=1)
    """Share of the studies of each class whose prediction set holds the truth."""
    conformal_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the calibration split's patients that sets and intervals rest on; the rest fits the probabilities."""


class ReferRecipe(Section):
    """When a study, or one finding of it, is referred to a human instead of being answered for."""

    both: bool = True
    """Refer a finding whose prediction set holds both answers, or none; the study, where that leaves no finding."""
    out_of_distribution: float | None = Field(default=0.01, gt=0, lt=0.5)
    """Share of ordinary studies that may be called out of distribution, for each encoder; None: never refer."""
    required: tuple[ModalityName, ...] = ()
    """Refer where one of these is absent."""
    contradictions: bool = True
    """Refer where the images' files give another age or sex than the record: they may be another patient's."""
    checks: dict[CheckName, bool] = Field(default_factory=dict)
    """False switches off one of the checks that the modalities declare."""
    audit: bool = False
    """Refer every study where the audit called the cohort suspect."""


class EvaluationRecipe(Section):
    protocol: Literal["split", "cross_validation", "leave_one_source_out"] = "split"
    """split: one held-out test split. cross_validation: patient-grouped folds, out of fold, then one model of all.
    leave_one_source_out: the same with the sources of the studies as folds."""
    folds: int = Field(default=5, ge=2, le=20)
    repeats: int = Field(default=1, ge=1, le=20)
    """How often the folds of a cross-validation are drawn and all of its models fitted. The model, its calibration and
    all tables but ``repeats`` are of the first draw."""
    bootstrap: Positive = 1000
    baselines: bool = False
    """Put simple baselines on the same folds beside the model."""
    audit: bool = True
    """Look for what is too good to be true in the cohort, and let the model carry what was found."""
    out_of_distribution: int = Field(default=200, ge=0)
    """Test studies that are altered in every known way, to measure whether the model calls them out of distribution;
    0: none."""
    faithfulness: int = Field(default=0, ge=0)
    """Test studies on which the explanation methods are measured; 0: none."""

    @model_validator(mode="after")
    def _drawn(self) -> EvaluationRecipe:
        if self.repeats > 1 and self.protocol != "cross_validation":
            raise ValueError(f"repeats must be 1 under the protocol {self.protocol}, which draws no folds")
        return self


class Range(Section):
    """What a sweep may choose a key's value from."""

    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        if bool(self.choices) == (self.low is not None and self.high is not None):
            raise ValueError("must have either choices or both low and high")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError("low must lie below high")
        return self


class SweepRecipe(Section):
    """What `consilium sweep` may change; the key of each range is written as settings are: ``training.epochs``."""

    trials: Positive = 20
    ranges: dict[str, Range] = Field(default_factory=dict)


class Recipe(Section):
    """One recipe is one registered model, ``consilium-<name>``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")
    description: str = ""
    seed: int = Field(default=7, ge=0)
    modalities: Annotated[dict[str, Any], BeforeValidator(read_sections)]
    """What the model reads, each with the section that the modality declares; ``{}`` takes its defaults."""
    weights_licences: tuple[str, ...] | None = None
    """Licences that pretrained weights may have, as `consilium models show` names them; ``not stated`` allows those
    whose licence is not known; None: any."""
    cohort: CohortRecipe = CohortRecipe()
    inputs: InputRecipe = InputRecipe()
    fusion: FusionRecipe = FusionRecipe()
    objectives: ObjectivesRecipe = ObjectivesRecipe()
    training: TrainingRecipe = TrainingRecipe()
    splits: SplitRecipe = SplitRecipe()
    calibration: CalibrationRecipe = CalibrationRecipe()
    refer: ReferRecipe = ReferRecipe()
    explain: dict[ModalityName, str] = Field(default_factory=dict)
    """The method that explains each modality; of one without: the method that the evaluation found best."""
    evaluation: EvaluationRecipe = EvaluationRecipe()
    sweep: SweepRecipe = SweepRecipe()
    pretraining: PretrainingRecipe = PretrainingRecipe()

    @model_validator(mode="after")
    def _names(self) -> Recipe:
        named = {
            "training.modality_dropout": self.training.modality_dropout,
            "refer.required": self.refer.required,
            "explain": self.explain,
        }
        named |= {f"pretraining.pairs.{number}": pair for number, pair in enumerate(self.pretraining.pairs)}
        for one in self.pretraining.stages:
            named[f"pretraining.stages.{one.name}.modalities"] = one.modalities
            named[f"pretraining.stages.{one.name}.frozen"] = one.frozen
        rule = f"must be one of the recipe's modalities, {', '.join(self.modalities)}"
        for key, names in named.items():
            for name in names:
                if name not in self.modalities:
                    raise RecipeError(key, name, rule)
        for one in self.pretraining.stages:
            if set(one.frozen) == set(self.modalities):
                key = f"pretraining.stages.{one.name}.frozen"
                raise RecipeError(key, ", ".join(one.frozen), "must leave a modality that learns")
        return self

    @model_validator(mode="after")
    def _aligns_what_is_trained(self) -> Recipe:
        for name in ("coral", "adversarial"):
            weight = getattr(self.objectives, name)
            if weight > 0 and self.fusion.name in ("stacked", "auto"):
                rule = f"must be 0 with the fusion {self.fusion.name}, which is not trained by gradient descent alone"
                raise RecipeError(f"objectives.{name}", weight, rule)
        return self

    @model_validator(mode="after")
    def _reads_no_answers(self) -> Recipe:
        for name, section in self.modalities.items():
            if section.answers_read:
                rule = "was written after the answer was known: only a stage in pretraining.stages may read it"
                raise RecipeError(f"modalities.{name}", ", ".join(section.answers_read), rule)
        return self

    @property
    def modality_dropout(self) -> dict[str, float]:
        """Chance of each modality of the recipe to be hidden in training."""
        return {name: self.training.modality_dropout.get(name, MODALITY_DROPOUT) for name in self.modalities}

    @property
    def scope(self) -> Scope:
        """Which records of a study the model reads."""
        return Scope(self.inputs.window, self.modalities)

    @property
    def masks_identifiers(self) -> bool:
        """Whether every modality reads free text without what identifies a patient."""
        return all(section.masks_identifiers for section in self.modalities.values())

    @property
    def registered_name(self) -> str:
        return f"consilium-{self.name}"

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_mapping(cls, data: dict[str, Any]) -> Recipe:
        """Check `data`; the first problem ends in a `RecipeError` that names the key, and the nearest known one."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise recipe_error(error, cls) from None


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path` and apply ``key=value`` `settings` (``training.epochs=3``).

    Raises
    ------
    RecipeError
        Where the file is not a mapping, a key is unknown or a value breaks its rule.
    """
    try:
        data = yaml.safe_load(decode_text(path.read_bytes(), "recipe"))
    except FileNotFoundError:
        raise InputError("recipe", str(path), "must be a recipe's name or a YAML file") from None
    except OSError as error:
        raise InputError("recipe", str(path), f"must be a file that can be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError("recipe", path.name, f"must be YAML ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise RecipeError("recipe", path.name, "must be a mapping of keys to values")
    for setting in settings:
        _set(data, setting)
    return Recipe.from_mapping(data)


def _set(data: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise RecipeError("--set", setting, "must read key=value, such as training.epochs=3")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RecipeError("--set", setting, "the value must be YAML") from None
    *parents, last = key.split(".")
    place = data
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise RecipeError("--set", setting, f"{parent} has no keys of its own")
    place[last] = value
