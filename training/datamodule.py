"""A cohort's studies, prepared, in batches.

`cache_cohort` decodes what is not cached yet; `StudyDataset` holds notes and values prepared in memory and takes the
pixels from the memory-mapped cache; `StudyDataModule` is what the trainer reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from consilium.collate import Batch, Prepared, Preprocessing
from consilium.errors import CohortError, InputError, Problem
from consilium.ingest.decode_pool import DecodePool
from consilium.recipe import Recipe
from consilium.study import Image, Modality, Study
from training.cohorts.cohort import Cohort, StudyRecord
from training.image_cache import Filling, ImageCache, as_listed

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

    A file that cannot be decoded is left out of its study, which keeps a warning.

    Raises
    ------
    CohortError
        Where images of one study belong to different patients or studies.
    """
    # Unfitted: how an image becomes a square depends on the recipe alone.
    unfitted = Preprocessing(recipe, (), None, None)
    cache = ImageCache(folder, unfitted.image_key, unfitted.image, recipe.image.size)
    paths = [image.path for record in cohort.records for image in record.images]
    filling = Filling({}, {})
    if Modality.IMAGE in recipe.modalities and paths:
        with DecodePool() as pool:
            filling = cache.fill(paths, pool, advance)
    studies, problems = [], []
    for row, record in enumerate(cohort.records, start=2):
        try:
            studies.append(_study(record, cache, filling))
        except InputError as error:
            problems.append(Problem("studies", row, error.field, error.value, error.rule))
    if problems:
        raise CohortError(problems)
    refused = {
        path.relative_to(cohort.root).as_posix(): f"{type(error).__name__}: {error.rule}"
        for path, error in filling.refused.items()
    }
    if refused:
        _log.warning("%d of %d image file(s) could not be used; their studies go on without", len(refused), len(paths))
    return CachedCohort(cohort, cache, tuple(studies), refused)


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
    """

    def __init__(self, cached: CachedCohort, preprocessing: Preprocessing, rows: npt.NDArray[np.int64]) -> None:
        self._cache = cached.cache
        self._prepared: list[Prepared] = []
        self.rows: list[int] = []
        self.left_out = 0
        for row in rows.tolist():
            study = cached.studies[row]
            squares = [self._cache.square(image.digest) for image in study.images]
            try:
                prepared = preprocessing.prepare(study, images=squares)
            except InputError:
                self.left_out += 1
                continue
            self._prepared.append(replace(prepared, images=np.zeros((0, *prepared.images.shape[1:]), np.uint16)))
            self.rows.append(row)
        self.labels = cached.cohort.labels[self.rows] if self.rows else np.zeros((0, len(cached.cohort.findings)))
        if self.left_out:
            _log.warning("%d study(ies) left out: nothing in them that this model reads", self.left_out)

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, position: int) -> tuple[Prepared, npt.NDArray[np.float32]]:
        prepared = self._prepared[position]
        if len(prepared.views):
            squares = np.stack([self._cache.square(image.digest) for image in prepared.study.images])
            prepared = replace(prepared, images=squares)
        return prepared, self.labels[position]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which modalities each study has, bool [n, M], in the order of `Modality`."""
        has = [[self._has(prepared, modality) for modality in Modality] for prepared in self._prepared]
        return np.array(has, bool).reshape(-1, len(Modality))

    @staticmethod
    def _has(prepared: Prepared, modality: Modality) -> bool:
        return len(prepared.views) > 0 if modality is Modality.IMAGE else modality in prepared.present


class _Collate:
    """`Preprocessing.collate` over items of a `StudyDataset`; a class, so that it can travel to a loading process."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, items: Sequence[tuple[Prepared, npt.NDArray[np.float32]]]) -> Batch:
        return self._preprocessing.collate([item[0] for item in items], np.stack([item[1] for item in items]))


class EpochSampler(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees the batches it would have seen."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self._seed, self._epoch)).permutation(self._size).tolist()


class StudyDataModule(lightning.LightningDataModule):
    """Training and validation batches.

    Parameters
    ----------
    preprocessing : Preprocessing
    train : StudyDataset
    validation : StudyDataset or None
        None: there is no validation.
    recipe : Recipe
    """

    def __init__(
        self, preprocessing: Preprocessing, train: StudyDataset, validation: StudyDataset | None, recipe: Recipe
    ) -> None:
        super().__init__()
        self._preprocessing = preprocessing
        self._train = train
        self._validation = validation
        self._recipe = recipe

    @property
    def validated(self) -> bool:
        """There are studies to validate on."""
        return self._validation is not None

    def train_dataloader(self) -> DataLoader:
        sampler = EpochSampler(len(self._train), self._recipe.seed)
        # The odd rest of an epoch would be a batch with poor statistics for batch normalisation.
        drop_last = len(self._train) > self._recipe.training.batch_size
        return study_loader(self._train, self._preprocessing, self._recipe, sampler=sampler, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader:
        assert self._validation is not None
        return study_loader(self._validation, self._preprocessing, self._recipe)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        del dataloader_idx
        return batch.to(device, non_blocking=True)


def study_loader(dataset: StudyDataset, preprocessing: Preprocessing, recipe: Recipe, **options: Any) -> DataLoader:
    """Batches of `dataset`, in its order unless `options` has a sampler; pinned where there is a GPU to pin for."""
    workers = recipe.training.workers
    return DataLoader(
        dataset,
        batch_size=recipe.training.batch_size,
        collate_fn=_Collate(preprocessing),
        num_workers=workers,
        persistent_workers=workers > 0,
        # Forking a process with threads (logging, decoding) may deadlock in the child.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
        **options,
    )
