"""A modality of a third party, installed as a distribution of its own, goes the whole way.

`tests/toy` is the folder that such a distribution would be installed into; every process of these tests finds it on
its path. Nothing in the three packages knows of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.app.launch import RunningService
from tests.conftest import ROOT
from tests.patience import PATIENCE_S

TOY = ROOT / "tests" / "toy"
SETTINGS = {"model_threads": 1, "device": "cpu", "decode_workers": 1}
RECIPE = {
    "name": "toy",
    "cohort": {"kind": "phantom"},
    "modalities": {
        "image": {"encoder": "resnet18", "size": 64, "width": 8},
        "observations": {"width": 16, "depth": 1},
        "pulse": {"window": 16, "width": 16},
    },
    "fusion": {"name": "cross_attention", "width": 32, "depth": 1, "heads": 2, "dropout": 0.0},
    "training": {"epochs": 6, "batch_size": 16, "learning_rate": 0.003, "modality_dropout": {"pulse": 0.3}},
    "evaluation": {"protocol": "split", "bootstrap": 20, "audit": True, "out_of_distribution": 8, "faithfulness": 4},
}


@dataclass(frozen=True)
class Place:
    """A folder in which the command runs, with the toy installed."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "consilium.cli", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("toy")
    given = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{TOY}",
        "CONSILIUM_HOME": str(folder / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "BENTOML_HOME": str(folder / "bentoml"),
    }
    return Place(folder, os.environ | given)


@pytest.fixture(scope="module")
def cohort(place: Place) -> Path:
    place.run("phantom", "cohort", "--studies", "240", "--seed", "3", "--size", "64",
              "--modalities", "image,observations,pulse")  # fmt: skip
    return place.folder / "cohort"


