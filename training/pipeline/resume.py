"""What an interrupted training needs to go on: one folder per recipe and cohort.

``run.json`` names the MLflow run, ``metrics.json`` holds what the model store did not take of it; below lie the
checkpoints of each fit and the artifact. A lock keeps another training of the same recipe and cohort away; it goes with
the process that holds it, however that ends.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities import Metric

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.system.durable import replace_json
from consilium.system.environment import home_folder
from training.cohorts.cohort import Cohort

_log = logging.getLogger(__name__)

_STATE, _UNWRITTEN = "run.json", "metrics.json"


class RunState:
    """The state of one training; a context manager that holds its lock.

    Parameters
    ----------
    recipe : Recipe
    cohort : Cohort
    resume : bool
        Go on with what an interrupted training left. Where it left nothing, start from the beginning; where only a
        training of another recipe or cohort under the same name was interrupted, refuse.
    start : str
        Digest of the model that the training begins from; empty: none.

    Raises
    ------
    TrainingError
        See `resume`; also where the same training is under way in another process.
    """

    def __init__(self, recipe: Recipe, cohort: Cohort, *, resume: bool, start: str = "") -> None:
        self.digest = hashlib.sha256(f"{recipe.to_yaml()}\n{cohort.digest}{start}".encode()).hexdigest()
        runs = home_folder() / "runs"
        self.folder = runs / f"{recipe.name}-{self.digest[:16]}"
        runs.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(runs / f".{self.folder.name}.lock", timeout=0)
        self._name = recipe.name
        self._resume = resume
        self._state: dict[str, Any] = {}
        self.given_up: str | None = None
        """MLflow run of an interrupted training that this one replaces."""

    def __enter__(self) -> RunState:
        try:
            self._lock.acquire()
        except Timeout:
            raise TrainingError("this recipe is being trained on this cohort by another process") from None
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def run_id(self) -> str | None:
        """MLflow run under way; None where none was started."""
        return self._state.get("run_id")

    def started(self, run_id: str) -> None:
        """Remember the MLflow run."""
        self._write(run_id=run_id)

    def keep(self, metrics: Sequence[Metric]) -> None:
        """Remember metrics that the model store did not take; where there is no room for them they are lost."""
        if metrics:
            lines = [[one.key, str(one.value), one.timestamp, one.step] for one in metrics]
            with suppress(OSError):
                replace_json(self.folder / _UNWRITTEN, lines)

    def unwritten(self) -> list[Metric]:
        """What `keep` remembered."""
        file = self.folder / _UNWRITTEN
        lines = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        return [Metric(key, float(value), time, step) for key, value, time, step in lines]

    def registered(self, version: str) -> None:
        """Remember that the training is over."""
        self._write(version=version)

    def _open(self) -> None:
        known = _read(self.folder)
        if known is not None and known["digest"] != self.digest:
            raise TrainingError(f"the state in {self.folder.name} belongs to another recipe or cohort; remove it")
        if self._resume and known is None:
            self._refuse_others()
            _log.info("no interrupted run of this recipe and cohort; starting from the beginning")
        if known is not None and not self._resume:
            if "version" not in known:
                _log.warning("an interrupted run of this recipe and cohort is given up; --resume would continue it")
                self.given_up = known.get("run_id")
            shutil.rmtree(self.folder)
            known = None
        self._state = known or {"digest": self.digest}
        self._write()

    def _refuse_others(self) -> None:
        for folder in sorted(self.folder.parent.glob(f"{self._name}-" + "[0-9a-f]" * 16)):
            known = _read(folder)
            if known is not None and "version" not in known:
                raise TrainingError(
                    f"the interrupted run of {self._name} is of another recipe or cohort: take those again, or start "
                    "anew without --resume"
                )

    def _write(self, **changes: str) -> None:
        self._state |= changes
        replace_json(self.folder / _STATE, self._state)


def _read(folder: Path) -> dict[str, Any] | None:
    file = folder / _STATE
    if not file.exists():
        return None
    state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return state
