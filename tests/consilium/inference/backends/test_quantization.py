from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import InputError, WrongAnswers
from consilium.inference.backends import Network, build_network, openvino_network
from consilium.inference.diagnostician import Diagnostician
from consilium.inference.self_test import Backend, Tolerance
from consilium.modalities.image.encoder import ImageEncoder
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import tiny_model, tiny_preprocessing, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_artifact

IDENTITY = ModelIdentity("tiny", "1", "0" * 64)
RESNET = {"encoder": "resnet18", "size": 128, "width": 8}
DENSENET = {"encoder": "densenet121", "size": 128, "width": 8}
VIT = {"encoder": "vit", "size": 128, "patch": 8, "width": 16, "depth": 2}


def reference_batches(preprocessing: Preprocessing) -> list[Batch]:
    return [preprocessing.collate([preprocessing.prepare(tiny_study(number))]) for number in range(4)]


def int8(**sections: object) -> tuple[Network, list[Batch]]:
    """A network of a tiny model, and the reference studies that it is scaled by."""
    recipe = tiny_recipe(**sections)
    preprocessing = tiny_preprocessing(recipe)
    model, references = tiny_model(recipe, preprocessing), reference_batches(preprocessing)
    model.requires_grad_(requires_grad=False)
    return build_network(Backend.OPENVINO_INT8, model, threads=1, references=references), references


@pytest.mark.parametrize(("image", "convolutions"), [(RESNET, 20), (DENSENET, 120)])
def test_every_convolution_but_the_first_multiplies_integers(
    monkeypatch: pytest.MonkeyPatch, image: dict[str, object], convolutions: int
) -> None:
    compiled: list[Any] = []
    compile_model = openvino_network.OpenvinoNetwork._compiled

    def remembering(*given: Any) -> Any:
        compiled.append(compile_model(*given))
        return compiled[-1]

    monkeypatch.setattr(openvino_network.OpenvinoNetwork, "_compiled", remembering)
    int8(modalities=["image"], image=image)
    runs = [op.get_rt_info() for op in compiled[-1].get_runtime_model().get_ordered_ops()]
    precisions = [run["runtimePrecision"] for run in runs if run["layerType"] == "Convolution"]
    assert len(precisions) == convolutions
    assert precisions[0] not in ("i8", "u8")
    assert set(precisions[1:]) <= {"i8", "u8"}


def test_a_model_is_quantized_the_same_way_every_time() -> None:
    (first, references), (second, _) = int8(), int8()
    with torch.inference_mode():
        for batch in references:
            assert torch.equal(first(batch).fused, second(batch).fused)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"image": VIT}, r"cannot run this model \(its encoder has no convolutions beyond the first\)"),
        ({"modalities": ["text", "observations"]}, "is for models with an encoder made of convolutions"),
    ],
)
def test_a_model_of_which_nothing_would_be_quantized_is_refused(sections: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"backend: got 'openvino-int8', {message}"):
        int8(**sections)


def test_nothing_is_quantized_by_guess() -> None:
    recipe = tiny_recipe()
    preprocessing = tiny_preprocessing(recipe)
    blind = preprocessing.collate([preprocessing.prepare(tiny_study(0, frozenset({"text"})))])
    for references in ([], [blind]):
        with pytest.raises(InputError, match="no reference study to scale it by"):
            build_network(Backend.OPENVINO_INT8, tiny_model(recipe, preprocessing), threads=1, references=references)


def make_uneven(model: DiagnosisModel) -> None:
    """One channel a million times larger, and the next layer's weights of it as much smaller: floats say the same."""
    backbone = cast(ImageEncoder, model.encoders["image"]).backbone
    with torch.no_grad():
        for block in (part for stage in backbone.stages[1:] for part in cast(nn.Sequential, stage)):
            block.bn1.weight[0] *= 1e6
            block.bn1.bias[0] *= 1e6
            block.conv2.weight[:, 0] /= 1e6


def test_a_model_whose_numbers_are_too_uneven_for_integers_is_not_accepted() -> None:
    tolerance = Tolerance(backend=0.01)
    artifact = tiny_artifact()
    assert Diagnostician(artifact, IDENTITY, backend="openvino-int8", threads=1).accept(tolerance)
    make_uneven(artifact.model)
    assert Diagnostician(artifact, IDENTITY, backend="openvino-bf16", threads=1).accept(tolerance)
    served = Diagnostician(artifact, IDENTITY, backend="openvino-int8", threads=1)
    with pytest.raises(WrongAnswers, match="backend openvino-int8: reference study"):
        served.accept(tolerance)
