"""Volumes go the whole way: a phantom's files are trained on, explained, reported and served."""

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
from consilium.modalities.image.presentation import Overlay, decode_overlay
from consilium.modalities.volume.presentation import PRESENTATION, VolumeEvidence, VolumeSaliency
from service.app.launch import RunningService
from tests.consilium.modalities.volume.made import files, packed, slice_dataset, written
from tests.consilium.tiny import tiny_recipe
from tests.patience import PATIENCE_S
from training.cohorts import load_cohort
from training.cohorts.phantom.volume.scan import SPACING, as_nifti, draw_volume
from training.cohorts.phantom.write import write_phantom
from training.inspection.inspect import check_cohort
from training.pipeline.train import TrainedModel, train

SETTINGS = {"model_threads": 1, "device": "cpu", "decode_workers": 1}
SECTION = {"spacing": [8, 8, 8], "size": [32, 32, 32], "width": 4}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSILIUM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volume") / "cohort"
    write_phantom(root, 120, 5, 64, workers=1, modalities=("observations", "volume"))
    return root


def _trained(cohort: Path, **changed: Any) -> TrainedModel:
    recipe = tiny_recipe(
        modalities=["observations", "volume"],
        volume=SECTION,
        training={"epochs": 1, "batch_size": 16, "learning_rate": 0.003},
        evaluation={"bootstrap": 20, "audit": False, "out_of_distribution": 0, "faithfulness": 2},
        **changed,
    )
    return train(recipe, cohort)


@pytest.fixture(scope="module")
def network(cohort: Path) -> TrainedModel:
    return _trained(cohort, name="volume-network")


@pytest.fixture(scope="module")
def service(network: TrainedModel) -> Iterator[RunningService]:
    with RunningService(network.folder, SETTINGS) as running:
        yield running


def scan(seed: int = 3) -> np.ndarray:
    """Hounsfield units from feet to head, from back to front, from left to right."""
    return draw_volume(np.array([2.0, 0.0, 0.0, 0.0]), np.random.default_rng(seed))


def as_series(values: np.ndarray) -> list[bytes]:
    """The same scan as DICOM slices: rows run to the back, and its columns to the left."""
    slices, rows, columns = values.shape
    turned = values[:, ::-1, ::-1]
    found = []
    for number, pixels in enumerate(turned):
        start = [-SPACING * (columns - 1) / 2, -SPACING * (rows - 1) / 2, SPACING * (number - (slices - 1) / 2)]
        changes: dict[str, Any] = {
            "PixelSpacing": [SPACING, SPACING],
            "ImagePositionPatient": start,
            "SliceThickness": SPACING,
        }
        changes |= {"PatientAge": None, "PatientSex": None}
        dataset = slice_dataset(pixels, number, RescaleSlope=1, RescaleIntercept=-1024, **changes)
        dataset.PixelData = (pixels + 1024).astype("<i2").tobytes()
        found.append(written(dataset))
    return found


