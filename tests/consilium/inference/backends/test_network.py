from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from consilium.calibration import Calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.inference.backends import COMPANY, Network, build_network, choose_backend, openvino_network
from consilium.inference.self_test import Backend
from consilium.modalities.connectors import CONNECTORS
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.network.fusion import FUSIONS
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import ALL, TEXT, THREE, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_calibration

ROOT = Path(__file__).resolve().parents[4]
CPU = torch.device("cpu")
OTHERS = [backend for backend in Backend if backend is not Backend.EAGER]
FLOAT32 = (Backend.OPENVINO,)
EVERY_SUBSET = [tiny_study(number, subset) for number, subset in enumerate(nonempty_subsets(ALL))]


def model_of(recipe: Recipe) -> tuple[Preprocessing, DiagnosisModel]:
    preprocessing = tiny_preprocessing(recipe)
    return preprocessing, tiny_model(recipe, preprocessing).requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def tiny() -> tuple[Preprocessing, DiagnosisModel]:
    return model_of(tiny_recipe())


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return tiny_calibration(tiny_recipe())


def logits_of(network: Network, preprocessing: Preprocessing, studies: Sequence[Study]) -> Logits:
    with torch.inference_mode():
        return network(preprocessing.collate([preprocessing.prepare(study) for study in studies]))


def require_alike(given: Logits, expected: Logits, most: float) -> None:
    assert given.fused.dtype == torch.float32
    torch.testing.assert_close(given.fused, expected.fused, atol=most, rtol=0)
    assert given.present.keys() == given.unimodal.keys() == expected.unimodal.keys()
    for modality, there in expected.present.items():
        assert torch.equal(given.present[modality], there)
        unimodal = given.unimodal[modality].float()
        torch.testing.assert_close(unimodal[there], expected.unimodal[modality][there], atol=most, rtol=0)
    assert given.features.keys() == expected.features.keys()
    for part, features in expected.features.items():
        assert given.features[part].dtype == torch.float32
        torch.testing.assert_close(given.features[part], features, atol=10 * most, rtol=0, equal_nan=True)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("backend", OTHERS)
def test_a_backend_says_of_every_subset_and_fusion_what_the_plain_model_says(backend: Backend, fusion: str) -> None:
    preprocessing, model = model_of(tiny_recipe(fusion={"name": fusion, "width": 16, "depth": 1, "heads": 2}))
    network = build_network(backend, model, threads=1)
    most = 1e-5 if backend in FLOAT32 else 0.02
    # Several sizes: what was a constant of the traced example would show.
    for studies in (EVERY_SUBSET, EVERY_SUBSET[:1], EVERY_SUBSET[1:2], EVERY_SUBSET[2:3], EVERY_SUBSET[-3:]):
        require_alike(logits_of(network, preprocessing, studies), logits_of(model, preprocessing, studies), most)


@pytest.mark.parametrize(
    "encoder", [{"encoder": "vit", "patch": 8, "width": 16, "depth": 2}, {"encoder": "densenet121"}]
)
def test_other_image_encoders_run_too(encoder: dict[str, object]) -> None:
    preprocessing, model = model_of(tiny_recipe(image={"size": 128, "width": 8} | encoder))
    network = build_network(Backend.OPENVINO, model, threads=1)
    require_alike(logits_of(network, preprocessing, EVERY_SUBSET), logits_of(model, preprocessing, EVERY_SUBSET), 1e-4)


@pytest.mark.parametrize("name", CONNECTORS)
@pytest.mark.parametrize("backend", OTHERS)
def test_every_connector_gives_the_plain_models_answers(backend: Backend, name: str) -> None:
    image = {"encoder": "resnet18", "size": 128, "width": 8, "connector": {"name": name}}
    text = {**TEXT, "connector": {"name": "linear" if name == "grid" else name}}
    preprocessing, model = model_of(tiny_recipe(image=image, text=text))
    network = build_network(backend, model, threads=1)
    most = 1e-5 if backend in FLOAT32 else 0.02
    require_alike(logits_of(network, preprocessing, EVERY_SUBSET), logits_of(model, preprocessing, EVERY_SUBSET), most)


