"""A cohort's studies, prepared, in batches.

`cache_cohort` decodes what is not cached yet; `StudyDataset` holds notes and values prepared in memory and takes the
pixels from the memory-mapped cache; `StudyDataModule` is what the trainer reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import CohortError, InaccessibleFile, InputError, Problem
from consilium.domain.study import Study
from consilium.domain.variable_records import difference
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.preparation import SquareConverter
from consilium.modalities.image.section import ImageSection
from consilium.modalities.registry import in_order
from consilium.preprocessing.batch import Batch, Prepared
from consilium.preprocessing.collate import Preprocessing, converters
from training.cohorts.cohort import Cohort, StudyRecord
from training.data.image_cache import Filling, ImageCache, as_listed
from training.runtime.distributed import rank, world

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CachedCohort:
    """A cohort whose images lie in the cache.

    Attributes
    ----------
    cohort : Cohort
    cache : ImageCache
    studies : tuple of Study
        One per record, in order; their images have a shape and no pixels.
    refused : dict of str to str
        Image file (as the cohort names it) → why it could not be used.
    """

    cohort: Cohort
    cache: ImageCache
    studies: tuple[Study, ...]
    refused: dict[str, str]


def cache_cohort(
    cohort: Cohort, recipe: Recipe, folder: Path, advance: Callable[[], None] | None = None
) -> CachedCohort:
    """Decode the images of `cohort` into the cache at `folder`, as far as they are not there.

    A file that cannot be decoded is left out of its study, which keeps a warning. One that the operating system does
    not hand out may be sound, and is a problem of the cohort.

    Raises
    ------
    CohortError
        Where a file cannot be read, or images of one study belong to different patients or studies.
    """
    section = recipe.modalities.get("image", ImageSection())
    cache = ImageCache(folder, SquareConverter(section.size))
    paths = [image.path for record in cohort.records for image in record.images]
    filling = Filling({}, {})
    if "image" in recipe.modalities and paths:
        with DecodePool(start=False) as pool:
            filling = cache.fill(paths, pool, advance)
    studies, problems = [], []
    for row, record in enumerate(cohort.records, start=2):
        problems += _inaccessible(row, record, cohort, filling)
        try:
            studies.append(_study(record, cache, filling))
        except InputError as error:
            problems.append(Problem("studies", row, error.field, error.value, error.rule))
    if problems:
        raise CohortError(problems)
    refused = {
        path.relative_to(cohort.root).as_posix(): f"{type(error).__name__}: {error.field}: {error.rule}"
        for path, error in filling.refused.items()
    }
    if refused:
        _log.warning("%d of %d image file(s) could not be used; their studies go on without", len(refused), len(paths))
    return CachedCohort(cohort, cache, tuple(studies), refused)


def _inaccessible(row: int, record: StudyRecord, cohort: Cohort, filling: Filling) -> list[Problem]:
    refused = [(image.path, filling.refused.get(image.path)) for image in record.images]
    return [
        Problem("studies", row, "images", path.relative_to(cohort.root).as_posix(), error.rule)
        for path, error in refused
        if isinstance(error, InaccessibleFile)
    ]


def _study(record: StudyRecord, cache: ImageCache, filling: Filling) -> Study:
    images: list[Image] = []
    warnings = list(record.warnings)
    for file in record.images:
        if file.path in filling.digests:
            images.append(as_listed(cache.image(filling.digests[file.path]), file.view, file.acquired))
        elif file.path in filling.refused:
            warnings.append(f"an image left out: {filling.refused[file.path].rule}")
    return replace(record, warnings=tuple(warnings)).study(images)


class StudyDataset(Dataset[tuple[Prepared, npt.NDArray[np.float32]]]):
    """Prepared studies with their labels, in the order of `rows`.

    A study in which nothing remains that the model reads is left out and counted in `left_out`.

    Parameters
    ----------
    cached : CachedCohort
    preprocessing : Preprocessing
    rows : int [n]
        Positions in the cohort.

    Raises
    ------
    InputError
        Where the cohort means something else by a variable that `preprocessing` reads.
    """

    def __init__(self, cached: CachedCohort, preprocessing: Preprocessing, rows: npt.NDArray[np.int64]) -> None:
        for variable in preprocessing.read_variables:
            differing = difference(variable, cached.cohort.variables)
            if differing is not None:
                rule = f"must be what the model learned from, and has another {differing} in this cohort"
                raise InputError("cohort.variables", variable.name, rule)
        self._cache = cached.cache
        self._modalities = preprocessing.recipe.modalities
        self._converters = converters(preprocessing.recipe)
        self._prepared: list[Prepared] = []
        self.rows: list[int] = []
        self.left_out = 0
        for row in rows.tolist():
            study = cached.studies[row]
            try:
                prepared = preprocessing.prepare(study, self._converted(study))
            except InputError:
                self.left_out += 1
                continue
            self._prepared.append(self._without_arrays(prepared))
            self.rows.append(row)
        self.labels = cached.cohort.labels[self.rows] if self.rows else np.zeros((0, len(cached.cohort.findings)))
        if self.left_out:
            _log.warning("%d study(ies) left out: nothing in them that this model reads", self.left_out)

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, position: int) -> tuple[Prepared, npt.NDArray[np.float32]]:
        prepared = self._prepared[position]
        for name, arrays in self._converted(prepared.study).items():
            if len(arrays):
                prepared = prepared.with_arrays(name, **{self._converters[name].array: np.stack(arrays)})
        return prepared, self.labels[position]

    def _converted(self, study: Study) -> dict[str, list[npt.NDArray[Any]]]:
        """The cached arrays of the study's records, by modality."""
        return {name: [self._cache.square(image.digest) for image in study.images] for name in self._converters}

    def _without_arrays(self, prepared: Prepared) -> Prepared:
        """`prepared` without what the cache holds, which `__getitem__` puts back."""
        for name, converter in self._converters.items():
            nothing = np.zeros((0, *converter.shape), converter.dtype)
            prepared = prepared.with_arrays(name, **{converter.array: nothing})
        return prepared

    @property
    def present(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which studies have each modality of the recipe, bool [n] each."""
        return {
            modality: np.array([modality in prepared.present for prepared in self._prepared], bool)
            for modality in in_order(self._modalities)
        }


class _Collate:
    """`Preprocessing.collate` over items of a `StudyDataset`; a class, so that it can travel to a loading process."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, items: Sequence[tuple[Prepared, npt.NDArray[np.float32]]]) -> Batch:
        return self._preprocessing.collate([item[0] for item in items], np.stack([item[1] for item in items]))


@dataclass(frozen=True, slots=True, eq=False)
class TaughtBatch:
    """A batch with what teachers say of its studies: logits [B, F] for each modality, NaN where one says nothing."""

    batch: Batch
    teachers: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.batch)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TaughtBatch:
        moved = {modality: said.to(device, non_blocking=non_blocking) for modality, said in self.teachers.items()}
        return TaughtBatch(self.batch.to(device, non_blocking=non_blocking), moved)

    def pin_memory(self) -> TaughtBatch:
        pinned = {modality: said.pin_memory() for modality, said in self.teachers.items()}
        return TaughtBatch(self.batch.pin_memory(), pinned)


class _TaughtDataset(Dataset[tuple[Prepared, npt.NDArray[np.float32], npt.NDArray[np.float32]]]):
    """Items of a `StudyDataset`, each with what the teachers say of it, [teachers, F]."""

    def __init__(self, dataset: StudyDataset, teachers: npt.NDArray[np.float32]) -> None:
        self._dataset = dataset
        self._teachers = teachers

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> tuple[Prepared, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return (*self._dataset[position], self._teachers[self._dataset.rows[position]])


class _TaughtCollate:
    """As `_Collate`, over items of a `_TaughtDataset`."""

    def __init__(self, preprocessing: Preprocessing, modalities: Sequence[str]) -> None:
        self._collate = _Collate(preprocessing)
        self._modalities = tuple(modalities)

    def __call__(
        self, items: Sequence[tuple[Prepared, npt.NDArray[np.float32], npt.NDArray[np.float32]]]
    ) -> TaughtBatch:
        said = torch.from_numpy(np.stack([item[2] for item in items], axis=1))
        teachers = dict(zip(self._modalities, said.unbind(), strict=True))
        return TaughtBatch(self._collate([item[:2] for item in items]), teachers)


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
