"""From a recipe's section to a backbone: first what must be known of it, then the network with its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.backbone import Backbone, require_cells
from consilium.modalities.image.backbones.catalogue import ARCHITECTURES, is_hugging_face
from consilium.modalities.image.backbones.description import Description
from consilium.modalities.image.backbones.hugging_face_files import describe_model
from consilium.modalities.image.backbones.weights_file import FIELD, read_header
from consilium.modalities.image.section import MONAI, RANDOM, ImageSection
from consilium.modalities.section import names_encoders
from consilium.modalities.weight_source import WeightSource
from consilium.system.installed import load

_SHOWN = 2


def describe(section: ImageSection) -> Description:
    """What must be known of the encoder that `section` names, beside its weights.

    Reads the model's own files; a network only where a hub id is named, or MONAI's weights.

    Raises
    ------
    InputError
        Where a file cannot be read, or is not what the section says.
    """
    if is_hugging_face(section.encoder):
        if section.weights not in (None, RANDOM):
            rule = f"must be left out, {RANDOM} or pretrained encoders: {section.encoder} has its own"
            raise InputError(FIELD, section.weights, rule)
        return describe_model(section, pretrained=section.weights != RANDOM)
    architecture = ARCHITECTURES[section.encoder]
    attention = section.encoder == "vit"
    if section.weights in (None, RANDOM):
        return Description(input=architecture.input, attention=attention)
    if section.weights == MONAI:
        digest = _digest(_downloaded(architecture.name))
        source = WeightSource(architecture=architecture.name, source="fetched by MONAI", sha256=digest)
        return Description(input=architecture.downloaded, attention=attention, sources=(source,))
    header = read_header(Path(str(section.weights)).expanduser(), architecture.name)
    return Description(input=header.pixels or architecture.input, attention=attention, sources=(header.source,))


def build(section: ImageSection, description: Description, *, pretrained: bool) -> Backbone:
    """The backbone that `section` names.

    Parameters
    ----------
    pretrained : bool
        Read the weights that the section names; False where they come from an artifact.

    Raises
    ------
    InputError
        Where the weights are not this network's, or its maps are too coarse for explanations.
    """
    if is_hugging_face(section.encoder):
        from consilium.modalities.image.backbones.hugging_face import build_model

        own = pretrained and section.weights != RANDOM and not names_encoders(section.weights)
        backbone: Backbone = build_model(section, description, pretrained=own)
    else:
        backbone = _build_named(section, description, pretrained=pretrained)
    require_cells(backbone.fine_cells, section.size)
    return backbone


def _build_named(section: ImageSection, description: Description, *, pretrained: bool) -> Backbone:
    architecture = ARCHITECTURES[section.encoder]
    backbone: Backbone = load(architecture.build)(section, description.input, **architecture.arguments)
    if pretrained and section.weights not in (None, RANDOM) and not names_encoders(section.weights):
        monai = section.weights == MONAI
        tensors = _downloaded(architecture.name) if monai else load_file(Path(str(section.weights)).expanduser())
        load_weights(backbone, tensors, Path(str(section.weights)).name)
    return backbone


def load_weights(backbone: Backbone, tensors: Mapping[str, Tensor], name: str, field: str = FIELD) -> None:
    """Fill `backbone` from `tensors` by the network's own keys.

    Raises
    ------
    InputError
        Where one is missing, too many, of another shape, or not finite.
    """
    ours = backbone.network.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in ours.items()}
    problem = (
        _listed("lacks", [key for key in ours if key not in tensors])
        or _listed("has", [key for key in tensors if key not in ours], ", which this encoder has not")
        or _listed(
            "has",
            [f"{key} {tuple(one.shape)}" for key, one in tensors.items() if tuple(one.shape) != shapes[key]],
            ", of another shape",
        )
        or _listed("has", [key for key, one in tensors.items() if not torch.isfinite(one).all()], ", not finite")
    )
    if problem:
        raise InputError(field, name, f"must be this encoder's weights ({problem})")
    backbone.network.load_state_dict({key: tensors[key].to(ours[key].dtype) for key in ours})


def _listed(verb: str, keys: list[str], what: str = "") -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{verb} {', '.join(keys[:_SHOWN])}{more}{what}"


@cache
def _downloaded(name: str) -> dict[str, Tensor]:
    """The weights that MONAI names for the architecture of that name."""
    architecture = ARCHITECTURES[name]
    if not architecture.downloads:
        some = ", ".join(name for name, one in ARCHITECTURES.items() if one.downloads)
        raise InputError(FIELD, MONAI, f"must be a file: MONAI has no weights of {name}, only of {some}")
    try:
        found, again = (load(architecture.downloads)(**architecture.arguments) for _ in range(2))
    except (OSError, RuntimeError, ValueError) as error:
        rule = (
            f"cannot be fetched ({type(error).__name__}): fetch it once where there is a network, and copy torch's "
            "cache (TORCH_HOME) here"
        )
        raise InputError(FIELD, MONAI, rule) from None
    # MONAI's loaders pass over what they do not find in the file, without a word.
    random = _listed("", [key for key in found if not torch.equal(found[key], again[key])], " stay random")
    if random:
        raise InputError(FIELD, MONAI, f"must be weights that MONAI's loader of {name} finds;{random}")
    return dict(found)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
