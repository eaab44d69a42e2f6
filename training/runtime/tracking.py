"""The record of a training in MLflow: one run with its recipe, data, environment, metrics, tables and plots."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import numpy.typing as npt
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

import consilium
from consilium.artifacts.mlflow_store import experiment_id, open_store, store_errors
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import RegistryUnreachable, TrainingError
from training.cohorts.cohort import Cohort
from training.cohorts.versions.version_record import chain
from training.runtime.store_retries import at_once, is_missing, may_pass, patiently

_log = logging.getLogger(__name__)
# What could not be written in the background is written again when the run is flushed, which reports it.
logging.getLogger("mlflow.utils.async_logging.async_logging_queue").setLevel(logging.CRITICAL)

_METRICS_AT_ONCE = 500
_SECONDS_BETWEEN_WRITES = 5.0
_PARAMS_AT_ONCE = 100
_LONGEST_VALUE = 500
_LONGEST_DIGEST = 36
COHORT_VERSION, VERSIONS_FILE = "cohort_version", "cohort_versions.json"
"""Tag with the digest of the cohort's version, and the records of it and of all before it."""
SPLIT = "split.csv"
"""Which study of which patient fell into which part of a training."""

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class MetricSink(Protocol):
    """Where a training's metrics go."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def flush(self) -> None: ...


class TrackedRun:
    """An MLflow run under way.

    Metrics are gathered and written in the background: a write per step would cost more than a small model's step. A
    store that gives no answer is waited for (`training.runtime.store_retries`), and ends in a `RegistryUnreachable`
    where it stays away.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id
        self._waiting: list[Metric] = []
        self._under_way: list[tuple[RunOperations, list[Metric]]] = []
        self._written = time.monotonic()

    # --- beginning and end -------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, recipe: Recipe, *, kind: str = "", parent: str | None = None) -> TrackedRun:
        """A new run in the experiment of the recipe's registered name.

        Parameters
        ----------
        kind : str
            Added to the run's name: what it is, where it is no training of its own.
        parent : str or None
            Id of the run that it stands below.
        """
        client = patiently(open_store, create=True)
        experiment = patiently(experiment_id, recipe.registered_name)
        tags = _origin() | ({} if parent is None else {MLFLOW_PARENT_RUN_ID: parent})
        name = " ".join(filter(None, [f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}", kind]))
        run = patiently(client.create_run, experiment, tags=tags, run_name=name)
        return cls(client, run.info.run_id)

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the run with the status that fits how the block ended."""
        if kind is None:
            self.end("FINISHED")
        else:
            self.give_up("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    @classmethod
    def resume(cls, run_id: str) -> TrackedRun:
        """The run `run_id`, set running again.

        Raises
        ------
        TrainingError
            The store answers that it does not have it.
        RegistryUnreachable
            The store gives no answer.
        """
        client = patiently(open_store, create=True)
        try:
            patiently(client.update_run, run_id, status="RUNNING")
        except RegistryUnreachable as error:
            if not is_missing(error):
                raise
            rule = "point MLFLOW_TRACKING_URI at the store it is in, or start without --resume"
            raise TrainingError(f"the interrupted run {run_id} is not in this MLflow store; {rule}") from None
        return cls(client, run_id)

    @staticmethod
    def close(run_id: str) -> None:
        """Close the run `run_id`, which a killed process may have left RUNNING, as KILLED."""
        client = open_store(create=True)

        def killed() -> None:
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, status="KILLED")

        at_once(killed)

    @staticmethod
    def close_children(parent: str) -> None:
        """As `close`, for every run below `parent`."""
        client = patiently(open_store, create=True)
        experiment = patiently(client.get_run, parent).info.experiment_id
        running = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' and attributes.status = 'RUNNING'"
        for child in patiently(client.search_runs, [experiment], running):
            patiently(client.set_terminated, child.info.run_id, status="KILLED")

    @staticmethod
    def close_tagged(experiment: str, tag: str, value: str) -> None:
        """As `close`, for every run of the experiment called `experiment` whose `tag` has this `value`."""
        client = patiently(open_store, create=True)
        running = f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'"
        for run in patiently(client.search_runs, [patiently(experiment_id, experiment)], running):
            patiently(client.set_terminated, run.info.run_id, status="KILLED")

    def end(self, status: Status) -> None:
        """Write what is left and close the run."""
        try:
            self.flush()
        finally:
            patiently(self._client.set_terminated, self.run_id, status=status)

    def give_up(self, status: Status) -> list[Metric]:
        """Close the run after an error, which must not be hidden by another one: a store that is away is left alone.

        Returns
        -------
        list of Metric
            What could not be written, for `add` of the run that goes on.
        """
        left = [metric for _, metrics in self._under_way for metric in metrics] + self._waiting
        self._waiting, self._under_way = [], []
        parts = [left[start : start + _METRICS_AT_ONCE] for start in range(0, len(left), _METRICS_AT_ONCE)]
        written = all(at_once(partial(self._client.log_batch, self.run_id, metrics=part)) for part in parts)
        if not at_once(lambda: self._client.set_terminated(self.run_id, status=status)):
            _log.warning("the run %s stays RUNNING in the model store, which gives no answer", self.run_id)
        return [] if written else left

    def add(self, metrics: Sequence[Metric]) -> None:
        """Write what an earlier process could not."""
        self._waiting += metrics

    # --- what is logged ----------------------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add metrics of one step."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        full = len(self._waiting) >= _METRICS_AT_ONCE
        if full or time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self._write()

    def flush(self) -> None:
        """Wait until every metric is in the store."""
        self._write()
        while self._under_way:  # what is not known to be written stays in it
            operation, metrics = self._under_way[0]
            if not at_once(operation.wait):
                patiently(self._client.log_batch, self.run_id, metrics=metrics)
            del self._under_way[0]

    def _write(self) -> None:
        if self._waiting:
            operation = self._client.log_batch(self.run_id, metrics=self._waiting, synchronous=False)
            assert operation is not None
            self._under_way.append((operation, self._waiting))
        self._waiting = []
        self._written = time.monotonic()

    def prefixed(self, prefix: str) -> MetricSink:
        """A sink that puts `prefix` and a slash before every name; the same where `prefix` is empty."""
        return _Prefixed(self, prefix) if prefix else self

    def log_recipe(self, recipe: Recipe) -> None:
        """The recipe, whole and as parameters, and the environment."""
        patiently(self._client.log_text, self.run_id, recipe.to_yaml(), "recipe.yaml")
        patiently(self._client.log_text, self.run_id, _environment(), "environment.txt")
        params = [Param(name, value) for name, value in flat_recipe(recipe).items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            patiently(self._client.log_batch, self.run_id, params=params[start : start + _PARAMS_AT_ONCE])

    def log_cohort(self, cohort: Cohort, parts: npt.NDArray) -> None:
        """The data set's digest, its version with those before it, and which study fell into which part.

        Of patients and studies, pseudonyms alone.

        Parameters
        ----------
        parts : str [N]
            Split or fold of each study.
        """
        studies = [record.study_id for record in cohort.records]
        table = pd.DataFrame({"study": studies, "patient": cohort.patient_ids, "part": parts})
        name = f"{cohort.name}-{cohort.task}" if cohort.task else cohort.name
        dataset = from_pandas(table, name=name, digest=cohort.digest[:_LONGEST_DIGEST])
        versions = chain(cohort.root)
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, "training")]
        if versions:
            tags.append(InputTag(COHORT_VERSION, versions[-1].digest))
            self.tag(COHORT_VERSION, versions[-1].digest)
            made = {"versions": [version.to_json() for version in versions]}
            patiently(self._client.log_dict, self.run_id, made, VERSIONS_FILE)
        inputs = DatasetInput(dataset._to_mlflow_entity(), tags)
        patiently(self._client.log_inputs, self.run_id, [inputs])
        patiently(self._client.log_text, self.run_id, table.to_csv(index=False), SPLIT)
        facts = {"digest": cohort.digest, "studies": len(cohort)}
        patiently(self._client.log_dict, self.run_id, facts, "cohort.json")
        self.tag("cohort_digest", cohort.digest)

    def log_evaluation(self, metrics: Mapping[str, float], folder: Path) -> None:
        """Figures as metrics, and every file of `folder` under ``evaluation/``."""
        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, 0) for name, value in metrics.items()]
        for start in range(0, len(entries), _METRICS_AT_ONCE):
            patiently(self._client.log_batch, self.run_id, metrics=entries[start : start + _METRICS_AT_ONCE])
        patiently(self._client.log_artifacts, self.run_id, str(folder), "evaluation")

    def log_texts(self, folder: str, files: Mapping[str, str]) -> None:
        """Every text of `files`, by name, under `folder`."""
        for name, text in files.items():
            patiently(self._client.log_text, self.run_id, text, f"{folder}/{name}")

    def tag(self, name: str, value: str) -> None:
        patiently(self._client.set_tag, self.run_id, name, value)


def patients_of_run(run_id: str) -> list[tuple[str, str]]:
    """Pseudonym and split or fold of every study of the training `run_id`.

    Raises
    ------
    TrainingError, RegistryUnreachable
        As `download_evaluation`.
    """
    table = pd.read_csv(downloaded(run_id, SPLIT), dtype=str, keep_default_na=False)
    return list(zip(table["patient"], table["part"], strict=True))


def download_evaluation(run_id: str, name: str) -> Path:
    """A local copy of the file `name` among what the run `run_id` logged of its evaluation.

    Raises
    ------
    TrainingError
        The store has no such run, or the run no such file.
    RegistryUnreachable
        The store gives no answer.
    """
    return downloaded(run_id, f"evaluation/{name}")


def downloaded(run_id: str, path: str) -> Path:
    """A local copy of the file `path` among the artifacts of the run `run_id`.

    Raises
    ------
    TrainingError
        The store has no such run, or the run no such file.
    RegistryUnreachable
        The store gives no answer.
    """
    client = open_store(create=False)
    try:
        with store_errors():
            return Path(client.download_artifacts(run_id, path))
    except RegistryUnreachable as error:
        if may_pass(error):
            raise
        raise TrainingError(f"the run {run_id} with its {path} is not in this MLflow store") from None


class _Prefixed:
    def __init__(self, run: TrackedRun, prefix: str) -> None:
        self._run = run
        self._prefix = prefix

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log({f"{self._prefix}/{name}": value for name, value in metrics.items()}, step)

    def flush(self) -> None:
        self._run.flush()


def flat_recipe(recipe: Recipe) -> dict[str, str]:
    """Every leaf of the recipe by its dotted key, as text; a mapping without keys is one."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = str(value)[:_LONGEST_VALUE]

    walk("", recipe.model_dump(mode="json"))
    return flat


def git_commit() -> str:
    """Commit of the code that runs, with ``-dirty`` where files differ from it; empty outside a clone."""
    command = ["git", "-C", str(Path(consilium.__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # "--exclude *" keeps tags out: the commit itself is what names the code.
        done = subprocess.run([*command, "--exclude", "*"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _origin() -> dict[str, str]:
    tags = {"consilium_version": consilium.__version__}
    commit = git_commit()
    if commit:
        tags |= {"git_commit": commit, MLFLOW_GIT_COMMIT: commit.removesuffix("-dirty")}
    return tags


def _environment() -> str:
    """Interpreter, platform and every installed distribution."""
    installed = sorted({f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}, key=str.lower)
    return "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *installed]) + "\n"
