"""A cohort's studies, prepared, in batches.

`StudyDataset` holds studies prepared in memory, but for the arrays that it takes from the memory-mapped cache
(`training.data.cached_cohort`); `StudyDataModule` is what the trainer reads.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.study import Record
from consilium.domain.variable_records import difference
from consilium.modalities.converter import Array
from consilium.modalities.registry import in_order
from consilium.modalities.typicality import typicality_of
from consilium.preprocessing.batch import Batch, Prepared
from consilium.preprocessing.collate import Preprocessing, converters
from training.cohorts.targets import step_labels
from training.data.cached_cohort import CachedCohort
from training.data.feature_cache import FeatureCache
from training.runtime.distributed import rank, world

_log = logging.getLogger(__name__)


class Item(NamedTuple):
    """A prepared study and what is known of it."""

    prepared: Prepared
    labels: npt.NDArray[np.float32]
    """[F], NaN unknown."""
    steps: npt.NDArray[np.float32]
    """[S]: see `training.cohorts.targets.step_labels`."""
    source: int
    """Position in `training.cohorts.cohort.Cohort.sources`; -1 unknown."""


class StudyDataset(Dataset[Item]):
    """Prepared studies with what is known of them, in the order of `rows`.

    A study in which nothing remains that the model reads is left out and counted in `left_out`.

    Parameters
    ----------
    cached : CachedCohort
    preprocessing : Preprocessing
    rows : int [n]
        Positions in the cohort.
    features : mapping of str to FeatureCache
        By modality whose encoder is frozen: what is not kept there yet, is computed at once, and then in place of the
        arrays of the modality's converter the features are read.

    Raises
    ------
    InputError
        Where the cohort means something else by a variable that `preprocessing` reads.
    """

    def __init__(
        self,
        cached: CachedCohort,
        preprocessing: Preprocessing,
        rows: npt.NDArray[np.int64],
        features: Mapping[str, FeatureCache] = MappingProxyType({}),
    ) -> None:
        for variable in preprocessing.read_variables:
            differing = difference(variable, cached.cohort.variables)
            if differing is not None:
                rule = f"must be what the model learned from, and has another {differing} in this cohort"
                raise InputError("cohort.variables", variable.name, rule)
        self._caches = cached.caches
        self._modalities = preprocessing.recipe.modalities
        self._converters = converters(preprocessing.recipe.modalities)
        # A statistic of what was sent reads the arrays themselves.
        self._read = {
            name for name in self._converters if name not in features or typicality_of(name).statistic is not None
        }
        self._prepared: list[Prepared] = []
        self._records: list[Mapping[str, Sequence[Record]]] = []
        self._present: list[frozenset[str]] = []
        self._features = dict(features)
        self._keys: dict[str, list[str | None]] = {name: [] for name in features}
        self.rows: list[int] = []
        self.left_out = 0
        for row in rows.tolist():
            study = cached.studies[row]
            within = study.within(preprocessing.recipe.inputs.window)
            records = {name: within.parts[name] for name in self._converters}
            try:
                prepared = preprocessing.prepare(study, self._converted(records))
            except InputError:
                self.left_out += 1
                continue
            self._prepared.append(self._without_arrays(prepared))
            self._records.append(records)
            self._present.append(frozenset(prepared.present))
            for name, cache in features.items():
                self._keys[name].append(cache.key(prepared))
            self.rows.append(row)
        for name, cache in features.items():
            cache.fill(self._keys[name], self.whole)
        cohort = cached.cohort
        self.labels = cohort.labels[self.rows] if self.rows else np.zeros((0, len(cohort.findings)))
        self.steps = step_labels(cohort.findings.targets, cohort.outcomes[self.rows]).astype(np.float32)
        place = {source: position for position, source in enumerate(cohort.sources)}
        self.sources = np.array([place.get(cohort.records[row].source or "", -1) for row in self.rows], np.int64)
        if self.left_out:
            _log.warning("%d study(ies) left out: nothing in them that this model reads", self.left_out)

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, position: int) -> Item:
        prepared = self._with_arrays(position, self._read)
        keys = {name: keys[position] for name, keys in self._keys.items()}
        features = {name: self._features[name].features(key) for name, key in keys.items() if key is not None}
        prepared = replace(prepared, features=features) if features else prepared
        return Item(prepared, self.labels[position], self.steps[position], int(self.sources[position]))

    def whole(self, position: int) -> Prepared:
        """A study with all of its arrays, and without features."""
        return self._with_arrays(position, self._converters)

    def _with_arrays(self, position: int, names: Collection[str]) -> Prepared:
        prepared, records = self._prepared[position], self._records[position]
        for name, arrays in self._converted({name: records[name] for name in names if records[name]}).items():
            converter = self._converters[name]
            prepared = prepared.with_arrays(name, **{converter.array: converter.joined(arrays)})
        return prepared

    def _converted(self, records: Mapping[str, Sequence[Record]]) -> dict[str, list[Array]]:
        """The arrays of a study's `records` of modalities that have a converter."""
        return {name: [self._array(name, record) for record in own] for name, own in records.items()}

    def _array(self, name: str, record: Record) -> Array:
        """From the cache, or of a record that the cohort holds in memory."""
        cache = self._caches.get(name)
        if cache is not None and record.digest in cache:
            return cache.array(record.digest)
        return self._converters[name](record)

    def _without_arrays(self, prepared: Prepared) -> Prepared:
        """`prepared` without what the cache holds, which `__getitem__` puts back."""
        for name, converter in self._converters.items():
            prepared = prepared.with_arrays(name, **{converter.array: converter.joined([])})
        return prepared

    @property
    def present(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which studies have each modality of the recipe, bool [n] each."""
        return {
            modality: np.array([modality in present for present in self._present], bool)
            for modality in in_order(self._modalities)
        }


class _Collate:
    """`Preprocessing.collate` over items of a `StudyDataset`; a class, so that it can travel to a loading process."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, items: Sequence[Item]) -> Batch:
        batch = self._preprocessing.collate(
            [item.prepared for item in items], np.stack([item.labels for item in items])
        )
        steps = torch.from_numpy(np.stack([item.steps for item in items]))
        return replace(batch, steps=steps, sources=torch.tensor([item.source for item in items]))


@dataclass(frozen=True, slots=True, eq=False)
class TaughtBatch:
    """A batch with what teachers say of its studies: logits [B, F] for each modality, NaN where one says nothing."""

    batch: Batch
    teachers: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.batch)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TaughtBatch:
        moved = {modality: logits.to(device, non_blocking=non_blocking) for modality, logits in self.teachers.items()}
        return TaughtBatch(self.batch.to(device, non_blocking=non_blocking), moved)

    def pin_memory(self) -> TaughtBatch:
        pinned = {modality: logits.pin_memory() for modality, logits in self.teachers.items()}
        return TaughtBatch(self.batch.pin_memory(), pinned)


