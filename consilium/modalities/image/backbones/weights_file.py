"""A file of weights for an image encoder: safetensors, with what must be known of them as its metadata. No torch here.

Tensors have the network's own names. A file without our metadata is taken, too: its pixels are then those of the
encoder's declaration, its licence is not stated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from consilium.domain.errors import InputError, os_cause
from consilium.modalities.image.backbones.description import ImageInput
from consilium.modalities.weight_source import NOT_STATED, WeightSource
from consilium.modalities.weights.model_folder import file_digest

FIELD = "modalities.image.weights"
FORMAT = "consilium image weights 1"
_KEY = "consilium"
_LONGEST_CAUSE = 120
_PYTORCH = (b"PK\x03\x04", b"\x80")
_TEXT = {b"<": "HTML or XML page", b"{": "JSON text", b"version https://git-lfs": "pointer of Git LFS"}


@dataclass(frozen=True, slots=True)
class WeightsHeader:
    """What a file says of its weights.

    Attributes
    ----------
    source : WeightSource
        With the digest of the file that they were published in.
    pixels : ImageInput or None
        What they take; None where the file does not say.
    """

    source: WeightSource
    pixels: ImageInput | None

    def metadata(self) -> dict[str, str]:
        """As safetensors keeps it."""
        assert self.pixels is not None
        data = {"format": FORMAT, "source": self.source.to_json(), "input": self.pixels.to_json()}
        return {_KEY: json.dumps(data, sort_keys=True)}


def read_header(path: Path, architecture: str, field: str = FIELD) -> WeightsHeader:
    """What the file at `path` says of its weights, which must be those of `architecture`.

    Raises
    ------
    InputError
        Where there is no such file, or it is no safetensors file, or of another architecture.
    """
    metadata = _read_metadata(path, field)
    if _KEY not in metadata:
        return WeightsHeader(WeightSource(architecture=architecture, source=path.name, sha256=file_digest(path)), None)
    try:
        data: Mapping[str, Any] = json.loads(metadata[_KEY])
        if data["format"] != FORMAT:
            raise ValueError(data["format"])
        header = WeightsHeader(WeightSource.from_json(data["source"]), ImageInput.from_json(data["input"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        rule = f"must be written by `consilium weights import` of this version ({FORMAT})"
        raise InputError(field, path.name, rule) from None
    if header.source.architecture != architecture:
        theirs = header.source.architecture
        rule = f"holds weights of {theirs}, must be of {architecture}; or set modalities.image.encoder={theirs}"
        raise InputError(field, path.name, rule)
    return header


def _read_metadata(path: Path, field: str) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            start = file.read(64)
        with safe_open(path, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except OSError as error:
        raise InputError(field, str(path), f"must be a file that can be read ({os_cause(error)})") from None
    except SafetensorError as error:
        raise InputError(field, path.name, _what_it_is(start, path, error)) from None


def _what_it_is(start: bytes, path: Path, error: Exception) -> str:
    """The rule that a file of another kind breaks."""
    rule = "must be a safetensors file with this encoder's weights"
    if start.startswith(_PYTORCH):
        how = f"`consilium weights import {path.name} --architecture NAME --out FILE` makes one of it"
        return f"{rule}; it is a PyTorch file: {how}"
    kind = next((kind for sign, kind in _TEXT.items() if start.lstrip().startswith(sign)), "")
    if kind:
        return f"{rule}; it is {'an' if kind[0] == 'H' else 'a'} {kind}, so the download went wrong"
    return f"{rule} ({str(error).strip().partition(chr(10))[0][:_LONGEST_CAUSE] or 'it is empty'})"


def stated(licence: str | None) -> str:
    """A licence as it is kept: `NOT_STATED` for none."""
    return (licence or "").strip() or NOT_STATED
