"""Every family of image encoders goes the whole way: loads, trains a step, is saved, answers alike, explains, runs."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import Artifact, load_artifact, save_artifact
from consilium.explain.methods import explanation_of
from consilium.inference.backends import build_network
from consilium.inference.self_test import Backend
from consilium.modalities.image import saliency_maps as images
from consilium.modalities.image.backbones.backbone import LEAST_CELLS, as_map
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Batch
from tests.consilium.explain.cases import case_of
from tests.consilium.modalities.image.backbones.tiny_models import ATTENTION, HUGGING_FACE, write_model
from tests.consilium.tiny import tiny_study
from tests.consilium.tiny_artifact import tiny_artifact

NAMED = {
    "resnet10": {"width": 8},
    "densenet121": {"width": 8},
    "seresnet50": {},
    "efficientnet-b0": {},
    "efficientnet-lite0": {},
    "vit": {"width": 16, "patch": 4, "depth": 3},
}
THEIRS = {f"hugging face {kind}": kind for kind in HUGGING_FACE}
SIZE = 64
STUDIES = [tiny_study(number) for number in range(3)]


def _section(family: str, root: Path) -> dict[str, object]:
    shared = {"size": SIZE}
    if family in NAMED:
        return {"encoder": family} | NAMED[family] | shared
    return {"encoder": str(write_model(root, THEIRS[family]))} | shared


@pytest.fixture(scope="module", params=[*NAMED, *THEIRS])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def artifact(family: str, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """With a model that has learned for a step."""
    section = _section(family, tmp_path_factory.mktemp("models"))
    artifact = tiny_artifact(modalities=["image"], image=section)
    _step(artifact.model, _batch(artifact))
    return artifact


def _batch(artifact: Artifact) -> Batch:
    return artifact.preprocessing.collate([artifact.preprocessing.prepare(study) for study in STUDIES])


def _step(model: DiagnosisModel, batch: Batch) -> None:
    """One step of training; every weight that can learn must have a gradient."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of this batch alone, so that random layers pass something on
    rate = torch.optim.SGD(model.parameters(), lr=1e-3)
    logits = model(batch)
    (logits.fused.square().sum() + sum(own.square().sum() for own in logits.unimodal.values())).backward()
    backbone = images.image_encoder(model).backbone
    assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []
    rate.step()
    rate.zero_grad()
    model.eval()


@torch.no_grad()
def _double(batch: Batch) -> Batch:
    exact = {
        modality: {name: one.double() if one.is_floating_point() else one for name, one in of.items()}
        for modality, of in batch.inputs.items()
    }
    return replace(batch, inputs=exact)


def _answers(model: DiagnosisModel, batch: Batch) -> Logits:
    return model.eval()(batch)


def test_a_loaded_artifact_answers_alike_without_the_model_s_files(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_artifact(tmp_path / "artifact", artifact)
    for away in ("consilium.modalities.image.backbones.hugging_face_files.image_model_folder",):
        monkeypatch.setattr(away, _gone)
    loaded = load_artifact(tmp_path / "artifact")
    batch = _batch(loaded)
    expected = _answers(artifact.model, batch)
    assert torch.allclose(_answers(loaded.model, batch).fused, expected.fused, atol=1e-5)
    assert (expected.fused[0] - expected.fused[1]).abs().max() > 1e-6, "the image must matter"
    assert (
        loaded.preprocessing.preparations["image"].description
        == artifact.preprocessing.preparations["image"].description
    )


def _gone(name: str) -> Path:
    raise AssertionError(f"{name} was asked for")


def test_every_weight_stands_in_one_block_in_the_order_of_the_network(artifact: Artifact) -> None:
    backbone = images.image_encoder(artifact.model).backbone
    blocks = backbone.blocks()
    found = [id(weight) for block in blocks for weight in block.parameters()]
    assert sorted(found) == sorted(id(weight) for weight in backbone.parameters())
    began: list[int] = []
    hooks = [
        block.register_forward_pre_hook(lambda *_, number=number: began.append(number))
        for number, block in enumerate(blocks)
    ]
    with torch.no_grad():
        backbone(torch.rand(1, 1, SIZE, SIZE))
    for hook in hooks:
        hook.remove()
    assert began == sorted(began)
    assert len(set(began)) >= len(blocks) - 1  # but for weights that belong to the network as a whole


def test_explanations_are_fine_enough_and_follow_the_image(artifact: Artifact, family: str) -> None:
    case = case_of(artifact, STUDIES[0])
    backbone = images.image_encoder(artifact.model).backbone
    assert as_map(case.traced[images.fine_stage(case.model)]).shape[-1] == backbone.fine_cells >= LEAST_CELLS
    with torch.no_grad():
        assert torch.allclose(artifact.model(case.batch).fused, case.fused, atol=1e-4), "watching must change no answer"
    explanation = explanation_of("image")
    assert explanation is not None
    fast = [method for method in explanation.methods if method.fast]
    suited = {method.name: method for method in fast if method.suits(artifact.preprocessing)}
    assert ("gradient_attention" in suited) == (THEIRS.get(family, family) in ATTENTION)
    for name, method in suited.items():
        maps = method.weigh(case, [0])
        least = 1 if name == "grad_cam" else LEAST_CELLS
        assert maps.shape[:2] == (1, 1)
        assert maps.shape[2] == maps.shape[3] >= least, name
        assert np.isfinite(maps).all(), name
        assert np.ptp(maps[0]) > 0, name


def test_a_study_is_answered_alike_by_every_backend(artifact: Artifact) -> None:
    batch = _batch(artifact)
    expected = _answers(artifact.model, batch)
    found = build_network(Backend.OPENVINO, artifact.model, threads=1)(batch)
    exact = _answers(copy.deepcopy(artifact.model).double(), _double(batch)).fused
    # Statistics of three studies may be near zero, and magnify what rounding does.
    rounding = float((expected.fused - exact).detach().abs().max())
    assert (found.fused - expected.fused).abs().max() <= max(1e-3 * max(1.0, float(exact.abs().max())), 10 * rounding)
    with torch.no_grad():
        rounded = build_network(Backend.BF16, artifact.model)(batch)
    assert (rounded.fused - expected.fused).norm() < expected.fused.norm()  # deep networks of random weights add noise
