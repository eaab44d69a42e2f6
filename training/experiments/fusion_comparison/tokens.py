"""Tokens of a cohort's studies from trained encoders, on disk: a fusion can be trained on them without the encoders.

A folder holds the tokens of one split, those that are there, one after the other: ``<modality>.bin`` (float16 [T, D],
memory-mapped) and ``index.npz`` (how many of them belong to each study, with ids and labels). Padding is not stored: no
fusion sees it.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.modalities.tokens import Tokens
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset, study_loader

_INDEX = "index.npz"
_COUNTS = "counts/"
_STORED = np.float16
"""Tokens leave their encoder normalised, so half precision keeps three digits of each channel."""

Indices = npt.NDArray[np.int64]


class TokenSet:
    """Tokens and labels of N studies, read from the folder that `write_tokens` made.

    Attributes
    ----------
    width : int
        D.
    study_ids, patient_ids : str [N]
    labels : float32 [N, F]
    present : dict of str to bool [N]
        Which studies have tokens of each modality.
    """

    def __init__(self, folder: Path) -> None:
        with np.load(folder / _INDEX, allow_pickle=False) as index:
            self.width = int(index["width"])
            self.study_ids: npt.NDArray[np.str_] = index["study_ids"]
            self.patient_ids: npt.NDArray[np.str_] = index["patient_ids"]
            self.labels: npt.NDArray[np.float32] = index["labels"]
            counts = {name.removeprefix(_COUNTS): index[name] for name in index.files if name.startswith(_COUNTS)}
        self._values = {m: _open(folder / f"{m}.bin", int(n.sum()), self.width) for m, n in counts.items()}
        self._counts = counts
        self._starts = {m: np.cumsum(n) - n for m, n in counts.items()}
        self.present = {m: n > 0 for m, n in counts.items()}

    def __len__(self) -> int:
        return len(self.study_ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self._counts)

    def batch(self, rows: Indices) -> tuple[dict[str, Tokens], Tensor]:
        """Tokens of the studies at `rows`, padded to the longest of them, and labels float32 [B, F]."""
        tokens = {}
        for modality, counts in self._counts.items():
            place = np.arange(max(1, int(counts[rows].max())))
            mask = place < counts[rows, None]
            values = np.zeros((*mask.shape, self.width), np.float32)
            values[mask] = self._values[modality][(self._starts[modality][rows, None] + place)[mask]]
            tokens[modality] = Tokens(torch.from_numpy(values), torch.from_numpy(mask))
        return tokens, torch.from_numpy(self.labels[rows])


def _open(file: Path, tokens: int, width: int) -> npt.NDArray[np.float16]:
    # An empty file cannot be mapped.
    return np.memmap(file, _STORED, mode="r", shape=(tokens, width)) if tokens else np.zeros((0, width), _STORED)


@torch.inference_mode()
def write_tokens(
    folder: Path,
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    cached: CachedCohort,
    rows: Indices,
    recipe: Recipe,
) -> None:
    """Encode the studies at `rows` and store their tokens in `folder`, which appears when everything is written.

    A study in which the model reads nothing is left out.

    Raises
    ------
    TrainingError
        Where none remains.
    """
    dataset = StudyDataset(cached, preprocessing, rows)
    if not len(dataset):
        raise TrainingError("there is no study whose tokens could be kept")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    records = [cached.cohort.records[row] for row in dataset.rows]
    store_tokens(
        folder,
        (model.encode(batch.to(device)) for batch in study_loader(dataset, preprocessing, recipe)),
        study_ids=np.array([record.study_id for record in records]),
        patient_ids=np.array([record.patient_id for record in records]),
        labels=dataset.labels,
    )
    model.cpu()


def store_tokens(
    folder: Path,
    batches: Iterable[Mapping[str, Tokens]],
    *,
    study_ids: npt.NDArray[np.str_],
    patient_ids: npt.NDArray[np.str_],
    labels: npt.NDArray[np.floating],
) -> None:
    """Store the tokens of N studies, batch by batch, in `folder`, which appears when everything is written.

    Parameters
    ----------
    batches : iterable of mapping
        Tokens of every modality, of the studies in their order.
    study_ids, patient_ids : str [N]
    labels : float [N, F]
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    counts: dict[str, list[npt.NDArray[np.int64]]] = defaultdict(list)
    width = 0
    for batch in batches:
        for modality, tokens in batch.items():
            width = tokens.values.shape[-1]
            with (partial / f"{modality}.bin").open("ab") as file:
                file.write(tokens.values[tokens.mask].float().cpu().numpy().astype(_STORED).tobytes())
            counts[modality].append(tokens.mask.sum(dim=1).cpu().numpy())
    columns = {f"{_COUNTS}{modality}": np.concatenate(parts) for modality, parts in counts.items()}
    np.savez(
        partial / _INDEX,
        allow_pickle=False,
        width=np.array(width),
        study_ids=study_ids,
        patient_ids=patient_ids,
        labels=labels.astype(np.float32),
        **columns,
    )
    partial.replace(folder)
