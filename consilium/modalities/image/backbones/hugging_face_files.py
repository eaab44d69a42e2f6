"""What a Hugging Face vision model's own files say: its configuration, its pixels, its licence. No torch here.

A hub id is resolved to a folder once, and only that needs a network; everything else reads local files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.description import Description, ImageInput
from consilium.modalities.image.section import ImageSection
from consilium.modalities.weights.model_folder import README, WEIGHTS, model_folder, weights_source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FIELD = "modalities.image.encoder"
_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", f"{WEIGHTS}*", README)
_PIXELS = "preprocessor_config.json"
_WHITE = 255.0
_READABLE_ATTENTION = frozenset(
    {
        "beit",
        "clip_vision_model",
        "deit",
        "dinov2",
        "dinov2_with_registers",
        "dinov3_vit",
        "ijepa",
        "siglip_vision_model",
        "swin",
        "vit",
        "vit_msn",
    }
)
"""Types whose attention is between all tokens, or within windows as Swin's."""
_ENCODERS: Mapping[str, str] = {"vit_mae": "vit"}
"""Types that were trained by a class of their own and are run by another: theirs hides patches at random."""


def image_model_folder(name: str) -> Path:
    """`model_folder` of an image encoder."""
    return model_folder(name, FIELD, _FILES)


def describe_model(section: ImageSection, *, pretrained: bool) -> Description:
    """What must be known of the vision model that `section` names; see `Description`.

    Raises
    ------
    InputError
        Where a file is missing or cannot be read, or the model reads no images.
    """
    name = section.encoder
    folder = image_model_folder(name)
    config = vision_config(folder, name)
    given = json.loads(config.to_json_string(use_diff=False))
    kind = str(given["model_type"])
    sources = (weights_source(folder, name, kind, FIELD, section.licence),) if pretrained else ()
    if "image_size" in given:
        given["image_size"] = section.size  # the number of positions follows from it
    return Description(
        input=read_pixels(folder, name, config),
        config=given,
        attention=kind in _READABLE_ATTENTION,
        sources=sources,
    )


def vision_config(folder: Path, name: str) -> PreTrainedConfig:
    """The configuration in `folder`; of a model of images and text, that of its image tower.

    Raises
    ------
    InputError
        Where there is none, or it is no vision model that this version of transformers has.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        cause = str(error).strip().partition("\n")[0][:120]
        raise InputError(FIELD, name, f"must be a folder with a config.json of a vision model ({cause})") from None
    config = getattr(config, "vision_config", config)
    if config.model_type in _ENCODERS:
        given = {key: value for key, value in config.to_dict().items() if key != "model_type"}
        config = AutoConfig.for_model(_ENCODERS[config.model_type], **given)
    if type(config) not in MODEL_MAPPING:
        raise InputError(FIELD, name, f"must be a model that AutoModel knows; it is a {config.model_type}")
    reads = MODEL_MAPPING[type(config)].main_input_name
    if reads != "pixel_values":
        raise InputError(FIELD, name, f"must be a vision model; a {config.model_type} reads {reads}")
    return config


def read_pixels(folder: Path, name: str, config: PreTrainedConfig) -> ImageInput:
    """What the model takes, as its preprocessor's file says.

    Raises
    ------
    InputError
        Where that file is missing, or does not say.
    """
    given = _preprocessor(folder, name)
    channels = int(getattr(config, "num_channels", 3))
    factor = float(given.get("rescale_factor", 1 / _WHITE)) if given.get("do_rescale", True) else 1.0
    low = -1.0 if given.get("rescale_offset", False) and given.get("do_rescale", True) else 0.0
    mean, sd = [0.0] * channels, [1.0] * channels
    try:
        if given.get("do_normalize", True):
            mean, sd = (_of_channels(given[key], channels) for key in ("image_mean", "image_std"))
        return ImageInput(
            channels=channels,
            mean=tuple(mean),
            sd=tuple(sd),
            low=low,
            high=low + _WHITE * factor,
            size=_trained_size(given, config),
            resizing=_resizing(given),
        )
    except (KeyError, TypeError, ValueError) as error:
        rule = f"must say in {_PIXELS} with which image_mean and image_std it was trained ({error})"
        raise InputError(FIELD, name, rule) from None


def _preprocessor(folder: Path, name: str) -> Mapping[str, Any]:
    for file, key in ((_PIXELS, ""), ("processor_config.json", "image_processor")):
        if (folder / file).is_file():
            try:
                found = json.loads((folder / file).read_text(encoding="utf-8"))
                found = found.get(key) if key else found
            except (ValueError, AttributeError):
                raise InputError(FIELD, name, f"must have a {file} that is a JSON object") from None
            if isinstance(found, dict):
                return found
    raise InputError(FIELD, name, f"must have a {_PIXELS}, which says how the pixels it was trained on were scaled")


def _of_channels(values: Any, channels: int) -> list[float]:
    """One number or a list as a list of `channels` numbers."""
    found = [float(value) for value in values] if isinstance(values, list) else [float(values)]
    return found * channels if len(found) == 1 else found


def _trained_size(given: Mapping[str, Any], config: PreTrainedConfig) -> int | None:
    own = getattr(config, "image_size", None)
    if isinstance(own, int):
        return own
    for key in ("crop_size", "size"):
        if key == "crop_size" and not given.get("do_center_crop", False):
            continue
        sizes = given.get(key)
        sides = list(sizes.values()) if isinstance(sizes, dict) else [sizes]
        if sides and isinstance(sides[0], int):
            return sides[0]
    return None


def _resizing(given: Mapping[str, Any]) -> str:
    """In words: ``shortest edge 518, centre crop 518 × 518``."""
    words = []
    if given.get("do_resize", True) and given.get("size"):
        words.append(_sides(given["size"]))
    if given.get("do_center_crop", False) and given.get("crop_size"):
        words.append(f"centre crop {_sides(given['crop_size'])}")
    return ", ".join(words)


def _sides(size: Any) -> str:
    if not isinstance(size, dict):
        return str(size)
    if set(size) == {"height", "width"}:
        return f"{size['height']} × {size['width']}"
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in size.items())
