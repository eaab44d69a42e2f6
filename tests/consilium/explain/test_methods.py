from __future__ import annotations

import pytest

from consilium.artifacts.artifact import Artifact
from consilium.domain.errors import InputError
from consilium.explain import LEVELS, chosen_methods, explain
from consilium.explain.methods import default_methods, explanations, find_method
from tests.consilium.tiny import FINDINGS, THREE, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_artifact

DECLARED = explanations(THREE)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return tiny_artifact()


def _explain(artifact: Artifact, level: str, methods: dict[str, str] | None = None):
    prepared = artifact.preprocessing.prepare(tiny_study(3))
    model = artifact.model.eval()
    explained, _ = explain(
        model, artifact.preprocessing, artifact.calibration, prepared, FINDINGS, ("effusion",), level, methods
    )
    return explained[0]


def test_every_modality_has_a_default_method_at_every_level_and_fast_ones_are_fast() -> None:
    assert list(DECLARED) == list(THREE)
    for explanation in DECLARED.values():
        assert set(explanation.defaults) == set(LEVELS)
        for level, name in explanation.defaults.items():
            method = explanation.method(name)
            assert method is not None
            assert method.fast or level == "thorough"


@pytest.mark.parametrize("level", LEVELS)
def test_the_methods_asked_for_are_used_at_either_level(artifact: Artifact, level: str) -> None:
    default = _explain(artifact, level)
    assert default.methods == {**default_methods(DECLARED, level), "modalities": "shapley"}
    chosen = {"image": "grad_cam", "observations": "leave_one_out"}
    explained = _explain(artifact, level, chosen)
    assert explained.methods == {**default_methods(DECLARED, level), **chosen, "modalities": "shapley"}
    assert explained.parts["image"][0].cells == (4, 4)
    assert explained.parts["text"] == default.parts["text"]
    assert explained.parts["observations"] != default.parts["observations"]


@pytest.mark.parametrize(
    ("methods", "field"),
    [({"image": "magic"}, "explain.image"), ({"sound": "shapley"}, "explain"), ({"text": "shapley"}, "explain.text")],
)
def test_unknown_modalities_and_methods_are_refused(artifact: Artifact, methods: dict[str, str], field: str) -> None:
    with pytest.raises(InputError, match="must be one of") as error:
        _explain(artifact, "fast", methods)
    assert error.value.field == field


def test_attention_is_asked_of_transformers_only(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="reads attention"):
        find_method(artifact.preprocessing, "image", "attention_rollout")
    vit = tiny_artifact(image={"encoder": "vit", "width": 16, "size": 128, "patch": 8, "depth": 2})
    explained = _explain(vit, "fast", {"image": "gradient_attention"})
    assert explained.parts["image"][0].cells == (16, 16)


def test_a_method_for_a_modality_that_the_model_does_not_read_is_no_error() -> None:
    text_only = tiny_artifact(modalities=["text"])
    explained = _explain(text_only, "thorough", {"image": "attention_rollout"} | {"image": "grad_cam"})
    assert explained.methods == {"text": "leave_one_out", "modalities": "shapley"}


def test_the_recipe_comes_before_the_measurement_and_that_before_the_default() -> None:
    measured = {"fast": {"image": "layer_cam", "text": "leave_one_out"}}
    recipe = tiny_recipe(explain={"image": "grad_cam"})
    assert chosen_methods(recipe, measured, "fast") == {
        "image": "grad_cam",
        "text": "leave_one_out",
        "observations": "gradient_x_value",
    }
    assert chosen_methods(tiny_recipe(), None, "thorough") == default_methods(DECLARED, "thorough")


def test_a_case_leaves_no_hook_behind(artifact: Artifact) -> None:
    _explain(artifact, "fast")
    assert not any(module._forward_hooks for module in artifact.model.modules())
