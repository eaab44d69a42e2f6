"""A training killed at random moments, and resumed, ends as one that was left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from consilium.artifacts import model_registry as registry
from consilium.artifacts.mlflow_store import open_store
from training.cohorts.phantom.write import write_phantom
from training.pipeline.train import TrainedModel, train
from training.recipes import find_recipe

SETTINGS = [
    "training.epochs=4",
    "training.batch_size=8",
    "training.patience=4",
    "evaluation.bootstrap=20",
]

# Every training is a process of its own, forked from one that has done nothing but import.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.pipeline.train"])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    write_phantom(root, 160, seed=3, size=128, workers=1)
    return root


def _train(cohort: Path, name: str, resume: bool, environment: dict[str, str], answer: Path) -> None:
    os.environ.update(environment)
    made = train(find_recipe("phantom-tiny", [f"name={name}", *SETTINGS]), cohort, resume=resume, progress=False)
    answer.write_text(json.dumps(_facts(made)))


def _facts(made: TrainedModel) -> dict:
    nll = made.evaluation.metrics["fused/as_present/macro/nll"]
    return {"version": made.version, "run_id": made.run_id, "steps": made.steps, "nll": nll}


def start(cohort: Path, home: Path, name: str, *, resume: bool) -> BaseProcess:
    store = os.environ["MLFLOW_TRACKING_URI"]
    environment = {"CONSILIUM_HOME": str(home), "MLFLOW_TRACKING_URI": store, "OMP_NUM_THREADS": "1"}
    process = CONTEXT.Process(target=_train, args=(cohort, name, resume, environment, home / f"{name}.json"))
    process.start()
    return process


def test_killed_at_random_moments_it_ends_the_same(tmp_path: Path, phantom: Path):
    began = time.monotonic()
    whole = start(phantom, tmp_path, "tiny-whole", resume=False)
    whole.join()
    lasted = time.monotonic() - began
    expected = json.loads((tmp_path / "tiny-whole.json").read_text())

    moments = np.random.default_rng().uniform(0, lasted, 3)  # unseeded on purpose: any moment must do
    print(f"of {lasted:.1f} seconds killed after", moments.round(2))
    for number, moment in enumerate(moments):
        process = start(phantom, tmp_path, "tiny-killed", resume=number > 0)
        process.join(timeout=moment)
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)  # one that resumes may be done before its moment

    last = start(phantom, tmp_path, "tiny-killed", resume=True)
    last.join()
    assert last.exitcode == 0
    found = json.loads((tmp_path / "tiny-killed.json").read_text())
    assert found["steps"] == expected["steps"]
    assert found["nll"] == pytest.approx(expected["nll"], abs=1e-9)
    [version] = registry.list_versions("consilium-tiny-killed")
    assert version.version == found["version"] == "1"
    assert version.aliases == ("challenger",)
    # What is registered is whole: resolving it checks every file against the manifest, and that against the registry.
    identity = registry.resolve("models:/consilium-tiny-killed@challenger").identity
    assert identity.manifest_digest == version.manifest_digest
    run = open_store().get_run(found["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["steps"] == expected["steps"]
