"""Sounds go the whole way: a phantom's files are trained on, explained, reported and served."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from consilium.api.client import Client
from consilium.cli import app
from service.app.launch import RunningService
from tests.consilium.modalities.audio.made import beats, dicom, flac, floats, wav
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
    root = tmp_path_factory.mktemp("sounds") / "cohort"
    write_phantom(root, 160, 5, 64, workers=1, modalities=("observations", "audio"))
    return root


def _trained(cohort: Path, **changed: Any) -> TrainedModel:
    recipe = tiny_recipe(
        modalities=["observations", "audio"],
        audio={"seconds": 4, "width": 4, "bands": 16, "hop_ms": 20},
        training={"epochs": 1, "batch_size": 16, "learning_rate": 0.003},
        evaluation={"bootstrap": 20, "audit": False, "out_of_distribution": 0, "faithfulness": 4},
        **changed,
    )
    return train(recipe, cohort)


@pytest.fixture(scope="module")
def network(cohort: Path) -> TrainedModel:
    return _trained(cohort, name="audio-network")


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
def clipped(tmp_path: Path) -> Path:
    path = tmp_path / "clipped.wav"
    path.write_bytes(floats(np.clip(beats(3) / 4000, -1, 1)))
    return path


def _explained(answer: dict[str, Any]) -> None:
    parts = [one["parts"]["audio"][0] for one in answer["explanations"]]
    assert max(np.abs(evidence["bands"]).max() for evidence in parts) > 0
    for one in answer["explanations"]:
        (evidence,) = one["parts"]["audio"]
        assert {len(row) for row in evidence["bands"]} == {20}
        assert len(evidence["hertz"]) == len(evidence["bands"]) + 1
        assert (evidence["sound"], evidence["start"], evidence["step"]) == (0, 2, 0.2)


def test_a_network_reads_a_sound_names_its_fault_draws_its_evidence_and_plays_it(
    network: TrainedModel, clipped: Path
) -> None:
    answer, page = _diagnosed(network.folder, clipped.parent, "--sound", str(clipped))

    assert answer["modalities"] == ["audio"]
    assert "The sound: it is clipped." in answer["refer_reasons"]
    assert "sounds[0]: it is clipped" in answer["warnings"]
    _explained(answer)
    assert "media-src data:" in page
    played = re.findall(r'<audio controls[^>]*src="data:audio/wav;base64,([^"]+)"', page)
    assert len(played) == len(answer["explanations"])
    with wave.open(io.BytesIO(base64.b64decode(played[0]))) as file:
        assert (file.getframerate(), file.getnframes()) == (4000, 16_000)


def test_features_are_fitted_in_closed_form_and_explained(cohort: Path, clipped: Path) -> None:
    stacked = _trained(cohort, name="audio-stacked", fusion={"name": "stacked", "width": 16})
    answer, _ = _diagnosed(stacked.folder, clipped.parent, "--sound", str(clipped), "--level", "thorough")

    _explained(answer)
    assert any("audio" in row.name for row in stacked.evaluation.probabilities)


def test_every_kind_of_file_gives_the_same_answer(service: RunningService) -> None:
    words = beats(4)
    answers = []
    for data in (wav(words), flac(words / 32768), dicom(words)):
        answer = httpx.post(f"{service.url}/v1/diagnose", files=[("sounds", ("sound", data))], timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        answers.append([finding["probability"] for finding in answer.json()["findings"]])
    np.testing.assert_allclose(answers[1:], answers[:1] * 2, atol=1e-5)


def test_a_client_sends_sounds(service: RunningService, clipped: Path) -> None:
    with Client(service.url) as client:
        found = client.explain(sounds=[clipped], level="fast")

    assert list(found.modalities) == ["audio"]


def test_what_is_broken_is_refused_by_field(service: RunningService) -> None:
    data = wav(rate=8)
    answer = httpx.post(f"{service.url}/v1/diagnose", files=[("sounds", ("sound", data))], timeout=PATIENCE_S)

    assert answer.status_code == 422
    assert answer.json()["field"] == "sounds[0].rate"


def test_the_service_says_how_it_reads_sounds(service: RunningService) -> None:
    model = httpx.get(f"{service.url}/v1/model", timeout=PATIENCE_S).json()

    expected = {"rate": 2000, "seconds": 4, "low_hz": 25, "high_hz": 900}
    assert model["reads"]["parts"]["audio"] == expected


def test_the_check_of_a_cohort_counts_faults(tmp_path: Path, clipped: Path) -> None:
    (tmp_path / "studies.csv").write_text(f"study,patient,sounds,label:flu\na,p,{clipped.name},1\n", encoding="utf-8")
    (tmp_path / "cohort.yaml").write_text("name: c\nfindings: [{name: flu, display: Flu}]\n", encoding="utf-8")

    found = check_cohort(load_cohort("manifest", tmp_path), audited=False)

    assert found.tables["audio_faults"].frame.to_dict("records") == [{"fault": "clipped", "sounds": 1}]