class _TaughtDataset(Dataset[tuple[Item, npt.NDArray[np.float32]]]):
    """Items of a `StudyDataset`, each with what the teachers say of it, [teachers, F]."""

    def __init__(self, dataset: StudyDataset, teachers: npt.NDArray[np.float32]) -> None:
        self._dataset = dataset
        self._teachers = teachers

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> tuple[Item, npt.NDArray[np.float32]]:
        return self._dataset[position], self._teachers[self._dataset.rows[position]]


class _TaughtCollate:
    """As `_Collate`, over items of a `_TaughtDataset`."""

    def __init__(self, preprocessing: Preprocessing, modalities: Sequence[str]) -> None:
        self._collate = _Collate(preprocessing)
        self._modalities = tuple(modalities)

    def __call__(self, items: Sequence[tuple[Item, npt.NDArray[np.float32]]]) -> TaughtBatch:
        logits = torch.from_numpy(np.stack([taught for _, taught in items], axis=1))
        teachers = dict(zip(self._modalities, logits.unbind(), strict=True))
        return TaughtBatch(self._collate([item for item, _ in items]), teachers)


class EpochSampler(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees the batches it would have seen.

    Parameters
    ----------
    size : int
    seed : int
    batch_size : int
        Of the global batch.
    rank, world : int
        This process and how many share each batch: it takes the `rank`-th part of every whole batch.
    """

    def __init__(self, size: int, seed: int, batch_size: int = 1, rank: int = 0, world: int = 1) -> None:
        self._size = size
        self._seed = seed
        self._batch_size = batch_size
        self._rank = rank
        self._world = world
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size if self._world == 1 else self._size // self._batch_size * self._batch_size // self._world

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(self._size)
        if self._world > 1:
            batches = order[: self._size // self._batch_size * self._batch_size].reshape(-1, self._batch_size)
            order = np.split(batches, self._world, axis=1)[self._rank].ravel()
        yield from order.tolist()


class StudyDataModule(lightning.LightningDataModule):
    """Training and validation batches, of which each of several processes gets its share.

    Parameters
    ----------
    preprocessing : Preprocessing
    train : StudyDataset
    validation : StudyDataset or None
        None: there is no validation.
    recipe : Recipe
    teachers : mapping of str to float32 [N, F]
        Logits of teachers for every study of the cohort; where there are some, training batches are `TaughtBatch`.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        train: StudyDataset,
        validation: StudyDataset | None,
        recipe: Recipe,
        teachers: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__()
        self._preprocessing = preprocessing
        self._train = train
        self._validation = validation
        self._recipe = recipe
        self._teachers = dict(teachers or {})

    @property
    def validated(self) -> bool:
        """There are studies to validate on."""
        return self._validation is not None

    def train_dataloader(self) -> DataLoader:
        batch = self._recipe.training.batch_size
        options: dict[str, Any] = {
            "sampler": EpochSampler(len(self._train), self._recipe.seed, batch, rank(), world()),
            "batch_size": batch // world(),
            # The odd rest of an epoch would be a batch with poor statistics for batch normalisation.
            "drop_last": len(self._train) > batch,
        }
        if not self._teachers:
            return study_loader(self._train, self._preprocessing, self._recipe, **options)
        options["collate_fn"] = _TaughtCollate(self._preprocessing, list(self._teachers))
        taught = _TaughtDataset(self._train, np.stack(list(self._teachers.values()), axis=1))
        return study_loader(taught, self._preprocessing, self._recipe, **options)

    def val_dataloader(self) -> DataLoader:
        assert self._validation is not None
        # Shares may differ by one study: validation adds up sums, and no batch of it waits for another process.
        options: dict[str, Any] = {}
        if world() > 1:
            options = {"sampler": range(rank(), len(self._validation), world())}
        return study_loader(self._validation, self._preprocessing, self._recipe, **options)

    def transfer_batch_to_device(
        self, batch: Batch | TaughtBatch, device: torch.device, dataloader_idx: int
    ) -> Batch | TaughtBatch:
        del dataloader_idx
        return batch.to(device, non_blocking=True)


def study_loader(dataset: Dataset, preprocessing: Preprocessing, recipe: Recipe, **options: Any) -> DataLoader:
    """Batches of `dataset`, in its order unless `options` has a sampler; pinned where there is a GPU to pin for."""
    workers = recipe.training.workers
    settings: dict[str, Any] = {
        "batch_size": recipe.training.batch_size,
        "collate_fn": _Collate(preprocessing),
        "num_workers": workers,
        "persistent_workers": workers > 0,
        # Forking a process with threads (logging, decoding) may deadlock in the child.
        "multiprocessing_context": "spawn" if workers else None,
        "pin_memory": torch.cuda.is_available(),
    }
    return DataLoader(dataset, **(settings | options))
