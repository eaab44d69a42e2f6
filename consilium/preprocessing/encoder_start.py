"""EncoderStart: a pretrained encoder of one modality, that the encoder of a recipe begins from.

Whoever trains resolves what a recipe names once (`consilium.artifacts.pretrained_encoders.encoder_starts`) and hands it
to `Preprocessing.fit`; nothing below reads an artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from consilium.domain.errors import InputError
from consilium.modalities.tokens import DenseEncoder, Encoder
from consilium.modalities.weight_source import WeightSource

_CHANGED, _LOW_RANK = ".base_layer.", ".lora_"
"""What `peft` calls a layer that has low-rank changes, and these."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderStart:
    """What is taken over of a pretrained encoder.

    Attributes
    ----------
    source : WeightSource
        What it is called, with the digest of its artifact. An alias may name others later: the version stands here.
    preparation : Preparation
        That it learned with.
    state : mapping of str to Tensor
        Its weights, as its own ``state_dict`` has them.
    """

    source: WeightSource
    preparation: Any
    state: Mapping[str, Tensor]

    @property
    def sources(self) -> tuple[WeightSource, ...]:
        """Where it came from, and what it began from itself."""
        return (self.source, *self.preparation.weight_sources)

    def give(self, encoder: Encoder, field: str, named: str) -> None:
        """Give `encoder` these weights.

        Low-rank changes that its recipe has put into it stay: they are of no effect yet. Under a linear fusion it has
        no connector, and needs none.

        Parameters
        ----------
        field, named : str
            The recipe's key and its value, for errors.

        Raises
        ------
        InputError
            They do not fit.
        """
        found, own = dict(self.state), encoder.state_dict()
        wanted = {name.replace(_CHANGED, "."): name for name in own if _LOW_RANK not in name}
        if (isinstance(encoder, DenseEncoder) and encoder.linear) or not wanted:
            found = {name: tensor for name, tensor in found.items() if name in wanted}  # no connector
        for name in sorted(set(found) ^ set(wanted)):
            all_of_it = "must have all weights of this encoder"
            rule = "must be encoders of the same architecture" if name in found else all_of_it
            raise InputError(field, named, f"{rule}; {name} is in one of them only")
        for name, tensor in found.items():
            if tensor.shape != own[wanted[name]].shape:
                shapes = f"{name} is {list(tensor.shape)} there and {list(own[wanted[name]].shape)} in this recipe"
                raise InputError(field, named, f"must fit the section's sizes and fusion.width; {shapes}")
        encoder.load_state_dict({wanted[name]: tensor for name, tensor in found.items()}, strict=False)
