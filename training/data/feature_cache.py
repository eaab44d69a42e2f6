"""Features of frozen encoders: computed once for every study, whatever the number of epochs, folds and evaluations.

A cache is one folder of the user's, for one body with its weights: another body, other weights or another way of
preparing records is another folder. Studies are named by the bytes that the body reads of them, so that a changed
record, window or vocabulary is another study.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import consilium
from consilium.modalities.converter import Array
from consilium.modalities.encoder_section import EncoderSection
from consilium.modalities.part import MASK, Part
from consilium.modalities.section import ModalitySection
from consilium.modalities.tokens import DenseEncoder, scatter_rows
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared, StudyFeatures
from consilium.preprocessing.collate import Preprocessing
from training.data.array_store import ArrayStore
from training.data.cache_folders import feature_cache_folder

_log = logging.getLogger(__name__)

_BATCH = 32
_DIGITS = 32
"""Of the digest that names a body's folder."""
_PACKAGES = ("torch", "monai", "transformers")
"""That compute features, and whose versions may compute them otherwise."""


class FeatureCache:
    """What the frozen body of one encoder makes of studies.

    Parameters
    ----------
    modality : str
    encoder : DenseEncoder
        Of `modality`.
    preprocessing : Preprocessing
        That the encoder's inputs are made by.
    folder : Path, optional
        Of all caches; `feature_cache_folder` unless given.
    """

    def __init__(
        self, modality: str, encoder: DenseEncoder, preprocessing: Preprocessing, folder: Path | None = None
    ) -> None:
        self.modality = modality
        key = _body_key(encoder, preprocessing.recipe.modalities[modality], preprocessing.preparations[modality].key)
        self._store = ArrayStore((folder or feature_cache_folder()) / modality / key[:_DIGITS])
        self._encoder: DenseEncoder | None = encoder
        self._preprocessing: Preprocessing | None = preprocessing

    def __len__(self) -> int:
        return len(self._store)

    def __getstate__(self) -> dict[str, Any]:
        # A loading process reads features; it computes none.
        return self.__dict__ | {"_encoder": None, "_preprocessing": None}

    def key(self, prepared: Prepared) -> str | None:
        """Names what the body reads of a study, all of whose arrays are there; None where it has nothing of it."""
        part: Part = prepared.parts[self.modality]
        return _digest(part.arrays) if part.present else None

    def features(self, key: str) -> StudyFeatures:
        """What is kept under `key`, read from the disk where it is used."""
        length, bits = self._store.facts(key)["mask"]
        mask = np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=length).astype(bool)
        return StudyFeatures(self._store[key], mask)

    def fill(self, keys: Sequence[str | None], study: Callable[[int], Prepared]) -> None:
        """Compute the features of those of `keys` that are not kept yet.

        Parameters
        ----------
        keys : sequence of (str or None)
            Of studies, by position.
        study : callable
            Position → the study with all of its arrays.

        Raises
        ------
        OSError
            Where there is no room.
        """
        wanted = {key: position for position, key in enumerate(keys) if key is not None}
        if all(key in self._store for key in wanted):
            return
        assert self._encoder is not None
        with self._store.filling() as writer, _ready(self._encoder):
            missing = {key: position for key, position in wanted.items() if key not in writer}
            _log.info("%s: features of %d study(ies) are computed, once", self.modality, len(missing))
            for some in _alike(missing, study, self.modality):
                found = self._computed([study(missing[key]) for key in some])
                for key, features in zip(some, found, strict=True):
                    mask = [len(features.mask), np.packbits(features.mask).tobytes().hex()]
                    writer.add(key, features.values, {"mask": mask})

    def _computed(self, studies: Sequence[Prepared]) -> list[StudyFeatures]:
        assert self._preprocessing is not None
        assert self._encoder is not None
        parts = [study.parts[self.modality] for study in studies]
        return computed_features(self._encoder, self._preprocessing.preparations[self.modality].collate(parts))


def feature_caches(
    model: DiagnosisModel, preprocessing: Preprocessing, folder: Path | None = None
) -> dict[str, FeatureCache]:
    """A cache for every frozen encoder of `model`, by modality."""
    return {
        name: FeatureCache(name, encoder, preprocessing, folder)
        for name, encoder in model.encoders.items()
        if isinstance(encoder, DenseEncoder) and encoder.frozen
    }


@torch.inference_mode()
def computed_features(encoder: DenseEncoder, inputs: Mapping[str, torch.Tensor]) -> list[StudyFeatures]:
    """What the body of `encoder`, in evaluation mode, makes of each of the B studies of `inputs`."""
    device = next(encoder.parameters()).device
    here = {name: tensor.to(device) for name, tensor in inputs.items()}
    rows = encoder.rows(here)
    values = scatter_rows(encoder.features(here).float(), rows)
    return [
        StudyFeatures(own[there].cpu().numpy(), mask.cpu().numpy())
        for own, there, mask in zip(values, rows, here[MASK], strict=True)
    ]


@contextmanager
def _ready(encoder: DenseEncoder) -> Iterator[None]:
    """`encoder` in evaluation mode, on a GPU where there is one."""
    training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        yield
    finally:
        encoder.train(training).to(device)


def _alike(missing: Mapping[str, int], study: Callable[[int], Prepared], modality: str) -> Iterator[list[str]]:
    """Keys in batches of studies with as many rows of everything: none is padded, so each gets what it gets alone."""
    by_shape: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for key, position in missing.items():
        arrays = study(position).parts[modality].arrays
        by_shape[tuple(array.shape for _, array in sorted(arrays.items()))].append(key)
    for keys in by_shape.values():
        yield from (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))


def _digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of named arrays, in hex."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _body_key(encoder: DenseEncoder, section: ModalitySection, preparation: str) -> str:
    """Names all that the features depend on, but for the studies."""
    own = set(EncoderSection.model_fields) | {"augmentation"}
    parts = [
        type(encoder).__qualname__,
        section.model_dump_json(exclude=own),
        encoder.reduction,
        preparation,
        consilium.__version__,
        *(version(package) for package in _PACKAGES),
        _weights_digest(encoder.body),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _weights_digest(body: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, stored with the weights or not."""
    tensors = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    return _digest({name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()})
