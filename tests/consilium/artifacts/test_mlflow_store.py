"""The embedded store: made once, whole, wherever it lies."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from consilium.artifacts.embedded_store import artifact_location, sqlite_file, sqlite_url
from consilium.artifacts.mlflow_store import experiment_id, open_store, tracking_uri
from consilium.domain.errors import RegistryUnreachable

PROCESSES = 4

# Forked from one that has imported MLflow, so that they do meet.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "consilium.artifacts.mlflow_store"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a store is, or will be."""
    place = tmp_path / "store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_url(place / "mlflow.db"))
    return place


def _use(uri: str, together: Barrier) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    together.wait()
    run = open_store(create=True).create_run(experiment_id("consilium-raced"))
    open_store().log_text(run.info.run_id, "0.93", "auroc.txt")


def test_one_of_several_processes_makes_the_store_and_the_others_wait(folder: Path) -> None:
    together = CONTEXT.Barrier(PROCESSES)
    processes = [CONTEXT.Process(target=_use, args=(tracking_uri(), together)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    client = open_store()
    [experiment] = [one for one in client.search_experiments() if one.name == "consilium-raced"]
    assert len(client.search_runs([experiment.experiment_id])) == PROCESSES
    assert sorted(path.name for path in folder.iterdir()) == [".mlflow.db.lock", "artifacts", "mlflow.db"]


def test_what_a_killed_process_left_is_no_store(folder: Path) -> None:
    (folder / ".unfinished-killed").mkdir(parents=True)
    (folder / ".unfinished-killed" / "mlflow.db").write_bytes(b"SQLite format 3, half of it")
    (folder / "mlflow.db").touch()
    with pytest.raises(RegistryUnreachable, match="there is none yet"):
        open_store()
    assert open_store(create=True).get_experiment_by_name("consilium-none") is None
    assert sorted(path.name for path in folder.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def test_a_store_that_cannot_be_made_is_reported_in_a_line(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file")
    with pytest.raises(RegistryUnreachable, match=r"model store: .*File exists"):
        open_store(create=True)


@pytest.mark.parametrize("name", ["what?x=1&y", "a%20b", "100% of #1; ünï"])
def test_a_path_may_hold_what_means_something_in_a_url(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    experiment = experiment_id("consilium-odd")
    client = open_store()
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "0.93", "auroc.txt")
    assert Path(client.download_artifacts(run, "auroc.txt")).read_text() == "0.93"
    [stored] = (tmp_path / name / "mlruns" / "artifacts" / "consilium-odd").rglob("auroc.txt")
    assert stored.read_text() == "0.93"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sqlite_file(tracking_uri()) == tmp_path / name / "mlruns" / "mlflow.db"


def test_an_ordinary_path_stays_as_it_is() -> None:
    database = Path("/srv/a b/mlruns/mlflow.db")
    assert sqlite_url(database) == "sqlite:////srv/a b/mlruns/mlflow.db"
    assert artifact_location(database, "consilium-tiny") == "/srv/a b/mlruns/artifacts/consilium-tiny"
