"""A phantom cohort and a model of it, for benchmarks that ask for trained ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from training.cohorts.phantom.write import write_phantom
from training.pipeline.train import train
from training.recipes import find_recipe

STUDIES, SIZE = 120, 64


class _Nowhere:
    """A sink of metrics that keeps nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def flush(self) -> None: ...


NOWHERE = _Nowhere()


def stay_in(folder: str) -> None:
    """Nothing of this process goes into the user's own store and caches."""
    os.environ["CONSILIUM_HOME"] = folder
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"


@contextmanager
def phantom(given: Path | None, *, smoke: bool) -> Iterator[Path]:
    """`given`; with `smoke` and without it a small phantom cohort, which is gone afterwards."""
    if given is not None:
        yield given
        return
    if not smoke:
        raise SystemExit("COHORT: must be given, or --smoke")
    with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
        write_phantom(Path(folder) / "cohort", STUDIES, 7, SIZE, workers=1)
        yield Path(folder) / "cohort"


@contextmanager
def trained_model(model: str | None, cohort: Path | None, *, smoke: bool) -> Iterator[tuple[str, Path]]:
    """`model` and `cohort`; with `smoke` and without them a small phantom cohort and a model that was trained on it."""
    with phantom(cohort, smoke=smoke) as root:
        if model is not None:
            yield model, root
            return
        if not smoke:
            raise SystemExit("MODEL: must be given, or --smoke")
        with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
            stay_in(folder)
            recipe = find_recipe("phantom-tiny", ["training.epochs=1", "evaluation.bootstrap=20"])
            yield str(train(recipe, root).folder), root
