"""A training whose tracking server goes away, and comes back."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from consilium.artifacts import model_registry as registry
from consilium.artifacts.mlflow_store import open_store
from consilium.domain.errors import ConsiliumError
from tests.integration.mlflow_server import MlflowServer
from tests.patience import until
from training.cohorts.phantom.write import write_phantom
from training.pipeline.train import train
from training.recipes import find_recipe

SETTINGS = ["name=tiny-away", "training.epochs=6", "training.patience=6", "evaluation.bootstrap=20"]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.pipeline.train"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    (tmp_path / "server").mkdir()
    running = MlflowServer(tmp_path / "server")
    try:
        running.start()
        yield running
    finally:
        running.kill()


def _train(cohort: Path, environment: dict[str, str], answer: Path, resume: bool) -> None:
    os.environ.update(environment)
    try:
        made = train(find_recipe("phantom-tiny", SETTINGS), cohort, resume=resume, progress=False)
    except ConsiliumError as error:
        answer.write_text(json.dumps({"error": type(error).__name__, "message": str(error)}))
    else:
        answer.write_text(json.dumps({"run_id": made.run_id, "version": made.version, "steps": made.steps}))


def test_it_waits_keeps_what_was_done_and_goes_on(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, home, answer = tmp_path / "phantom", tmp_path / "home", tmp_path / "answer.json"
    write_phantom(cohort, 160, seed=3, size=64, workers=1)

    def start(patience: float, *, resume: bool) -> BaseProcess:
        answer.unlink(missing_ok=True)
        environment = {"MLFLOW_TRACKING_URI": server.url, "CONSILIUM_HOME": str(home), "OMP_NUM_THREADS": "1"}
        environment["CONSILIUM_STORE_PATIENCE_S"] = str(patience)
        process = CONTEXT.Process(target=_train, args=(cohort, environment, answer, resume))
        process.start()
        return process

    def report_of(process: BaseProcess) -> dict[str, str]:
        process.join()
        assert process.exitcode == 0
        return dict(json.loads(answer.read_text()))

    first = start(1, resume=False)
    until(lambda: list(home.glob("runs/*/fit/last.ckpt")) or not first.is_alive())
    assert first.is_alive()
    server.kill()
    lost = report_of(first)
    assert lost["error"] == "RegistryUnreachable"
    assert "\n" not in lost["message"]
    [state] = home.glob("runs/*/run.json")
    run_id = json.loads(state.read_text())["run_id"]

    away = report_of(start(0, resume=True))
    assert away["error"] == "RegistryUnreachable"
    assert json.loads(state.read_text())["run_id"] == run_id
    assert (state.parent / "fit" / "last.ckpt").exists()

    last = start(300, resume=True)
    last.join(timeout=3)
    assert last.is_alive(), "it waits"
    server.start()
    made = report_of(last)
    assert (made["run_id"], made["version"]) == (run_id, "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("CONSILIUM_HOME", str(home))
    assert open_store().get_run(run_id).info.status == "FINISHED"
    steps = [metric.step for metric in open_store().get_metric_history(run_id, "train_total")]
    assert steps == list(range(int(made["steps"])))
    assert registry.resolve("models:/consilium-tiny-away@challenger").identity.version == "1"