def _diagnosed(model: Path, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    page = folder / "out.html"
    done = CliRunner().invoke(app, ["diagnose", str(model), *arguments, "--json", "--report", str(page)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), page.read_text(encoding="utf-8")


def _read(evidence: dict[str, Any]) -> VolumeSaliency:
    found: VolumeSaliency = PRESENTATION.read(VolumeEvidence.model_validate(evidence))
    return found


def test_a_folder_of_slices_is_diagnosed_explained_and_shown(network: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for number, content in enumerate(as_series(scan())):
        (folder / f"{(5 * number) % 24:02d}").write_bytes(content)
    answer, page = _diagnosed(network.folder, tmp_path, "--volume", str(folder))

    assert answer["modalities"] == ["volume"]
    for one in answer["explanations"]:
        (evidence,) = one["parts"]["volume"]
        assert evidence["shape"] == [24, 32, 32]
        assert evidence["cells"] == [8, 8, 8]
        saliency = _read(evidence)
        relevance = saliency.relevance()
        assert evidence["slices"][0]["number"] == int(relevance.argmax())
        over = np.stack([saliency.over(z) for z in range(24)])
        assert np.isfinite(over).all()
        peak = evidence["peak"]
        assert over[peak["slice"], peak["row"], peak["column"]] > 0.5 * peak["value"]
    assert "In the volume" in page
    assert f"slice {evidence['slices'][0]['number'] + 1} of 24" in page


def test_thorough_evidence_adds_up_to_what_the_volume_changes(network: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "v.nii.gz").write_bytes(as_nifti(scan()))
    answer, _ = _diagnosed(network.folder, tmp_path, "--volume", str(tmp_path / "v.nii.gz"), "--level", "thorough")

    assert {one["methods"]["volume"] for one in answer["explanations"]} <= {
        "gradient_x_difference",
        "integrated_gradients",
    }
    assert any(abs(_read(one["parts"]["volume"][0]).cells).max() > 0 for one in answer["explanations"])


def test_a_model_in_closed_form_reads_and_explains_cells(cohort: Path, tmp_path: Path) -> None:
    stacked = _trained(cohort, name="volume-stacked", fusion={"name": "stacked", "width": 16})
    (tmp_path / "v.nii.gz").write_bytes(as_nifti(scan()))
    answer, _ = _diagnosed(stacked.folder, tmp_path, "--volume", str(tmp_path / "v.nii.gz"))

    assert any(abs(_read(one["parts"]["volume"][0]).cells).max() > 0 for one in answer["explanations"])


def test_every_kind_of_file_gives_the_same_answer(service: RunningService) -> None:
    answers = []
    for data in (as_nifti(scan()), packed(as_series(scan()))):
        answer = httpx.post(f"{service.url}/v1/diagnose", files=[("volumes", ("v", data))], timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        answers.append([finding["probability"] for finding in answer.json()["findings"]])
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)


def test_a_client_sends_a_folder_and_the_service_explains_it(service: RunningService, tmp_path: Path) -> None:
    for number, content in enumerate(as_series(scan())):
        (tmp_path / f"{number}").write_bytes(content)
    with Client(service.url) as client:
        found = client.explain(volumes=[tmp_path], level="fast")

    assert list(found.modalities) == ["volume"]
    answer = httpx.post(
        f"{service.url}/v1/explain",
        files=[("volumes", ("v", as_nifti(scan()))), ("request", (None, json.dumps({"level": "fast"})))],
        timeout=PATIENCE_S,
    )
    (evidence,) = answer.json()["explanations"][0]["parts"]["volume"]
    first, saliency = evidence["slices"][0], _read(evidence)
    decoded = decode_overlay(Overlay.model_validate(first["overlay"]))
    np.testing.assert_allclose(decoded, saliency.over(first["number"]), atol=first["overlay"]["scale"] / 200)


def test_what_is_broken_is_refused_by_field(service: RunningService) -> None:
    data = packed(files(np.zeros((2, 8, 8), np.int16)))
    answer = httpx.post(f"{service.url}/v1/diagnose", files=[("volumes", ("v", data))], timeout=PATIENCE_S)

    assert answer.status_code == 422
    assert answer.json()["field"] == "volumes[0].slices"


def test_the_service_says_how_it_reads_volumes(service: RunningService) -> None:
    model = httpx.get(f"{service.url}/v1/model", timeout=PATIENCE_S).json()

    read = model["reads"]["parts"]["volume"]
    assert (read["size"], read["intensities"], read["windows"][0]) == ([32, 32, 32], "hounsfield", [-600, 1500])


def test_a_check_names_scales_that_differ(tmp_path: Path) -> None:
    rows = []
    for number, factor in enumerate((1, 1, 1000)):
        values = np.random.default_rng(number).integers(0, 20, (8, 8, 8)) * factor
        (tmp_path / f"{number}.nii.gz").write_bytes(as_nifti(values.astype(np.int16)))
        rows.append(f"s{number},p{number},{number}.nii.gz,1\n")
    (tmp_path / "studies.csv").write_text("study,patient,volumes,label:flu\n" + "".join(rows), encoding="utf-8")
    (tmp_path / "cohort.yaml").write_text("name: c\nfindings: [{name: flu, display: Flu}]\n", encoding="utf-8")

    found = check_cohort(load_cohort("manifest", tmp_path), audited=False)

    table = found.tables["volume_scales"].frame
    assert table[["source", "stored_type", "volumes"]].to_dict("records") == [
        {"source": "nifti", "stored_type": "int16", "volumes": 2},
        {"source": "nifti", "stored_type": "int16", "volumes": 1},
    ]
