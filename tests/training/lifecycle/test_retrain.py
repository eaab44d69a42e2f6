"""A version of a cohort learned again: two ways, one at a time, whatever cuts it off."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.mlflow_store import open_store
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, TrainingError
from tests.patience import PATIENCE_S
from tests.training.lifecycle.conftest import lifecycle_recipe
from training.cohorts.versions.version_record import version_folders
from training.lifecycle import retrain as module
from training.lifecycle.cohorts.cohort_store import freeze
from training.lifecycle.retrain import SCRATCH, WARM, retrain

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.lifecycle.retrain"])


@pytest.fixture(scope="module")
def store(home: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = tmp_path_factory.mktemp("plain") / "may"
    shutil.copytree(phantom, plain)
    shutil.rmtree(plain / "truth")
    freeze(home / "store", plain, name="chest")
    return home / "store"


def _cut_off(store: str, step: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    if step == "make":
        make = module.make

        def once_more(*args: object, **options: object) -> object:
            if options["start"] is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return make(*args, **options)  # type: ignore[arg-type]

        module.make = once_more  # type: ignore[assignment]
    else:
        registry.register = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    retrain(_longer(), Path(store))


def _longer() -> Recipe:
    return lifecycle_recipe("tiny-again", "training.epochs=2")


def test_the_first_time_there_is_no_champion_then_both_ways_are_compared_and_kills_change_nothing(
    store: Path, home: Path
):
    recipe = lifecycle_recipe("tiny-again")
    first = retrain(recipe, store)
    assert (first.uri, first.started, first.difference) == ("models:/consilium-tiny-again/1", SCRATCH, None)
    assert first.why_not == "there is no champion yet"
    assert retrain(recipe, store) == first, "nothing new is trained of the same"
    registry.promote("consilium-tiny-again", "1", "first", override="a test")

    environment = {"CONSILIUM_HOME": str(home), "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}
    done = []
    for step in ("make", "register"):
        process = CONTEXT.Process(target=_cut_off, args=(str(store), step, environment))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, step
        assert [one.version for one in registry.list_versions("consilium-tiny-again")] == ["1"]
        state = json.loads((home / "retrains" / "tiny-again.json").read_text())
        done.append({way: of["run_id"] for way, of in state["done"].items()})
    second = retrain(_longer(), store)
    assert second.runs == done[1], "what was done stays done"
    assert list(second.runs) == [SCRATCH, WARM]
    assert done[0] == {SCRATCH: second.runs[SCRATCH]}
    assert second.uri == "models:/consilium-tiny-again/2"
    assert second.difference is not None
    better = WARM if second.difference > 0 else SCRATCH
    assert second.started == (f"{WARM} models:/consilium-tiny-again/1" if better == WARM else SCRATCH)
    version = registry.describe("consilium-tiny-again", "2")
    assert version.run_id == second.runs[better]
    assert version.tags["started"] == second.started
    assert version.tags["compared_with_run"] in second.runs.values()
    digest = module.read_version(version_folders(store)[-1]).digest  # type: ignore[union-attr]
    assert version.tags["cohort_version"] == digest
    run = open_store().get_run(second.runs[WARM])
    assert run.info.status == "FINISHED"
    tags = {tag.key: tag.value for tag in run.inputs.dataset_inputs[0].tags}
    assert tags["cohort_version"] == digest


def test_whom_the_champion_has_learned_from_is_not_tested_on(store: Path):
    recipe = lifecycle_recipe("tiny-again")
    artifact = load_artifact(registry.resolve("models:/consilium-tiny-again/1").folder)
    root = version_folders(store)[-1]
    assert module._unlike(recipe, artifact) == module._leaks(recipe, artifact, root) == ""
    wider = recipe.model_copy(update={"fusion": recipe.fusion.model_copy(update={"width": 64})})
    assert "fuses otherwise" in module._unlike(wider, artifact)
    others = replace(artifact, details={**artifact.details, "run_id": "none"})
    assert "is not known" in module._leaks(recipe, others, root)
    everyone = [(record, "train") for record in ["P000001"]] + [(f"P{n:06d}", "train") for n in range(160)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "patients_of_run", lambda _: everyone)
        assert "patients of the calibration and test splits" in module._leaks(recipe, artifact, root)


def test_what_cannot_be_retrained_is_refused(
    store: Path, home: Path, phantom: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = lifecycle_recipe("tiny-again")
    with pytest.raises(InputError, match="must be a store of cohort versions"):
        retrain(recipe, phantom)
    for hours in (0.0, -1.0, float("nan"), float("inf"), 3e6):
        with pytest.raises(InputError, match=r"hours: got .*, must be more than 0 and at most 2562047"):
            retrain(recipe, phantom, hours=hours)
    lock = FileLock(home / "retrains" / ".tiny-again.lock")
    with lock, pytest.raises(TrainingError, match="being retrained by another process"):
        retrain(recipe, store)


def test_its_time_ends_as_an_interrupt_does(own_signals: None):
    with pytest.raises(KeyboardInterrupt), module._bounded(0.05 / 3600):
        time.sleep(PATIENCE_S)
    with module._bounded(1):
        pass


def test_its_time_ends_also_where_a_shell_has_it_ignore_interrupts(own_signals: None):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), module._bounded(0.05 / 3600):
            time.sleep(PATIENCE_S)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
