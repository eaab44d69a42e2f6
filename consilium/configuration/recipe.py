"""Recipe: the whole typed configuration of a model and its training.

A recipe is a YAML file, either one of those packaged in `training/recipes` or the user's own. It is checked once,
cannot be changed afterwards, is logged with the run and travels in the artifact. No torch here.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError, RecipeError
from consilium.domain.study import Window
from consilium.modalities.registry import modalities, modality_names
from consilium.modalities.text.note import NoteKind


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
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortRecipe(_Section):
    """Which kind of cohort is read. The other keys are that kind's options, checked where the cohort is read."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = "manifest"

    @property
    def options(self) -> dict[str, Any]:
        """What the section holds beside the kind."""
        return dict(self.model_extra or {})


class InputRecipe(_Section):
    """Which records a model may read."""

    note_kinds: tuple[NoteKind, ...] = (NoteKind.HISTORY, NoteKind.INDICATION)
    mask_notes: bool = True
    """Take names, dates, identifiers and addresses out of every note before the model, of cohorts and of requests."""
    before_hours: float = Field(default=72.0, gt=0)
    after_hours: float = Field(default=0.0, ge=0)

    @property
    def window(self) -> Window:
        return Window(self.before_hours, self.after_hours)


class ImageRecipe(_Section):
    """The image encoder: a MONAI backbone that gives a feature map or patch tokens."""

    encoder: Literal["densenet121", "resnet18", "vit"] = "resnet18"
    size: int = Field(default=224, ge=64, le=1024, multiple_of=32)
    """Side of the square the image is letterboxed into, pixels."""
    width: int = Field(default=64, ge=8, le=1024)
    """Channels of the first stage (resnet18: 64 is the paper's; densenet121: 64) or hidden size of the ViT."""
    patch: int = Field(default=16, ge=4, le=64)
    """Side of a ViT's patch, pixels."""
    depth: int = Field(default=6, ge=1, le=24)
    """Layers of a ViT."""
    weights: str | None = None
    """A safetensors file with the backbone's weights; None: random."""
    frozen: bool = False


class TextRecipe(_Section):
    """The text encoder: a Hugging Face model by hub id or local folder, or a small BERT made from these numbers."""

    model: str | None = None
    """Hub id or local folder; None: a BERT from the numbers below, with a WordPiece trained on the training notes."""
    width: int = Field(default=128, ge=16)
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=4000, ge=100)
    max_tokens: int = Field(default=192, ge=16, le=512)
    dropout: Fraction = 0.1
    frozen: bool = False


class ObservationsRecipe(_Section):
    """The observation encoder: one token per variable, age and sex."""

    width: int = Field(default=64, ge=8)
    """Hidden width of the numeric embedding of a value."""
    depth: int = Field(default=1, ge=0)
    """Transformer layers over the observation tokens."""
    history: int = Field(default=1, ge=1, le=2)
    """1: the last value of each variable; 2: also how old it is, and how it changed since the one before."""


class FusionRecipe(_Section):
    """How the witnesses are weighed."""

    name: Literal["concat", "late", "cross_attention", "early", "gated", "bottleneck", "perceiver"] = "concat"
    width: int = Field(default=128, ge=16)
    """Width D of every token and of the joint state."""
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: Fraction = 0.1
    latents: int = Field(default=8, ge=1, le=64)
    """Tokens through which modalities meet: the bottleneck's, or the latents of a Perceiver."""


class ObjectivesRecipe(_Section):
    """Weights of the summed losses."""

    fused: float = Field(default=1.0, ge=0)
    """All modalities that the study has."""
    subset: float = Field(default=1.0, ge=0)
    """What modality dropout left of them."""
    modality: float = Field(default=0.5, ge=0)
    """Each modality's own head."""
    distillation: float = Field(default=0.0, ge=0)
    """What each modality's own head owes to a teacher that was trained on that modality alone."""
    gradient: Literal["sum", "mmpareto"] = "sum"
    """How the gradients of the fused and the modalities' own losses meet in an encoder."""


class AugmentationRecipe(_Section):
    """Changes to training images and notes. There is no left-right flip: laterality is medicine."""

    rotate_degrees: float = Field(default=5.0, ge=0, le=30)
    translate: Fraction = 0.04
    scale: Fraction = 0.08
    contrast: Fraction = 0.15
    noise: float = Field(default=0.02, ge=0)
    words: Fraction = 0.0
    """Share of a note's word pieces that a training batch blanks."""


class TrainingRecipe(_Section):
    epochs: Positive = 20
    batch_size: Positive = 32
    learning_rate: float = Field(default=1e-3, gt=0)
    text_learning_rate: float | None = Field(default=None, gt=0)
    """Own rate for a pretrained text model; None: the same."""
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
    modality_dropout: dict[ModalityName, Fraction] = {
        "image": 0.3,
        "text": 0.3,
        "observations": 0.3,
    }
    augmentation: AugmentationRecipe = AugmentationRecipe()
    devices: Positive = 1
    """Processes of data parallel training on this machine, a GPU each where there are GPUs."""
    compile: bool = False
    """torch.compile the model's training step."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the CPU's arithmetic; None: see `consilium.system.threads`."""
    workers: int = Field(default=0, ge=0)


