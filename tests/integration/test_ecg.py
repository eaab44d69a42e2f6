"""ECGs go the whole way: a phantom's files are trained on, explained, reported and served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from consilium.api.client import Client
from consilium.cli import app
from consilium.modalities.ecg.files.signals import LEADS
from service.app.launch import RunningService
from tests.consilium.modalities.ecg.made import csv, encoded, header, steps, waveform, wfdb
from tests.consilium.tiny import tiny_recipe
from tests.patience import PATIENCE_S
from training.cohorts import load_cohort
from training.cohorts.phantom.write import write_phantom
from training.inspection.inspect import check_cohort
from training.pipeline.train import TrainedModel, train

SETTINGS = {"model_threads": 1, "device": "cpu", "decode_workers": 1}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSILIUM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ecg") / "cohort"
    write_phantom(root, 200, 5, 64, workers=1, modalities=("observations", "ecg"))
    return root


def _trained(cohort: Path, **changed: Any) -> TrainedModel:
    recipe = tiny_recipe(
        modalities=["observations", "ecg"],
        ecg={"rate": 100, "width": 8},
        training={"epochs": 2, "batch_size": 16, "learning_rate": 0.003},
        evaluation={"bootstrap": 20, "audit": False, "out_of_distribution": 0, "faithfulness": 4},
        **changed,
    )
    return train(recipe, cohort)


@pytest.fixture(scope="module")
def network(cohort: Path) -> TrainedModel:
    return _trained(cohort, name="ecg-network")


@pytest.fixture(scope="module")
def service(network: TrainedModel) -> Iterator[RunningService]:
    with RunningService(network.folder, SETTINGS) as running:
        yield running


def _diagnosed(model: Path, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    page = folder / "out.html"
    done = CliRunner().invoke(app, ["diagnose", str(model), *arguments, "--json", "--report", str(page)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), page.read_text(encoding="utf-8")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A WFDB header with its signal file beside it, whose gains are wrong."""
    rows = steps(3)
    (tmp_path / "r.hea").write_bytes(header(rows, gains=[f"{200 + 40 * i}/mV" for i in range(12)]))
    (tmp_path / "r.dat").write_bytes(encoded(rows, 16))
    return tmp_path / "r.hea"


def _add_up(explained: dict[str, Any]) -> None:
    for one in explained["explanations"]:
        (evidence,) = one["parts"]["ecg"]
        assert list(evidence["leads"]) == list(LEADS)
        assert {len(row) for row in evidence["leads"].values()} == {50}
        assert (evidence["ecg"], evidence["start"], evidence["step"]) == (0, 0, 0.2)
        assert np.abs([*evidence["leads"].values()]).max() > 0


def test_a_network_reads_a_header_names_its_gains_and_draws_its_evidence(network: TrainedModel, record: Path) -> None:
    answer, page = _diagnosed(network.folder, record.parent, "--ecg", str(record))

    assert answer["modalities"] == ["ecg"]
    assert any(reason.startswith("The ECG: the gains of the file are wrong") for reason in answer["refer_reasons"])
    assert any(warning.startswith("ecgs[0]: the gains of the file are wrong") for warning in answer["warnings"])
    _add_up(answer)
    assert {one["methods"]["ecg"] for one in answer["explanations"]} <= {"gradient_x_samples", "integrated_gradients"}
    assert "In the ECG" in page
    assert "heights without a scale" in page
    assert page.count("<svg viewBox") >= len(answer["explanations"])


def test_features_of_beats_are_fitted_in_closed_form_and_explained(cohort: Path, record: Path) -> None:
    stacked = _trained(cohort, name="ecg-stacked", fusion={"name": "stacked", "width": 16})
    answer, _ = _diagnosed(stacked.folder, record.parent, "--ecg", str(record), "--level", "thorough")

    _add_up(answer)
    evaluation = stacked.evaluation
    assert any("ecg" in row.name for row in evaluation.probabilities)


def test_every_kind_of_file_gives_the_same_answer(service: RunningService) -> None:
    rows = steps(4)
    answers = []
    for data in (wfdb(rows), waveform(rows), csv(rows)):
        answer = httpx.post(f"{service.url}/v1/diagnose", files=[("ecgs", ("ecg", data))], timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        answers.append([finding["probability"] for finding in answer.json()["findings"]])
    np.testing.assert_allclose(answers[1:], answers[:1] * 2, atol=1e-5)


def test_a_client_sends_what_a_header_names(service: RunningService, record: Path) -> None:
    with Client(service.url) as client:
        found = client.explain(ecgs=[record], level="fast")

    assert list(found.modalities) == ["ecg"]


def test_what_is_broken_is_refused_by_field(service: RunningService) -> None:
    data = csv(steps(), head="")
    answer = httpx.post(f"{service.url}/v1/diagnose", files=[("ecgs", ("ecg", data))], timeout=PATIENCE_S)

    assert answer.status_code == 422
    assert answer.json()["field"] == "ecgs[0].rate"


def test_the_service_says_how_it_reads_ecgs(service: RunningService) -> None:
    model = httpx.get(f"{service.url}/v1/model", timeout=PATIENCE_S).json()

    assert model["reads"]["parts"]["ecg"] == {"rate": 100, "seconds": 10, "wrong_gains": "scaled"}


def test_a_cohort_names_headers_and_its_check_counts_faults(cohort: Path, tmp_path: Path) -> None:
    rows = steps(3)
    (tmp_path / "r.hea").write_bytes(header(rows, gains=[f"{200 + 40 * i}/mV" for i in range(12)]))
    (tmp_path / "r.dat").write_bytes(encoded(rows, 16))
    (tmp_path / "studies.csv").write_text("study,patient,ecg,label:flu\na,p,r.hea,1\n", encoding="utf-8")
    (tmp_path / "cohort.yaml").write_text("name: c\nfindings: [{name: flu, display: Flu}]\n", encoding="utf-8")

    found = check_cohort(load_cohort("manifest", tmp_path), audited=False)

    assert found.tables["ecg_faults"].frame.to_dict("records") == [{"fault": "gains", "ecgs": 1}]
