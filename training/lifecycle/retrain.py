"""`consilium retrain`: the newest version of a cohort, learned from scratch and from the champion; the better stays.

Both ways are trainings of their own, each with its MLflow run, resumable like any. What is done is kept in
``CONSILIUM_HOME/retrains``, so that the same command goes on after an interrupt, a kill or the end of its time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import Artifact, load_artifact
from consilium.artifacts.mlflow_store import open_store
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError, NotRegistered, TrainingError
from consilium.system.durable import replace_json
from consilium.system.environment import home_folder
from training.cohorts import load_cohort
from training.cohorts.splits import split_cohort
from training.cohorts.versions.version_record import cohort_folder, read_version
from training.fitting.fit import WarmStart
from training.lifecycle.champion_gates import auroc_difference
from training.lifecycle.cohorts.cohort_store import add
from training.pipeline.compare_models import ANSWERS, Answers, common_studies
from training.pipeline.train import make
from training.runtime.store_retries import patiently
from training.runtime.tracking import download_evaluation, patients_of_run

_log = logging.getLogger(__name__)

SCRATCH, WARM = "from scratch", "from the champion"
STARTED, BESIDE = "started", "compared_with_run"
"""Tags of the registered version: how it began, and the run of the way that was not taken."""
_REPLICATES = 500
_MOST_HOURS = threading.TIMEOUT_MAX // 3600


@dataclass(frozen=True, slots=True)
class Retrained:
    """What a retraining ended in.

    Attributes
    ----------
    uri : str
        The registered version.
    started : str
        `SCRATCH`, or `WARM` with the champion's name.
    runs : dict of str to str
        MLflow run of each way.
    difference : float or None
        AUROC on the test studies, mean over findings: from the champion less from scratch; None where one way was gone.
    standard_error : float or None
    why_not : str
        Why the champion was not begun from; empty where it was.
    """

    uri: str
    started: str
    runs: dict[str, str]
    difference: float | None
    standard_error: float | None
    why_not: str

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.uri,
            "started": self.started,
            "runs": self.runs,
            "difference": self.difference,
            "standard_error": self.standard_error,
            "why_not_from_champion": self.why_not or None,
        }


def retrain(
    recipe: Recipe, store: Path, folders: Sequence[Path] = (), *, hours: float | None = None, seed: int = 0
) -> Retrained:
    """Train `recipe` on the newest version in `store`, and register the better of two ways as challenger.

    From scratch, and from the champion's weights on the same studies, old and new. The champion is begun from only
    where the recipe reads and fuses as it does, is evaluated on a held-out split, and the champion has learned from no
    patient of the version's calibration and test splits.

    Parameters
    ----------
    folders : sequence of Path
        Cohorts whose studies are added to the store first, as a version.
    hours : float or None
        Stop as by an interrupt after so long: more than 0, and no more than a timer of this system waits.

    Raises
    ------
    InputError, CohortError
        The store holds no version, a folder cannot be added, or `hours` is no time that can be waited for.
    TrainingError
        The recipe is being retrained by another process, or cannot be trained.
    KeyboardInterrupt
        After everything was left so that the same call goes on.
    """
    _refuse_unending(hours)
    with _alone(recipe), _bounded(hours):
        if folders:
            add(store, folders, seed=seed, why="retraining")
        root = cohort_folder(store)
        if read_version(root) is None:
            raise InputError(
                "cohort", str(store), "must be a store of cohort versions; consilium cohort freeze makes it"
            )
        state = _State.opened(recipe, root)
        start, champion, why_not = _warm_start(recipe, root)
        ways: dict[str, WarmStart | None] = {SCRATCH: None} | ({} if start is None else {WARM: start})
        for way, begun in ways.items():
            if way not in state.done:
                _log.info("training %s", way)
                resume = way in state.begun
                state.begin(way)
                made = make(recipe, root, start=begun, resume=resume)
                state.end(way, {"run_id": made.run_id, "folder": str(made.folder), "tags": made.tags})
        return _registered(recipe, state, list(ways), champion, why_not)


def _registered(recipe: Recipe, state: _State, ways: Sequence[str], champion: str, why_not: str) -> Retrained:
    """The better way's model as challenger; registered once, however often it is asked for."""
    best, difference = SCRATCH, None
    if WARM in ways:
        tested = [Answers.load(download_evaluation(state.done[way]["run_id"], ANSWERS)) for way in (WARM, SCRATCH)]
        difference = auroc_difference(*common_studies(*tested), bootstrap=_REPLICATES, seed=recipe.seed)
        best = WARM if difference.value > 0 else SCRATCH
    chosen = state.done[best]
    started = best if best == SCRATCH else f"{WARM} {champion}"
    tags = {**chosen["tags"], STARTED: started}
    for way in ways:
        if way != best:
            tags[BESIDE] = state.done[way]["run_id"]
    version = patiently(registry.register, Path(chosen["folder"]), recipe, chosen["run_id"], tags)
    return Retrained(
        f"models:/{recipe.registered_name}/{version}",
        started,
        {way: state.done[way]["run_id"] for way in ways},
        None if difference is None else difference.value,
        None if difference is None else difference.standard_error,
        why_not,
    )


