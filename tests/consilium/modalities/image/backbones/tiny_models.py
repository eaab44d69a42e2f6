"""Small vision models of every kind, as whoever downloads one finds it: a folder with weights and preprocessor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

_LAYERS = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
_PATCHES = _LAYERS | {"image_size": 32, "patch_size": 4}
_WORDS = _LAYERS | {"num_hidden_layers": 1, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
_TWO_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}

HUGGING_FACE: dict[str, dict[str, Any]] = {
    "vit": _PATCHES,
    "dinov2": _PATCHES,
    "dinov2_with_registers": _PATCHES | {"num_register_tokens": 4},
    "dinov3_vit": _PATCHES | {"num_register_tokens": 4},
    "clip": {"vision_config": _PATCHES, "text_config": _WORDS},
    "siglip": {"vision_config": _PATCHES, "text_config": _WORDS},
    "swin": {"image_size": 64, "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
    "convnext": _TWO_STAGES | {"num_stages": 2, "image_size": 64},
    "resnet": _TWO_STAGES | {"embedding_size": 8, "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.25, "image_size": 64},
}
"""Configurations by model type."""

ATTENTION = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit", "clip", "siglip", "swin")
"""Types whose attention can be read."""

PREPROCESSOR = {
    "image_mean": [0.53, 0.53, 0.53],
    "image_std": [0.26, 0.26, 0.26],
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
}


def write_model(folder: Path, kind: str, seed: int = 0, **changed: Any) -> Path:
    """A model of the type `kind` with random weights in a folder of its own below `folder`."""
    torch.manual_seed(seed)
    place = folder / kind
    config = AutoConfig.for_model(kind, **HUGGING_FACE[kind] | changed)
    AutoModel.from_config(config).save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR), encoding="utf-8")
    (place / "README.md").write_text("---\nlicense: apache-2.0\n---\nMade up.\n", encoding="utf-8")
    return place
