"""Pretrained encoders as an artifact: what `consilium pretrain` ends in and what recipes name as weights.

    encoders.safetensors   weights of the encoders and of the space in which they are compared
    recipe.yaml            the whole configuration
    preprocessing/         scaling, text configuration and tokenizer files
    audit.json             what the audit of the pretraining found
    card.md                for readers
    details.json           package versions and facts of the pretraining
    manifest.json          format, SHA-256 and size of every file above

As of a model (`consilium.artifacts.artifact`), nothing is pickled, and the manifest's SHA-256 names the artifact.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from safetensors.torch import load_model, save_model

from consilium import __version__
from consilium.artifacts.artifact import RECORDED_PACKAGES, write_folder
from consilium.artifacts.manifest import (
    AUDIT,
    CARD_FILES,
    DETAILS,
    ENCODER_FILES,
    PREPROCESSING,
    RECIPE,
    as_json,
    read_json,
    read_recipe,
    reading,
    verify,
)
from consilium.artifacts.model_registry import ResolvedModel, resolve
from consilium.configuration.pretraining_stages import recipe_of_stages
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import ArtifactError, InputError
from consilium.modalities.section import ENCODERS_FILE, names_encoders
from consilium.modalities.weight_source import OWN, WeightSource
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.collate import Preprocessing
from consilium.preprocessing.encoder_start import EncoderStart

CARD = CARD_FILES[0]


@dataclass(frozen=True, slots=True, eq=False)
class PretrainedEncoders:
    """Encoders and all that they need.

    Attributes
    ----------
    recipe : Recipe
        Of the pretraining.
    preprocessing : Preprocessing
        Reads what any stage of the pretraining read.
    audit : dict
        Tables and verdict of the audit, for `json.dumps`.
    details : dict
        Facts of the pretraining, for `json.dumps`; nothing of any patient.
    card : str
    """

    recipe: Recipe
    preprocessing: Preprocessing
    model: AlignedEncoders
    audit: dict[str, Any]
    details: dict[str, Any]
    card: str


def save_encoders(folder: Path, encoders: PretrainedEncoders) -> str:
    """Write `encoders` into `folder`, which must not exist, and give its manifest's SHA-256.

    The folder appears whole and on disk, or not at all.

    Raises
    ------
    ArtifactError
        Where `folder` exists.
    """
    return write_folder(folder, "encoders", lambda partial: _write_parts(partial, encoders))


def _write_parts(folder: Path, encoders: PretrainedEncoders) -> None:
    save_model(encoders.model, str(folder / ENCODERS_FILE))
    (folder / RECIPE).write_text(encoders.recipe.to_yaml(), encoding="utf-8")
    encoders.preprocessing.save(folder / PREPROCESSING)
    packages = {package: version(package) for package in RECORDED_PACKAGES}
    written = {"consilium": __version__, "python": python_version(), "packages": packages}
    (folder / DETAILS).write_bytes(as_json(encoders.details | written))
    (folder / AUDIT).write_bytes(as_json(encoders.audit))
    (folder / CARD).write_text(encoders.card, encoding="utf-8")


def load_encoders(folder: Path, device: torch.device | str = "cpu") -> PretrainedEncoders:
    """Read the encoders in `folder`, verified first; in evaluation mode on `device`.

    Raises
    ------
    ArtifactError
        Names the file and the rule: incomplete, altered, or of a format or version that this one does not know.
    """
    verify(folder, ENCODER_FILES)
    recipe = read_recipe(folder)
    with reading(DETAILS):
        details = dict(read_json(folder / DETAILS))
    with reading(AUDIT):
        audit = dict(read_json(folder / AUDIT))
    with reading(PREPROCESSING):
        preprocessing = Preprocessing.load(folder / PREPROCESSING, recipe_of_stages(recipe))
        model = AlignedEncoders(recipe, preprocessing, pretrained=False)
    with reading(ENCODERS_FILE):
        load_model(model, folder / ENCODERS_FILE, strict=True)
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise ArtifactError(f"{ENCODERS_FILE}: every weight must be finite")
    card = (folder / CARD).read_text(encoding="utf-8")
    return PretrainedEncoders(recipe, preprocessing, model.to(device).eval(), audit, details, card)


def resolve_encoders(source: str) -> ResolvedModel:
    """A verified local copy of the encoders that `source` names; see `consilium.artifacts.model_registry.resolve`."""
    return resolve(source, ENCODER_FILES)


# --- as weights of a recipe ------------------------------------------------------------------------------------------


def encoder_starts(recipe: Recipe) -> dict[str, EncoderStart]:
    """The pretrained encoders that `recipe` names as weights, by modality; each artifact is read once.

    Raises
    ------
    InputError
        The encoders that are named have none of that modality.
    RegistryError, ArtifactError
        They cannot be had, or were altered.
    """
    named = {name: section.weights for name, section in recipe.modalities.items() if names_encoders(section.weights)}
    sources = {str(weights) for weights in named.values()}
    resolved = {source: resolve_encoders(source) for source in sources}
    read = {source: load_encoders(found.folder) for source, found in resolved.items()}
    return {
        name: _start(read[str(weights)], resolved[str(weights)].identity, name, str(weights))
        for name, weights in named.items()
    }


def _start(encoders: PretrainedEncoders, identity: ModelIdentity, modality: str, named: str) -> EncoderStart:
    if modality not in encoders.recipe.modalities:
        rule = f"must be encoders of {modality}; these are of {', '.join(encoders.recipe.modalities)}"
        raise InputError(f"modalities.{modality}.weights", named, rule)
    encoder = encoders.model.encoders[modality]
    source = WeightSource(
        architecture=type(encoder).__name__,
        source=f"{identity.name} version {identity.version}",
        sha256=identity.manifest_digest,
        licence=OWN,
    )
    return EncoderStart(source, encoders.preprocessing.preparations[modality], dict(encoder.state_dict()))