@pytest.fixture(scope="module")
def trained(place: Place, cohort: Path) -> dict[str, Any]:
    (place.folder / "toy.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    found: dict[str, Any] = place.run_json("train", "toy.yaml", "--cohort", str(cohort), "--promote")
    return found


@pytest.fixture(scope="module")
def wave(cohort: Path) -> Path:
    return sorted((cohort / "pulse").glob("*.txt"))[0]


@pytest.fixture(scope="module")
def service(place: Place, trained: dict[str, Any]) -> Iterator[RunningService]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        with RunningService(trained["folder"], SETTINGS) as running:
            yield running


def test_the_closed_form_reads_it_without_a_line_of_its_own(
    place: Place, cohort: Path, trained: dict[str, Any]
) -> None:
    """The mean over its encoder's tokens is whitened and stacked as that of the others."""
    off = ("evaluation.audit=false", "evaluation.out_of_distribution=0", "evaluation.faithfulness=0")
    settings = ("name=toy-stacked", "fusion.name=stacked", "fusion.width=16", "training.closed_form.folds=2", *off)
    chosen = [part for setting in settings for part in ("--set", setting)]
    found = place.run_json("train", "toy.yaml", "--cohort", str(cohort), *chosen)
    lines = found["evaluation"]["tables"]["metrics"]
    alone = [line for line in lines if line["row"] == "fused/pulse" and line["finding"] == "macro"]
    assert len(alone) == 1
    assert 0.3 < alone[0]["auroc"] <= 1
    assert found["folder"] != trained["folder"]


def test_the_cohort_is_checked_with_the_modality(place: Place, cohort: Path) -> None:
    assert "pulse" in place.run("check", str(cohort), "--no-audit")


def test_it_is_aligned_with_others_without_labels_and_a_recipe_starts_from_that(place: Place, cohort: Path) -> None:
    pretraining = {
        "objectives": {"clip": 1.0},
        "pairs": [["image", "pulse"]],
        "epochs": 1,
        "batch_size": 16,
        "width": 16,
    }
    recipe = RECIPE | {"name": "aligned", "pretraining": pretraining}
    (place.folder / "aligned.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    found = place.run_json("pretrain", "aligned.yaml", "--cohort", str(cohort))

    assert found["encoders"] == "models:/consilium-encoders-aligned/1"
    (line,) = [one for one in found["audit"]["retrieval"] if one["scope"] == "all sources"]
    assert line["pair"] == "image+pulse"
    assert 0.5 < line["possible_rank"] < 1
    (text,) = {one["modality"] for one in found["few_shot"]} - {"image", "observations"}
    assert text == "pulse"


def test_evaluation_has_rows_of_it_alone_and_without_it(trained: dict[str, Any]) -> None:
    text = json.dumps(trained["evaluation"])

    assert "image+observations+pulse" in text
    assert "image+observations" in text
    assert '"pulse"' in text or "fused/pulse" in text


def test_the_wave_is_learned_from_and_calibrated(trained: dict[str, Any]) -> None:
    stored = json.loads((Path(trained["folder"]) / "calibration.json").read_text(encoding="utf-8"))

    assert "pulse" in json.dumps(stored)


def test_the_card_names_it(trained: dict[str, Any]) -> None:
    cards = [path.read_text(encoding="utf-8") for path in Path(trained["folder"]).rglob("*card*")]

    assert any("Pulse wave" in card for card in cards)


def test_a_registered_model_is_evaluated_anew(place: Place, trained: dict[str, Any], cohort: Path) -> None:
    found = place.run_json("evaluate", "models:/consilium-toy@champion", "--cohort", str(cohort))

    assert found["model"]["version"] == "1"
    assert "consilium-toy" in place.run("models", "list")


def test_a_study_is_diagnosed_and_reported_with_a_wave_alone(place: Place, trained: dict[str, Any], wave: Path) -> None:
    found = place.run_json(
        "diagnose", "models:/consilium-toy@champion", "--pulse", str(wave), "--age", "60", "--report", "out.html"
    )

    assert "pulse" in found["modalities"]
    assert "In the pulse wave" in (place.folder / "out.html").read_text(encoding="utf-8")
    for finding in found["explanations"]:
        attributions = finding["parts"]["pulse"]
        assert len(attributions) == 6
        assert all(set(one) == {"window", "weight"} for one in attributions)
        assert finding["methods"]["pulse"] == "leave_one_out"


def test_it_is_sent_as_a_file_and_as_numbers(service: RunningService, wave: Path) -> None:
    samples = [float(line) for line in wave.read_text(encoding="ascii").split()]
    request = {"patient": {"age": 60}, "level": "fast"}
    as_file = httpx.post(
        f"{service.url}/v1/explain",
        files=[("pulse_files", ("wave", wave.read_bytes(), "text/csv")), ("request", (None, json.dumps(request)))],
        timeout=PATIENCE_S,
    )
    as_numbers = httpx.post(
        f"{service.url}/v1/explain",
        files=[("request", (None, json.dumps(request | {"pulses": [{"samples": samples}]})))],
        timeout=PATIENCE_S,
    )

    assert as_file.status_code == as_numbers.status_code == 200, as_file.text + as_numbers.text
    one, other = as_file.json(), as_numbers.json()
    assert "pulse" in one["modalities"]
    assert [finding["probability"] for finding in one["findings"]] == [f["probability"] for f in other["findings"]]
    assert one["explanations"][0]["parts"]["pulse"] == other["explanations"][0]["parts"]["pulse"]
    assert one["input_digests"] == other["input_digests"]


@pytest.mark.parametrize(
    ("data", "field"),
    [(b"1\n2\nx\n4", "pulse_files[0]"), (b"1\n2", "pulse_files[0]"), (b"nan\n1\n2\n3", "pulse_files[0]")],
)
def test_a_broken_wave_is_refused_by_field(service: RunningService, data: bytes, field: str) -> None:
    answer = httpx.post(
        f"{service.url}/v1/diagnose", files=[("pulse_files", ("wave", data, "text/csv"))], timeout=PATIENCE_S
    )

    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_the_api_describes_it(service: RunningService) -> None:
    schema = json.dumps(httpx.get(f"{service.url}/openapi.json", timeout=PATIENCE_S).json())
    model = httpx.get(f"{service.url}/v1/model", timeout=PATIENCE_S).json()

    assert "pulse_files" in schema
    assert "PulseRecord" in schema
    assert "pulse" in model["reads"]["modalities"]


def test_a_bento_with_the_model_answers_for_it(place: Place, trained: dict[str, Any], wave: Path) -> None:
    tag = place.run_json("bento", "models:/consilium-toy@champion")["tag"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        with RunningService(None, SETTINGS, bento=tag) as running:
            files = [("pulse_files", ("wave", wave.read_bytes(), "text/csv"))]
            answer = httpx.post(f"{running.url}/v1/diagnose", files=files, timeout=PATIENCE_S)

    assert answer.status_code == 200, answer.text
    assert answer.json()["modalities"] == ["pulse"]
