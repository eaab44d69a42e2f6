"""What must be known of a backbone beside its weights. It travels in the artifact. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from consilium.modalities.weight_source import WeightSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """The pixels that a network takes: ``(low + grey × (high - low) - mean) / sd`` of a grey level in [0, 1].

    Attributes
    ----------
    channels : int
        Each is the same grey image.
    mean, sd : tuple of float
        Of each channel.
    low, high : float
        What black and white are before mean and sd.
    size : int or None
        Side of the square that the weights were trained on, pixels; None: any.
    resizing : str
        How whoever trained the weights came to that square. Consilium letterboxes: aspect kept, nothing cropped.
    """

    channels: int = 1
    mean: tuple[float, ...] = (0.5,)
    sd: tuple[float, ...] = (0.25,)
    low: float = 0.0
    high: float = 1.0
    size: int | None = None
    resizing: str = ""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.sd) == self.channels > 0:
            raise ValueError(f"mean and sd must have a value for each of {self.channels} channels")
        if min(self.sd) <= 0 or self.high <= self.low:
            raise ValueError("sd must be positive, and white above black")

    @property
    def scale_and_shift(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """By which a grey level in [0, 1] is multiplied and what is then added, for each channel."""
        scale = tuple((self.high - self.low) / sd for sd in self.sd)
        shift = tuple((self.low - mean) / sd for mean, sd in zip(self.mean, self.sd, strict=True))
        return scale, shift

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageInput:
        """Read what `to_json` gave.

        Raises
        ------
        TypeError, ValueError
            For other keys, or values that contradict each other.
        """
        given = dict(data)
        return cls(**given | {key: tuple(float(one) for one in given[key]) for key in ("mean", "sd") if key in given})


RADIOGRAPH = ImageInput()
"""A percentile-scaled radiograph, roughly standardised; a first layer that is trained learns the rest."""
IMAGENET = ImageInput(channels=3, mean=(0.485, 0.456, 0.406), sd=(0.229, 0.224, 0.225), size=224)
"""Three channels by the statistics of ImageNet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A backbone, but for its weights.

    Attributes
    ----------
    input : ImageInput
    config : mapping or None
        Configuration of a Hugging Face model.
    attention : bool
        Whether its attention weights can be read.
    sources : tuple of WeightSource
        Of the weights that it begins from; empty: random.
    """

    input: ImageInput = RADIOGRAPH
    config: Mapping[str, Any] | None = None
    attention: bool = False
    sources: tuple[WeightSource, ...] = field(default=())

    def begun_from(self, *sources: WeightSource) -> Description:
        """The same with `sources`."""
        return replace(self, sources=sources)

    def to_json(self) -> dict[str, Any]:
        return {
            "input": self.input.to_json(),
            "config": None if self.config is None else dict(self.config),
            "attention": self.attention,
            "sources": [source.to_json() for source in self.sources],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Description:
        """Read what `to_json` gave; `TypeError`, `ValueError` or `KeyError` where it is something else."""
        return cls(
            input=ImageInput.from_json(data["input"]),
            config=data["config"],
            attention=bool(data["attention"]),
            sources=tuple(WeightSource.from_json(source) for source in data["sources"]),
        )
