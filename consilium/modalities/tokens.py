"""Tokens: the common currency between encoders and fusion; and what an encoder is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import torch
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.adaptation import Adaptation
from consilium.modalities.encoder_section import AdaptationSection, EncoderSection
from consilium.modalities.part import MASK

Inputs: TypeAlias = Mapping[str, Tensor]
"""Tensors [B, T, ...] of one modality by name, as its preparation collates them; among them ``mask``, bool [B, T]."""
Dense: TypeAlias = Callable[..., Tensor]
"""The part of an encoder without branches, over what is there of its modality: what a backend may run instead."""
FEATURES = "features"
"""Name of the tensor among a modality's inputs that an encoder's body has made before, float [B, R, T, C]."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What an encoder makes of a batch.

    Attributes
    ----------
    values : float [B, T, D]
    mask : bool [B, T]
        True where there is a token. A study without the modality has none.
    """

    values: Tensor
    mask: Tensor

    @property
    def present(self) -> Tensor:
        """Which studies have the modality, bool [B]."""
        return self.mask.any(dim=1)

    def keep(self, keep: Tensor) -> Tokens:
        """The same tokens, absent where `keep` (bool [B]) is False."""
        return Tokens(self.values, self.mask & keep[:, None])

    def mean(self) -> Tensor:
        """Over a study's tokens, float32 [B, D]; 0 where it has none."""
        values, weights = self.values.float().masked_fill(~self.mask[..., None], 0.0), self.mask.float().sum(dim=1)
        return values.sum(dim=1) / weights.clamp(min=1)[:, None]

    def summary(self) -> Tensor:
        """Mean and maximum over a study's tokens side by side, float32 [B, 2 D]; NaN where it has none."""
        values, mean = self.values.float(), self.mean()
        largest = values.masked_fill(~self.mask[..., None], -torch.inf).amax(dim=1)
        return torch.cat([mean, largest], dim=1).masked_fill(~self.present[:, None], torch.nan)


