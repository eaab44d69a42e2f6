"""Section of a modality whose encoder is a body, such as a pretrained network, and a connector to the fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from consilium.modalities.section import ModalitySection, Section


class _Named(Section):
    """One of several ways, each of which reads some of the keys; a key that is not read must keep its default."""

    reads: ClassVar[Mapping[str, tuple[str, ...]]]
    """The keys that each way reads, by its name."""

    @model_validator(mode="after")
    def _read(self) -> Self:
        name: str = self.name  # type: ignore[attr-defined]
        for key, field in type(self).model_fields.items():
            if key != "name" and key not in self.reads[name] and getattr(self, key) != field.default:
                readers = [reader for reader, keys in self.reads.items() if key in keys]
                raise ValueError(f"{key} is read by {' and '.join(readers)} alone, not by {name}")
        return self


class ConnectorSection(_Named):
    """How the features of an encoder's body become tokens of the fusion's width."""

    reads: ClassVar = {
        "linear": (),
        "mlp": ("hidden",),
        "resampler": ("tokens", "depth"),
        "grid": ("cells",),
        "attention_pool": (),
    }

    name: Literal["linear", "mlp", "resampler", "grid", "attention_pool"] = "linear"
    """linear: every cell, patch or word is a token. mlp: the same through a hidden layer. resampler: a few latents read
    them (Perceiver). grid: cells of a map, averaged. attention_pool: one token of all."""
    hidden: int | None = Field(default=None, ge=1)
    """Width of the mlp's hidden layer; None: that of the fusion."""
    tokens: int = Field(default=8, ge=1, le=256)
    """Latents of the resampler, each a token."""
    depth: int = Field(default=2, ge=1)
    """Layers of the resampler."""
    cells: int = Field(default=3, ge=1, le=64)
    """Cells a side of the grid."""


class AdaptationSection(_Named):
    """How much of an encoder's body is trained with the rest of the model, and from when on."""

    reads: ClassVar = {
        "all": ("batch_statistics", "layer_decay", "head_epochs", "block_epochs"),
        "last": ("blocks", "batch_statistics", "layer_decay", "head_epochs", "block_epochs"),
        "lora": ("rank", "alpha", "targets", "head_epochs"),
        "frozen": (),
    }

    name: Literal["all", "last", "lora", "frozen"] = "all"
    """all: the whole body. last: its last blocks. lora: low-rank changes of its layers' weights, which are added to
    them when the training ends. frozen: nothing of it."""
    blocks: int = Field(default=1, ge=1)
    """How many of the last blocks are trained."""
    batch_statistics: Literal["learned", "kept"] = "learned"
    """Of batch norms in what is trained: learned anew, or kept as they came, as suits batches of a few studies."""
    rank: int = Field(default=8, ge=1)
    """Of a low-rank change."""
    alpha: int = Field(default=16, ge=1)
    """Low-rank changes count alpha / rank times."""
    targets: tuple[str, ...] = ()
    """Names of the layers that get low-rank changes (``query``); none: those that suit the family of networks."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of a block as a share of that of the block after it."""
    head_epochs: int = Field(default=0, ge=0)
    """Epochs in which nothing of the body is trained yet, only what reads it."""
    block_epochs: int = Field(default=0, ge=0)
    """After these, one block more from the last one on every so many epochs; 0: all at once."""


class EncoderSection(ModalitySection):
    """What every encoder of a body and a connector can be asked."""

    connector: ConnectorSection = ConnectorSection()
    adaptation: AdaptationSection = AdaptationSection()
    learning_rate: float | None = Field(default=None, gt=0)
    """Own rate of the body, such as of a pretrained one; None: that of the training."""
