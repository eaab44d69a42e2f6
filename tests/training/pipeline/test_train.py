"""The pipeline from a cohort on disk to a registered model, on tiny phantoms."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.mlflow_store import open_store
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.inference.diagnostician import Diagnostician
from consilium.monitoring.reference import DIRECTIONS
from consilium.network.diagnosis_model import FUSED
from training.cohorts.cohort_kind import CohortKind
from training.cohorts.phantom.write import write_phantom
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.evaluation.predict import predict
from training.evaluation.rows import AS_PRESENT
from training.pipeline import protocols
from training.pipeline import train as pipeline
from training.pipeline.train import TrainedModel, train
from training.recipes import find_recipe

SMALL = ["training.epochs=1", "evaluation.bootstrap=20"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    write_phantom(root, 160, seed=3, size=128, workers=1)
    return root


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("CONSILIUM_HOME", str(folder))
        yield folder


def recipe(name: str, *settings: str) -> Recipe:
    return find_recipe("phantom-tiny", [f"name={name}", *SMALL, *settings])


@pytest.fixture(scope="module")
def trained(phantom: Path) -> TrainedModel:
    return train(recipe("tiny-split"), phantom, progress=False)


def test_ends_in_a_registered_challenger(trained: TrainedModel):
    version = registry.describe(trained.name, trained.version)
    assert version.aliases == ("challenger",)
    assert version.run_id == trained.run_id
    assert version.manifest_digest == verify(trained.folder)
    assert version.tags["cohort"] == "phantom"


def test_the_record_holds_recipe_data_environment_metrics_and_evaluation(trained: TrainedModel, phantom: Path):
    client = open_store()
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "1"
    assert run.data.params["modalities.image.encoder"] == "resnet18"
    artifacts = Path(mlflow.artifacts.download_artifacts(run_id=trained.run_id))
    assert Recipe.from_mapping(yaml.safe_load((artifacts / "recipe.yaml").read_text())) == recipe("tiny-split")
    assert "torch==" in (artifacts / "environment.txt").read_text()
    split = pd.read_csv(artifacts / "split.csv")
    studies = pd.read_csv(phantom / "studies.csv")
    assert split["part"].tolist() == studies["split"].tolist()
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["cohort_digest"][:36]
    for name in ("metrics.csv", "oracle_shares.csv", "roc.png", "reliability.png", "evaluation.json"):
        assert (artifacts / "evaluation" / name).stat().st_size > 0
    steps = [metric.step for metric in client.get_metric_history(trained.run_id, "train_total")]
    assert steps == list(range(trained.steps))
    assert run.data.metrics["steps"] == trained.steps
    auroc = trained.evaluation.value("metrics", "auroc", row=AS_PRESENT, finding="macro")
    assert run.data.metrics["fused/as_present/macro/auroc"] == pytest.approx(auroc)


def test_the_registered_model_answers_as_the_evaluation_says(trained: TrainedModel, phantom: Path):
    """Calibrated probabilities of the test studies, once from the evaluation and once through the registry."""
    resolved = registry.resolve(trained.uri)
    artifact = load_artifact(resolved.folder)
    cohort = pipeline._load(artifact.recipe, phantom)
    cached = cache_cohort(cohort, artifact.recipe, file_cache_folder())
    place = {record.study_id: row for row, record in enumerate(cohort.records)}
    rows = np.array([place[study] for study in trained.evaluation.study_ids])
    predictions = predict(artifact.model, artifact.preprocessing, cached, rows, artifact.recipe)
    probabilities = predictions.as_present(predictions.probabilities(artifact.calibration))
    assert np.allclose(probabilities, trained.evaluation.probabilities[AS_PRESENT], atol=1e-6)
    assert np.isfinite(probabilities).all()


def test_the_artifact_says_what_it_was_trained_on_and_names_no_study(trained: TrainedModel, phantom: Path):
    details = json.loads((trained.folder / "details.json").read_text())
    assert details["studies"] == pd.read_csv(phantom / "studies.csv")["split"].value_counts().to_dict()
    assert details["steps"] == trained.steps
    text = "".join(file.read_text() for file in trained.folder.rglob("*.json"))
    assert "S000001" not in text
    assert str(phantom) not in text


def test_the_artifact_has_what_monitoring_compares_with(trained: TrainedModel):
    artifact = load_artifact(trained.folder)
    studies = artifact.details["studies"]
    found = artifact.monitoring
    assert found is not None
    assert found.studies == studies["calibration"] + studies["test"]
    assert set(found.rows) == {*artifact.recipe.modalities, FUSED}
    assert {len(values) for values in found.log_odds.values()} == {found.studies}
    assert found.rows[FUSED].shape == (found.studies, DIRECTIONS)
    assert len(found.rows["image"]) < found.studies
    assert {"sex", "age_band", "present:image"} <= set(found.counts)


def test_the_diagnostician_loads_it(trained: TrainedModel, phantom: Path):
    diagnostician = Diagnostician.load(trained.uri, device="cpu")
    assert diagnostician.identity.version == trained.version
    cohort = pipeline._load(diagnostician.recipe, phantom)
    record = next(record for record in cohort.records if record.parts["text"])
    [diagnosis] = diagnostician.diagnose([record.study()])
    assert all(0 < result.probability < 1 for result in diagnosis.findings)


def test_the_same_seed_gives_the_same_figures(trained: TrainedModel, phantom: Path):
    again = train(recipe("tiny-split"), phantom, progress=False)
    assert again.run_id != trained.run_id
    assert int(again.version) == int(trained.version) + 1
    assert again.evaluation.metrics == trained.evaluation.metrics
    assert registry.describe(trained.name, trained.version).aliases == ()


def test_promotion_is_asked_for(phantom: Path):
    made = train(recipe("tiny-promoted"), phantom, promote=True, progress=False)
    version = registry.describe(made.name, made.version)
    assert set(version.aliases) == {"challenger", "champion"}
    assert "training run" in version.events[0].reason


def test_resuming_what_is_finished_changes_nothing(phantom: Path):
    first = train(recipe("tiny-finished"), phantom, promote=True, progress=False)
    again = train(recipe("tiny-finished"), phantom, promote=True, resume=True, progress=False)
    assert (again.version, again.run_id, again.steps) == (first.version, first.run_id, first.steps)
    assert again.evaluation.metrics == first.evaluation.metrics
    assert len(registry.list_versions(first.name)) == 1


@pytest.mark.parametrize("stage", ["predict", "_log_outcome", "save_artifact", "register"])
def test_cut_off_at_any_stage_and_resumed(
    phantom: Path, monkeypatch: pytest.MonkeyPatch, trained: TrainedModel, stage: str
):
    name = f"tiny-cut-{stage.replace('_', '-').strip('-')}"
    place = {"register": pipeline.registry, "predict": protocols}.get(stage, pipeline)

    def cut(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, stage, cut)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(name), phantom, progress=False)
    client = open_store()
    assert f"consilium-{name}" not in registry.list_models()
    [run] = client.search_runs([client.get_experiment_by_name(f"consilium-{name}").experiment_id])
    assert run.info.status == "KILLED"
    resumed = train(recipe(name), phantom, resume=True, progress=False)
    assert resumed.run_id == run.info.run_id
    assert client.get_run(resumed.run_id).info.status == "FINISHED"
    assert resumed.steps == trained.steps
    assert resumed.evaluation.metrics == trained.evaluation.metrics


def test_half_an_artifact_is_made_again(phantom: Path, monkeypatch: pytest.MonkeyPatch):
    register = registry.register

    def cut(folder: Path, *_: object) -> str:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "register", cut)
        with pytest.raises(KeyboardInterrupt):
            train(recipe("tiny-half"), phantom, progress=False)
    assert registry.register is register
    resumed = train(recipe("tiny-half"), phantom, resume=True, progress=False)
    assert registry.resolve(resumed.uri).identity.manifest_digest == verify(resumed.folder)


def test_resume_refuses_another_recipe(phantom: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "predict", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(recipe("tiny-other"), phantom, progress=False)
    with pytest.raises(TrainingError, match="another recipe or cohort"):
        train(recipe("tiny-other", "training.learning_rate=0.5"), phantom, resume=True, progress=False)


def test_resume_with_nothing_to_resume_starts(phantom: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        made = train(recipe("tiny-nothing"), phantom, resume=True, progress=False)
    assert made.version == "1"
    assert "starting from the beginning" in caplog.text


def _run_of(name: str) -> Any:
    client = open_store()
    [run] = client.search_runs([client.get_experiment_by_name(f"consilium-{name}").experiment_id])
    return run


def test_ctrl_c_twice_closes_the_run_and_tells_how_to_go_on(
    own_signals: None, phantom: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def twice(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # while the first one is on its way out

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(protocols, "_learned", twice)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe("tiny-twice"), phantom, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert _run_of("tiny-twice").info.status == "KILLED"
    assert "interrupted; the same command with --resume goes on from the last finished epoch" in caplog.messages


def test_a_run_that_was_killed_and_is_given_up_is_closed(phantom: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(protocols, "_learned", kill)
        patch.setattr(pipeline.TrackedRun, "give_up", lambda *_: [])
        with pytest.raises(Killed):
            train(recipe("tiny-anew"), phantom, progress=False)
    killed = _run_of("tiny-anew")
    assert killed.info.status == "RUNNING"
    made = train(recipe("tiny-anew"), phantom, progress=False)
    assert made.run_id != killed.info.run_id
    assert open_store().get_run(killed.info.run_id).info.status == "KILLED"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_no_room_ends_in_the_cause_and_leaves_nothing_half_written(
    phantom: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("CONSILIUM_HOME", str(small_disk))
    with pytest.raises(OSError, match="No space left on device"):
        train(recipe("tiny-full"), phantom, progress=False)
    assert _run_of("tiny-full").info.status == "FAILED"
    assert (
        "what was done is kept; the same command with --resume goes on from the last finished epoch" in caplog.messages
    )
    assert not list(small_disk.rglob("squares-*.npy")), "no square without an index"
    [state] = small_disk.glob("runs/*/run.json")
    assert json.loads(state.read_text())["run_id"] == _run_of("tiny-full").info.run_id
    subprocess.run(["mount", "-o", "remount,size=512m", small_disk], check=True)
    made = train(recipe("tiny-full"), phantom, resume=True, progress=False)
    assert (made.run_id, made.version) == (_run_of("tiny-full").info.run_id, "1")


def test_two_at_once_are_refused(phantom: Path, home: Path, trained: TrainedModel):
    lock = FileLock(home / "runs" / f".{trained.folder.parent.name}.lock")
    with lock, pytest.raises(TrainingError, match="by another process"):
        train(recipe("tiny-split"), phantom, progress=False)


def test_a_leak_fails_the_run_and_registers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    splits = {"train": 0.3, "validation": 0.1, "calibration": 0.2, "test": 0.4}
    write_phantom(tmp_path / "phantom", 200, seed=5, size=64, workers=1, splits=splits)
    load_oracle = CohortKind.load_oracle

    def contrary(kind: CohortKind, root: Path):
        oracle = load_oracle(kind, root)
        opposite = {key: 1 - known for key, known in oracle.posteriors.items()}
        return SimpleNamespace(study_ids=oracle.study_ids, posteriors=opposite)

    monkeypatch.setattr(CohortKind, "load_oracle", contrary)
    with pytest.raises(TrainingError, match="better than the best possible answer"):
        train(recipe("tiny-leak"), tmp_path / "phantom", progress=False)
    assert "consilium-tiny-leak" not in registry.list_models()
    client = open_store()
    [run] = client.search_runs([client.get_experiment_by_name("consilium-tiny-leak").experiment_id])
    assert run.info.status == "FAILED"


def test_cross_validation_evaluates_every_study_out_of_fold(phantom: Path):
    settings = ["evaluation.protocol=cross_validation", "evaluation.folds=2", "evaluation.baselines=true"]
    chosen = recipe("tiny-folds", *settings)
    made = train(chosen, phantom, progress=False)
    studies = pd.read_csv(phantom / "studies.csv")
    assert sorted(made.evaluation.study_ids) == sorted(studies["study"])
    rows = {str(row) for row in made.evaluation.tables["metrics"]["row"]}
    assert {"fused/as_present", "alone/image", "baseline/image_hog", "baseline/note_tfidf"} <= rows
    run = open_store().get_run(made.run_id)
    steps = [len(open_store().get_metric_history(made.run_id, f"{name}/train_total")) for name in ("fold_1", "final")]
    assert min(steps) > 0
    assert run.data.metrics["steps"] == made.steps
    split = pd.read_csv(mlflow.artifacts.download_artifacts(run_id=made.run_id, artifact_path="split.csv"))
    assert set(split["part"]) == {"fold 1", "fold 2"}
    watched = load_artifact(made.folder).monitoring
    assert watched is not None
    assert (watched.studies, watched.rows) == (len(studies), {})  # the folds' models see with other features
    assert set(watched.projections) == {*chosen.modalities, FUSED}
    resumed = train(chosen, phantom, resume=True, progress=False)
    assert resumed.version == made.version
    assert resumed.evaluation.metrics == made.evaluation.metrics


def test_each_source_is_evaluated_by_a_model_that_has_not_seen_it(phantom: Path, tmp_path: Path):
    root = shutil.copytree(phantom, tmp_path / "cohort")
    studies = pd.read_csv(root / "studies.csv", dtype=str)
    studies["source"] = ["", "", *np.where(np.arange(len(studies) - 2) % 3 == 0, "north", "south")]
    studies.to_csv(root / "studies.csv", index=False)
    made = train(recipe("tiny-sources", "evaluation.protocol=leave_one_source_out", "cohort.kind=manifest"), root)
    evaluated = studies["study"][studies["source"] != ""]
    assert sorted(made.evaluation.study_ids) == sorted(evaluated)
    split = pd.read_csv(mlflow.artifacts.download_artifacts(run_id=made.run_id, artifact_path="split.csv"))
    assert split["part"].value_counts().to_dict() == {"source south": 105, "source north": 53, "not evaluated": 2}
    studies["source"] = "north"
    studies.to_csv(root / "studies.csv", index=False)
    with pytest.raises(TrainingError, match="needs two sources"):
        train(recipe("tiny-source", "evaluation.protocol=leave_one_source_out", "cohort.kind=manifest"), root)


def test_folds_without_validation_train_all_their_studies_for_all_epochs(phantom: Path):
    settings = ["evaluation.protocol=cross_validation", "evaluation.folds=2", "training.epochs=2"]
    shares = "splits={train: 0.8, validation: 0.0, calibration: 0.1, test: 0.1}"
    made = train(recipe("tiny-fixed", *settings, shares), phantom, progress=False)
    client = open_store()
    steps = {
        name: len(client.get_metric_history(made.run_id, f"{name}/train_total"))
        for name in ("fold_1", "fold_2", "final")
    }
    assert steps == {"fold_1": 2 * (80 // 16), "fold_2": 2 * (80 // 16), "final": 2 * (160 // 16)}
    assert not client.get_metric_history(made.run_id, "fold_1/validation_loss")