class SplitRecipe(_Section):
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


class CalibrationRecipe(_Section):
    """How logits become probabilities, intervals and sets."""

    method: Literal["auto", "scaling", "vector", "isotonic", "venn_abers"] = "auto"
    """auto: the one with the lowest cross-validated NLL; scaling, unless that is beaten by a standard error."""
    target_sensitivity: float = Field(default=0.9, gt=0, lt=1)
    coverage: float = Field(default=0.9, gt=0.5, lt=1)
    """Share of the studies of each class whose prediction set holds the truth."""
    conformal_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the calibration split's patients that sets and intervals rest on; the rest fits the probabilities."""


class ReferRecipe(_Section):
    """When a study, or one finding of it, is referred to a human instead of being answered for."""

    both: bool = True
    """Refer a finding whose prediction set holds both answers, or none; the study, where that leaves no finding."""
    novelty: float | None = Field(default=0.01, gt=0, lt=0.5)
    """Share of ordinary studies that may be called unlike the training data, for each encoder; None: never refer."""
    required: tuple[ModalityName, ...] = ()
    """Refer where one of these is absent."""
    contradictions: bool = True
    """Refer where the images' files give another age or sex than the record: they may be another patient's."""
    checks: dict[CheckName, bool] = {}
    """False switches off one of the checks that the modalities declare."""
    audit: bool = False
    """Refer every study where the audit called the cohort suspect."""


class EvaluationRecipe(_Section):
    protocol: Literal["split", "cross_validation", "leave_one_source_out"] = "split"
    """split: one held-out test split. cross_validation: patient-grouped folds, out of fold, then one model of all.
    leave_one_source_out: the same with the sources of the studies as folds."""
    folds: int = Field(default=5, ge=2, le=20)
    bootstrap: Positive = 1000
    baselines: bool = False
    """Put simple baselines on the same folds beside the model."""
    audit: bool = True
    """Look for what is too good to be true in the cohort, and let the model carry what was found."""
    novelty: int = Field(default=200, ge=0)
    """Test studies that are made strange in every known way, to see whether the model notices; 0: none."""
    faithfulness: int = Field(default=0, ge=0)
    """Test studies on which the explanation methods are measured; 0: none."""


class Range(_Section):
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


class SweepRecipe(_Section):
    """What `consilium sweep` may change; the key of each range is written as settings are: ``training.epochs``."""

    trials: Positive = 20
    ranges: dict[str, Range] = {}


class Recipe(_Section):
    """One recipe is one registered model, ``consilium-<name>``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")
    description: str = ""
    seed: int = Field(default=7, ge=0)
    modalities: tuple[ModalityName, ...] = modality_names()
    cohort: CohortRecipe = CohortRecipe()
    inputs: InputRecipe = InputRecipe()
    image: ImageRecipe = ImageRecipe()
    text: TextRecipe = TextRecipe()
    observations: ObservationsRecipe = ObservationsRecipe()
    fusion: FusionRecipe = FusionRecipe()
    objectives: ObjectivesRecipe = ObjectivesRecipe()
    training: TrainingRecipe = TrainingRecipe()
    splits: SplitRecipe = SplitRecipe()
    calibration: CalibrationRecipe = CalibrationRecipe()
    refer: ReferRecipe = ReferRecipe()
    explain: dict[ModalityName, str] = {}
    """The method that explains each modality; of one without: the method that the evaluation found best."""
    evaluation: EvaluationRecipe = EvaluationRecipe()
    sweep: SweepRecipe = SweepRecipe()

    @model_validator(mode="after")
    def _modalities(self) -> Recipe:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must name at least one modality, none twice")
        return self

    def section(self, modality: str) -> Any:
        """What the recipe says of `modality`, as its own section class."""
        return getattr(self, modality)

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
            raise _recipe_error(error) from None


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
    except yaml.YAMLError as error:
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
    except yaml.YAMLError:
        raise RecipeError("--set", setting, "the value must be YAML") from None
    *parents, last = key.split(".")
    place = data
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise RecipeError("--set", setting, f"{parent} has no keys of its own")
    place[last] = value


def _recipe_error(error: ValidationError) -> RecipeError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "recipe"
    if first["type"] != "extra_forbidden":
        return RecipeError(field, first["input"], first["msg"].removeprefix("Value error, ").lower())
    *parents, key = (str(part) for part in first["loc"])
    elsewhere = [name for name in _section_keys() if name.endswith(f".{key}")]
    if elsewhere and not parents:
        return RecipeError(field, first["input"], f"is no known key; there is {', '.join(elsewhere)}")
    known = sorted(_keys(Recipe, tuple(parents)))
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return RecipeError(field, first["input"], f"is no known key; the nearest is {nearest[0]!r}")


def _section_keys() -> list[str]:
    """The keys of the sections, as settings name them: ``training.epochs``."""
    sections = [(name, field.annotation) for name, field in Recipe.model_fields.items()]
    return [
        f"{name}.{key}"
        for name, section in sections
        if isinstance(section, type) and issubclass(section, BaseModel)
        for key in section.model_fields
    ]


def _keys(model: type[BaseModel], parents: tuple[str, ...]) -> set[str]:
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return set(model.model_fields)
