"""The methods of each part of an explanation, by name.

A new method is one function and one line of `METHODS`. `Method.fast` says whether the level ``fast`` can afford it: its
cost is one backward pass for each finding. The others take many passes through an encoder and are for ``thorough``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy.typing as npt
from torch import nn

from consilium.configuration.recipe import ExplainRecipe
from consilium.domain.errors import InputError
from consilium.explain.case import Case
from consilium.modalities.image import attention_maps as attention
from consilium.modalities.image import explanation as images
from consilium.modalities.observations import explanation as values
from consilium.modalities.text import explanation as words
from consilium.network.diagnosis_model import DiagnosisModel

IMAGE, WORDS, VALUES = PARTS = ("image", "words", "values")
FAST, THOROUGH = LEVELS = ("fast", "thorough")

MODALITY = {IMAGE: "image", WORDS: "text", VALUES: "observations"}
"""Which modality each part looks into."""

DEFAULTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        FAST: {IMAGE: "gradient_x_activation", WORDS: "gradient_x_embedding", VALUES: "gradient_x_value"},
        THOROUGH: {IMAGE: "integrated_gradients", WORDS: "leave_one_out", VALUES: "shapley"},
    }
)
"""Used where neither the recipe nor the model's evaluation names a method."""


def _nothing(model: DiagnosisModel) -> list[nn.Module]:
    del model
    return []


@dataclass(frozen=True, slots=True)
class Method:
    """One way of making one part.

    Attributes
    ----------
    weigh : callable
        (case, positions of P findings) → weights in log-odds: [P, V, h, w] of images, [P, W] of words, [P, K] of
        values.
    fast : bool
        The level ``fast`` can afford it.
    watches : callable
        The modules of a model whose output it reads; they must be watched when the case is made.
    transformer : bool
        Reads attention, so that only a vision transformer has what it needs.
    """

    part: str
    name: str
    weigh: Callable[[Case, Sequence[int]], npt.NDArray]
    fast: bool = False
    watches: Callable[[DiagnosisModel], list[nn.Module]] = _nothing
    transformer: bool = False

    def suits(self, model: DiagnosisModel) -> bool:
        """Whether `model` has what this method reads."""
        has = MODALITY[self.part] in model.modalities
        return has and (not self.transformer or bool(attention.attention_layers(model)))


def _fine(model: DiagnosisModel) -> list[nn.Module]:
    return [images.fine_stage(model)]


def _last(model: DiagnosisModel) -> list[nn.Module]:
    return [images.last_stage(model)]


def _attention_and_last(model: DiagnosisModel) -> list[nn.Module]:
    return [*attention.attention_layers(model), images.last_stage(model)]


_ALL = (
    Method(IMAGE, "gradient_x_activation", images.gradient_x_activation, fast=True, watches=_fine),
    Method(IMAGE, "grad_cam", images.grad_cam, fast=True, watches=_last),
    Method(IMAGE, "layer_cam", images.layer_cam, fast=True, watches=_fine),
    Method(IMAGE, "integrated_gradients", images.integrated_gradients),
    Method(IMAGE, "occlusion", images.occlusion),
    Method(
        IMAGE,
        "attention_rollout",
        attention.attention_rollout,
        fast=True,
        watches=attention.attention_layers,
        transformer=True,
    ),
    Method(
        IMAGE,
        "gradient_attention",
        attention.gradient_attention,
        fast=True,
        watches=_attention_and_last,
        transformer=True,
    ),
    Method(WORDS, "gradient_x_embedding", words.gradient_x_embedding, fast=True),
    Method(WORDS, "integrated_gradients", words.integrated_gradients),
    Method(WORDS, "leave_one_out", words.leave_one_out),
    Method(VALUES, "gradient_x_value", values.gradient_x_value, fast=True),
    Method(VALUES, "leave_one_out", values.leave_one_out),
    Method(VALUES, "shapley", values.shapley),
)
METHODS: Mapping[str, Mapping[str, Method]] = MappingProxyType(
    {part: {method.name: method for method in _ALL if method.part == part} for part in PARTS}
)


def find_method(model: DiagnosisModel, part: str, name: str) -> Method:
    """The method of that name.

    Raises
    ------
    InputError
        Where there is no such part or method, or `model` has not what it reads.
    """
    if part not in METHODS:
        raise InputError("explain", part, f"must be one of {', '.join(PARTS)}")
    method = METHODS[part].get(name)
    if method is None:
        raise InputError(f"explain.{part}", name, f"must be one of {', '.join(METHODS[part])}")
    if method.transformer and not method.suits(model):
        raise InputError(f"explain.{part}", name, "reads attention, which only a ViT's image encoder has")
    return method


def chosen_methods(
    recipe: ExplainRecipe, measured: Mapping[str, Mapping[str, str]] | None, level: str
) -> dict[str, str]:
    """The method of each part: what the recipe names, else what was measured best at `level`, else the default.

    Parameters
    ----------
    measured : mapping of level to mapping of part to method, optional
        What `training.evaluation.faithfulness.best_methods` found for this model.

    Raises
    ------
    InputError
        For an unknown level.
    """
    if level not in LEVELS:
        raise InputError("level", level, f"must be one of {', '.join(LEVELS)}")
    named = {part: name for part, name in recipe.model_dump().items() if name is not None}
    return dict(DEFAULTS[level]) | dict((measured or {}).get(level, {})) | named
