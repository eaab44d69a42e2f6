"""Gates of registered versions, from the store and back into it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from consilium.artifacts import model_registry as registry
from consilium.artifacts.mlflow_store import experiment_id, open_store
from consilium.artifacts.version_events import GateRecord
from consilium.cli import main
from consilium.domain.errors import InputError, NotGated, TrainingError
from tests.training.lifecycle.conftest import LENIENT
from training.cohorts.phantom.write import write_phantom
from training.data.cohort_places import remembered_place
from training.lifecycle import gate as module
from training.lifecycle.frozen_answers import FrozenAnswers, Rival
from training.lifecycle.gate import gate
from training.lifecycle.gate_file import ServingGate
from training.lifecycle.gate_results import Outcome
from training.lifecycle.serving_cost import serving_gates
from training.pipeline.train import TrainedModel

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.lifecycle.gate"])
STEPS = ("subgroup_gate", "_log_report", "note_gate")
"""Where a gate is cut off: its look counted, all measured, all logged."""


def _cut_off(uri: str, champion: str, step: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    setattr(module, step, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    gate(uri, LENIENT, champion=champion)


def _events(version: str) -> list[str]:
    return [event.action for event in registry.describe("consilium-tiny-gated", version).events]


def test_killed_at_every_step_nothing_is_passed_and_the_next_run_ends_it(
    two_versions: tuple[TrainedModel, TrainedModel], home: Path
):
    first, second = two_versions
    environment = {"CONSILIUM_HOME": str(home), "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}
    for step in STEPS:
        process = CONTEXT.Process(target=_cut_off, args=(second.uri, first.uri, step, environment))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, step
        assert "gate" not in _events("2")
        with pytest.raises(NotGated, match="has passed no gate"):
            registry.promote(second.name, "2", "good")
    report = gate(second.uri, LENIENT, champion=first.uri, why="cut off before")
    assert report.passed, report.to_json()
    version = registry.describe(second.name, "2")
    (looked,) = (key for key in version.tags if key.startswith("look "))
    assert version.tags[looked] == "1", "four runs of the same gates look once"
    client = open_store()
    runs = client.search_runs([experiment_id(second.name)], f"tags.gated = '{second.uri}'")
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    (reproduced,) = (one for one in report.results if one.gate == "answers of the artifact")
    assert reproduced.outcome is Outcome.PASSED
    assert first.uri in reproduced.measured
    assert second.uri in reproduced.measured
    last = client.get_run(report.run_id)
    assert last.data.tags["why"] == "cut off before"
    assert last.data.tags["gates"] == LENIENT.digest
    assert last.data.metrics["gate/passed"] == 1
    names = {file.path for file in client.list_artifacts(report.run_id, "gate")}
    assert names == {"gate/gates.yaml", "gate/report.json", "gate/frozen_test.csv"}
    record = GateRecord.parse(version.events[-1].reason)
    assert record == GateRecord(True, LENIENT.digest, version.manifest_digest, report.run_id)


def test_the_first_version_has_no_champion_and_all_else_is_demanded(two_versions: tuple[TrainedModel, TrainedModel]):
    report = gate(two_versions[0].uri, LENIENT)
    outcomes = {one.gate: one.outcome for one in report.results}
    compared = ["champion, frozen test set", "champion, newest data", "subgroups"]
    assert [outcomes[name] for name in compared] == [Outcome.NOT_APPLICABLE] * 3
    assert outcomes["calibration error"] is outcomes["size"] is Outcome.PASSED
    assert report.passed
    assert report.champion == ""


def _rival(trained: TrainedModel) -> Rival:
    return Rival(trained.name, trained.version, trained.uri, module.load_artifact(trained.folder))


def test_answers_to_the_test_studies_are_the_artifact_s_and_not_those_that_the_training_noted(
    two_versions: tuple[TrainedModel, TrainedModel], phantom: Path, monkeypatch: pytest.MonkeyPatch
):
    one, other = map(_rival, two_versions)
    kept, noted_of_other = one.kept(), other.kept()
    digest = one.artifact.details["cohort"]["digest"]
    assert remembered_place(digest) == phantom.resolve()
    sound = FrozenAnswers.beside(one, None)
    made = sound.of(one)
    assert sound.result().outcome is Outcome.PASSED
    assert made.study_ids.tolist() == kept.study_ids.tolist()
    assert made.probabilities == pytest.approx(kept.probabilities, abs=1e-4, nan_ok=True)

    monkeypatch.setattr(Rival, "kept", lambda _: noted_of_other)  # as of other weights than those registered
    swapped = FrozenAnswers.beside(one, phantom)
    assert swapped.of(one).probabilities == pytest.approx(kept.probabilities, abs=1e-4, nan_ok=True)
    assert swapped.result().outcome is Outcome.FAILED

    monkeypatch.setattr(Rival, "kept", lambda _: kept)
    with pytest.raises(TrainingError, match="not on this machine: name a folder"):
        FrozenAnswers(None, one.artifact.recipe.cohort).of(one)
    monkeypatch.setattr(Rival, "learned_from", lambda _: set(kept.patient_ids.tolist()))
    with pytest.raises(TrainingError, match="none of the test studies"):
        FrozenAnswers.beside(one, phantom).of(one)


def test_on_the_newest_cohort_only_patients_count_that_neither_learned_from(
    two_versions: tuple[TrainedModel, TrainedModel], tmp_path: Path
):
    first, second = two_versions
    known = _rival(second).learned_from()
    write_phantom(tmp_path / "newest", 240, seed=8, size=64, workers=1, splits=None)
    report = gate(second.uri, LENIENT, champion=first.uri, newest=tmp_path / "newest")
    (newest,) = (one for one in report.results if one.gate == "champion, newest data")
    fresh = 240 - len(known)
    assert fresh - 5 <= newest.figures["studies"] <= fresh, "some have nothing that the model reads"
    assert "newest" in report.tables


def test_a_version_that_fails_is_tagged_so_and_ends_the_command_with_code_1(
    two_versions: tuple[TrainedModel, TrainedModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    gates = tmp_path / "gates.yaml"
    gates.write_text("audit: {}\nsize: {artifact_mb: 0.001}\n")
    uri = two_versions[0].uri
    assert main(["gate", uri, "--gates", str(gates)]) == 1
    shown = capsys.readouterr().out
    assert "failed: audit, size" in shown
    promote = ["models", "promote", "consilium-tiny-gated", "1", "--reason", "good"]
    assert main([*promote, "--gates", str(gates)]) == 1
    assert "its newest gate failed" in capsys.readouterr().err
    gates.write_text("size: {}\n")
    assert main(["gate", uri, "--gates", str(gates), "--json"]) == 0
    assert main(promote) == 1
    assert "was by other gates" in capsys.readouterr().err
    assert main([*promote, "--gates", str(gates)]) == 0


def test_what_cannot_be_gated_is_refused(two_versions: tuple[TrainedModel, TrainedModel], home: Path):
    with pytest.raises(InputError, match="must be a registered version"):
        gate(str(two_versions[0].folder), LENIENT)
    lock = FileLock(home / "gates" / ".consilium-tiny-gated-1.lock")
    with lock, pytest.raises(TrainingError, match="being gated by another process"):
        gate(two_versions[0].uri, LENIENT)


def test_a_model_is_timed_where_it_would_serve(tiny_folder: Path):
    wanted = ServingGate(backend="eager", device="cpu", p95_ms=1e6, memory_mb=1)
    accepted, latency, memory = serving_gates(wanted, tiny_folder)
    assert (accepted.outcome, latency.outcome, memory.outcome) == (Outcome.PASSED, Outcome.PASSED, Outcome.FAILED)
    assert 0 < latency.figures["p50_ms"] <= latency.figures["p95_ms"]
    assert memory.figures["mb"] > 100, "torch alone takes more"


def test_a_model_that_cannot_be_served_fails_with_the_reason(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    (found,) = serving_gates(ServingGate(backend="tpu"), tiny_folder)
    assert found.outcome is Outcome.FAILED
    assert "backend: got 'tpu'" in found.measured
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess(sys.argv, -9, "", "no memory\n")
    )
    (died,) = serving_gates(ServingGate(), tiny_folder)
    assert "ended with -9: no memory" in died.measured
    assert died.outcome is Outcome.FAILED
