"""The weights that a recipe begins from: resolved once, and refused for their licence before anything is read."""

from __future__ import annotations

from consilium.artifacts.pretrained_encoders import encoder_starts
from consilium.configuration.recipe import Recipe
from consilium.modalities.weight_source import require_licences
from consilium.preprocessing.collate import named_sources
from consilium.preprocessing.encoder_start import EncoderStart


def resolve_weights(recipe: Recipe) -> dict[str, EncoderStart]:
    """The pretrained encoders that `recipe` names, by modality.

    Raises
    ------
    InputError
        Weights cannot be read, or have a licence that the recipe does not allow.
    RegistryError, ArtifactError
        Encoders cannot be had, or were altered.
    """
    starts = encoder_starts(recipe)
    if recipe.weights_licences is not None:
        require_licences(named_sources(recipe, starts), recipe.weights_licences)
    return starts