class FusionShape(Protocol):
    """What encoders must know of the fusion that reads their tokens.

    Attributes
    ----------
    width : int
        D of every token.
    heads : int
        Attention heads; they divide the width.
    dropout : float
    linear : bool
        It whitens the mean of a study's tokens and reads it by a linear map. Nothing is trained by gradient: an encoder
        best gives features as they are, of any width (`Encoder.token_width`), without a layer of random weights.
    """

    @property
    def width(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def dropout(self) -> float: ...

    @property
    def linear(self) -> bool: ...


class Encoder(nn.Module, ABC):
    """What makes tokens of one modality's inputs."""

    @classmethod
    @abstractmethod
    def build(cls, section: Any, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> Self:
        """The encoder that the modality's `section` of the recipe describes.

        Parameters
        ----------
        preparation : Preparation
            Of the modality, fitted.
        fusion : FusionShape
        pretrained : bool
            Read the weights that the section names; False where they come from an artifact.
        """

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tokens:
        """Tokens of a batch of studies."""

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and the tensor that explanations differentiate; None where there is none."""
        return self.forward(inputs), None

    def token_width(self, fusion: FusionShape) -> int:
        """D of its tokens: that of the fusion, unless the fusion is linear."""
        return fusion.width

    @property
    def one_scale(self) -> bool:
        """Its features are of one scale, and how much each varies means something: a linear fusion leaves it so."""
        return False

    def freeze_cache(self) -> None:
        """Compute what depends on the weights alone, once, in evaluation mode; they must not change afterwards."""

    # --- in training -------------------------------------------------------------------------------------------------

    def rate_of(self, parameter: nn.Parameter, rate: float) -> float:
        """The learning rate of one of the encoder's parameters, where that of the training is `rate`."""
        del parameter
        return rate

    def begin_epoch(self, epoch: int) -> None:
        """Get ready for the training epoch number `epoch`, from 0 on."""

    def end_training(self) -> None:
        """Take away what only the training needed; answers stay as they are."""


class DenseEncoder(Encoder):
    """A body, which makes features of what is there, and what makes tokens of these: a connector, as a rule.

    The body is the expensive part and has no branches, so that a backend can run it in its stead. What it made of a
    study may come with the inputs, as `FEATURES`; then it does not run at all.

    Attributes
    ----------
    dense_axes : tuple of tuple of int
        Shape of each input of `dense`, -1 where an axis may be of any length.
    width : int
        D.
    linear : bool
        Read by a linear fusion, under which nothing of it is trained.
    adaptation : Adaptation or None
        How much of the body is trained, see `adapt`; None: all of it.
    """

    dense_axes: tuple[tuple[int, ...], ...]
    width: int
    linear: bool = False
    adaptation: Adaptation | None = None

    def token_width(self, fusion: FusionShape) -> int:
        del fusion
        return self.width

    def forward(self, inputs: Inputs, dense: Dense | None = None) -> Tokens:
        """Tokens of a batch of studies; `dense` runs in place of `self.dense`, which it was made from."""
        mask = inputs[MASK]
        if not mask.any():
            return no_tokens(len(mask), self.width, mask.device)
        return self.tokens(self.features(inputs, dense), inputs)

    def features(self, inputs: Inputs, dense: Dense | None = None) -> Tensor:
        """What the body makes of the n things of a batch that are there, [n, T, C]: see `rows`."""
        if FEATURES in inputs:
            return inputs[FEATURES][self.rows(inputs)]
        return (dense or self.dense)(*self.dense_inputs(inputs))

    @property
    @abstractmethod
    def body(self) -> nn.Module:
        """What `dense` runs."""

    @property
    def reduction(self) -> str:
        """Names what `dense` does after the body, such as `Connector.reduction`: features reduced otherwise differ."""
        return ""

    @abstractmethod
    def rows(self, inputs: Inputs) -> Tensor:
        """Where the things are that the body reads one by one, such as a study's images, bool [B, R]."""

    @abstractmethod
    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """What `dense` is given for `inputs`: the n things where `rows` is True, in order; of no rows where none is."""

    @abstractmethod
    def dense(self, *tensors: Tensor) -> Tensor:
        """The features of `dense_inputs`, [n, T, C], without branches."""

    @abstractmethod
    def tokens(self, features: Tensor, inputs: Inputs) -> Tokens:
        """Tokens of a batch of studies of whose n things `features`, [n, T, C], were made."""

    @abstractmethod
    def dense_examples(self, length: int) -> tuple[Tensor, ...]:
        """Inputs of `dense` to trace it with, `length` long on every axis that may be of any length."""

    # --- in training -------------------------------------------------------------------------------------------------

    def observe(self, inputs: Inputs) -> None:
        """Take notice of the studies of a training batch, where their features come from a cache in training."""

    def blocks(self) -> Sequence[nn.Module]:
        """Parts of the body that can be trained or left alone, from input to output."""
        return [self.body]

    def adapt(self, section: EncoderSection, *, modality: str, pretrained: bool) -> None:
        """Let as much of the body be trained as the `modality`'s section of the recipe says; nothing, where `linear`.

        Raises
        ------
        InputError
            Where the body has not what the section names.
        """
        try:
            self.adaptation = Adaptation(
                AdaptationSection(name="frozen") if self.linear else section.adaptation,
                self.body,
                self.blocks(),
                learning_rate=section.learning_rate,
                pretrained=pretrained,
            )
        except InputError as error:
            raise error.at(f"modalities.{modality}") from None
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether the body never changes, so that its features can be kept."""
        return self.adaptation is not None and self.adaptation.frozen

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode; what is not trained of the body stays in the latter."""
        super().train(mode)
        if mode and self.adaptation is not None:
            self.adaptation.hold()
        return self

    def rate_of(self, parameter: nn.Parameter, rate: float) -> float:
        of_body = any(parameter is one for one in self.body.parameters())
        return self.adaptation.rate_of(parameter, rate) if self.adaptation is not None and of_body else rate

    def begin_epoch(self, epoch: int) -> None:
        if self.adaptation is not None:
            self.adaptation.begin_epoch(epoch)
            self.train(self.training)

    def end_training(self) -> None:
        if self.adaptation is not None:
            self.adaptation.merge()


def scatter_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Put `values` [n, ...] into the True places of `rows` (bool, any shape); zeros elsewhere."""
    out = values.new_zeros((*rows.shape, *values.shape[1:]))
    out[rows] = values
    return out


def no_tokens(studies: int, width: int, device: torch.device) -> Tokens:
    """What an encoder gives for a batch in which no study has its modality."""
    return Tokens(
        torch.zeros(studies, 1, width, device=device), torch.zeros(studies, 1, dtype=torch.bool, device=device)
    )