@pytest.mark.parametrize("modalities", [["image"], ["text"], ["observations"], ["image", "observations"]])
def test_models_of_fewer_modalities_run_too(modalities: list[str]) -> None:
    preprocessing, model = model_of(tiny_recipe(modalities=modalities))
    network = build_network(Backend.OPENVINO, model, threads=1)
    studies = [tiny_study(number) for number in range(3)]
    require_alike(logits_of(network, preprocessing, studies), logits_of(model, preprocessing, studies), 1e-5)


@pytest.mark.parametrize("backend", Backend)
def test_other_studies_in_a_batch_change_no_answer_by_more_than_the_bound(
    tiny: tuple[Preprocessing, DiagnosisModel], calibration: Calibration, backend: Backend
) -> None:
    """Alone, in pairs, among all: whoever else is in the batch, and however wide its padding."""
    preprocessing, model = tiny
    network = build_network(backend, model, threads=1)

    def probabilities(studies: Sequence[Study]) -> npt.NDArray[np.float64]:
        fused = logits_of(network, preprocessing, studies).fused.double().numpy()
        subsets = [subset_key(preprocessing.prepare(study).present) for study in studies]
        return np.stack([calibration.probabilities(row, key) for row, key in zip(fused, subsets, strict=True)])

    everybody = [*EVERY_SUBSET, *(tiny_study(number) for number in range(20, 25))]
    together = probabilities(everybody)
    for row, study in enumerate(everybody):
        alone = probabilities([study])[0]
        beside = probabilities([everybody[row - 1], study])[1]
        assert np.abs(together[row] - alone).max() <= COMPANY[backend]
        assert np.abs(beside - alone).max() <= COMPANY[backend]


def test_neither_import_nor_conversion_tells_anybody(tmp_path: Path) -> None:
    """OpenVINO's telemetry begins by noting an id of this machine in the home folder."""
    code = """
from consilium.inference.self_test import Backend
from consilium.inference.backends import build_network
from tests.consilium.tiny import tiny_model, tiny_preprocessing, tiny_recipe
recipe = tiny_recipe(modalities=["image"])
build_network(Backend.OPENVINO, tiny_model(recipe, tiny_preprocessing(recipe)).requires_grad_(False), threads=1)
from openvino.tools.ovc import convert_impl, telemetry_utils
print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)
"""
    # Telemetry keeps quiet of itself where it believes to be in a build.
    quiet = ("CI", "TF_BUILD", "JENKINS_URL")
    env = {name: value for name, value in os.environ.items() if name not in quiet} | {"HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2
    assert not (tmp_path / "intel").exists()


def test_a_model_that_openvino_cannot_run_is_refused(
    tiny: tuple[Preprocessing, DiagnosisModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("No conversion rule found for: aten::odd\nand a long list")

    monkeypatch.setattr(openvino_network, "_converted", fails)
    with pytest.raises(InputError, match=r"backend: got 'openvino', cannot run this model \(No conversion .*::odd\)$"):
        build_network(Backend.OPENVINO, tiny[1])


def test_without_openvino_its_extra_is_named(
    tiny: tuple[Preprocessing, DiagnosisModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, openvino_network.__name__)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"needs `pip install consilium\[cpu-fast\]`"):
        build_network(Backend.OPENVINO, tiny[1])


def test_auto_is_what_the_device_does_well() -> None:
    assert choose_backend("auto", CPU) is Backend.EAGER
    assert choose_backend("auto", torch.device("cuda")) is Backend.BF16
    assert choose_backend("openvino", CPU) is Backend.OPENVINO


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("onnx", CPU, "must be auto, eager, bf16, openvino, openvino-bf16"),
        ("openvino", torch.device("cuda"), "runs on the CPU, and the device is cuda"),
    ],
)
def test_a_backend_that_is_not_there_is_refused(name: str, device: torch.device, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        choose_backend(name, device)
    assert (caught.value.field, caught.value.value) == ("backend", name)


def test_the_modalities_of_a_model_are_read_in_any_batch(tiny: tuple[Preprocessing, DiagnosisModel]) -> None:
    """A batch in which nobody has a modality takes the branch that no conversion has seen."""
    preprocessing, model = tiny
    network = build_network(Backend.OPENVINO_BF16, model, threads=1)
    for subset in nonempty_subsets(THREE):
        studies = [tiny_study(number, subset) for number in range(2)]
        require_alike(logits_of(network, preprocessing, studies), logits_of(model, preprocessing, studies), 0.02)