# --- from the champion -----------------------------------------------------------------------------------------------


def _warm_start(recipe: Recipe, root: Path) -> tuple[WarmStart | None, str, str]:
    """What to begin from and its name; or None, and why not."""
    patiently(open_store, create=True)  # the first training makes it
    try:
        resolved = registry.resolve(f"models:/{recipe.registered_name}@{registry.CHAMPION}")
    except NotRegistered:
        return None, "", "there is no champion yet"
    except ArtifactError as error:  # of an earlier format
        return None, "", f"the champion cannot be read: {error}"
    champion = f"models:/{resolved.identity.name}/{resolved.identity.version}"
    artifact = load_artifact(resolved.folder)
    why_not = _unlike(recipe, artifact) or _leaks(recipe, artifact, root)
    if why_not:
        _log.warning("not from the champion: %s", why_not)
        return None, champion, why_not
    weights = artifact.model.state_dict()
    return WarmStart(artifact.preprocessing, weights, resolved.identity.manifest_digest), champion, ""


def _unlike(recipe: Recipe, artifact: Artifact) -> str:
    """Why the recipe's model could not take the champion's weights; empty where it can."""
    known = artifact.recipe
    if recipe.evaluation.protocol != "split":
        return f"the protocol {recipe.evaluation.protocol} tests on studies that the champion has learned from"
    if recipe.fusion.name == "auto" or recipe.fusion.linear:
        return f"the fusion {recipe.fusion.name} is not trained by gradient descent"
    if (recipe.modalities, recipe.fusion) != (known.modalities, known.fusion):
        return "the recipe reads or fuses otherwise than the champion's"
    return ""


def _leaks(recipe: Recipe, artifact: Artifact, root: Path) -> str:
    """Why what the champion has learned would be tested on; empty where it would not."""
    chosen = recipe.cohort
    cohort = load_cohort(chosen.kind, root, chosen.options, mask_notes=recipe.masks_identifiers)
    if cohort.findings != artifact.findings:
        return "the cohort has other findings than the champion"
    parts = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)
    held_out = {cohort.records[row].patient_id for name in ("calibration", "test") for row in parts[name].tolist()}
    try:
        known = patients_of_run(artifact.details["run_id"])
    except TrainingError as error:
        return f"whom the champion has learned from is not known: {error}"
    learned = {patient for patient, part in known if part in ("train", "validation")}
    both = len(learned & held_out)
    return f"it has learned from {both} patients of the calibration and test splits" if both else ""


# --- what is done, one at a time, within bounds ----------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    """What of a retraining is done, in a file."""

    path: Path
    key: str
    begun: list[str]
    done: dict[str, dict[str, Any]]

    @classmethod
    def opened(cls, recipe: Recipe, root: Path) -> _State:
        """That of the recipe, where it is of the same recipe and version; else a new one."""
        version = read_version(root)
        digest = "" if version is None else version.digest
        key = hashlib.sha256(f"{recipe.to_yaml()}\n{digest}".encode()).hexdigest()
        path = _folder() / f"{recipe.name}.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if known.get("key") != key:
            return cls(path, key, [], {})
        done = {way: of for way, of in known["done"].items() if Path(of["folder"]).is_dir()}
        return cls(path, key, known["begun"], done)

    def begin(self, way: str) -> None:
        self.begun = [*dict.fromkeys([*self.begun, way])]
        self._write()

    def end(self, way: str, made: dict[str, Any]) -> None:
        self.done[way] = made
        self._write()

    def _write(self) -> None:
        replace_json(self.path, {"key": self.key, "begun": self.begun, "done": self.done})


def _folder() -> Path:
    folder = home_folder() / "retrains"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(recipe: Recipe) -> Iterator[None]:
    try:
        with FileLock(_folder() / f".{recipe.name}.lock", timeout=0):
            yield
    except Timeout:
        raise TrainingError(f"{recipe.name} is being retrained by another process") from None


def _refuse_unending(hours: float | None) -> None:
    if hours is not None and not 0 < hours <= _MOST_HOURS:  # nor is NaN
        raise InputError("hours", hours, f"must be more than 0 and at most {_MOST_HOURS:.0f}")


@contextmanager
def _bounded(hours: float | None) -> Iterator[None]:
    """Interrupt this process after so many hours, as Ctrl+C would.

    The handler is set anew: a job that a shell started in the background ignores SIGINT, and libraries (OpenVINO) put a
    handler of their own beneath Python's, which ends the process.
    """
    if hours is None:
        yield
        return
    main = threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is main:
        signal.signal(signal.SIGINT, before if callable(before) else signal.default_int_handler)
    timer = threading.Timer(hours * 3600, signal.pthread_kill, (main.ident, signal.SIGINT))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if before in (signal.SIG_IGN, signal.SIG_DFL) and threading.current_thread() is main:
            signal.signal(signal.SIGINT, before)
