"""Maps against arithmetic on the same activations and gradients, and against the model asked again."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import Artifact
from consilium.domain.study import Study
from consilium.explain.case import Case
from consilium.modalities.image import saliency_maps as images
from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.image.saliency_maps import image_saliency
from tests.consilium.explain.cases import BOTH, case_of
from tests.consilium.tiny import tiny_study
from tests.consilium.tiny_artifact import tiny_artifact


def _shown(artifact: Artifact) -> Artifact:
    """`artifact`, whose model has seen a training image, so that the average one is not grey."""
    batch = artifact.preprocessing.collate([artifact.preprocessing.prepare(tiny_study(30))])
    images.image_encoder(artifact.model).remember(batch.inputs["image"])
    return artifact


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return _shown(tiny_artifact())


@pytest.fixture(scope="module")
def case(artifact: Artifact) -> Case:
    return case_of(artifact, tiny_study(4))


def test_saliency_is_signed_and_lands_in_the_original_pixels() -> None:
    cells = np.zeros((1, 16, 16), np.float32)
    cells[0, 4, 4] = 2  # for
    cells[0, 12, 12] = -3  # against
    (saliency,) = image_saliency(cells, [Letterbox(320, 320, 128)])
    assert saliency.values.shape == (320, 320)
    assert saliency.cells == (16, 16)
    assert np.unravel_index(saliency.values.argmax(), (320, 320))[0] // 20 == 4
    assert np.unravel_index(saliency.values.argmin(), (320, 320))[1] // 20 == 12
    assert saliency.values.max() > 1
    assert saliency.values.min() < -1.5


def test_gradient_methods_are_what_their_papers_say(case: Case) -> None:
    fine, last = images.fine_stage(case.model), images.last_stage(case.model)
    typical = {**case.batch.inputs["image"], "images": images.reference_images(case)}
    with torch.no_grad():
        _, a_typical = images.image_encoder(case.model).traced(typical)
    for position, (product_map, cam, layer) in enumerate(
        zip(
            images.gradient_x_activation(case, BOTH),
            images.grad_cam(case, BOTH),
            images.layer_cam(case, BOTH),
            strict=True,
        )
    ):
        target = (case.fused * case.direction(case.fused, position)).sum()
        g_fine, g_last = torch.autograd.grad(target, [case.traced[fine], case.traced[last]], retain_graph=True)
        a_fine, a_last = (case.traced[stage].detach() for stage in (fine, last))
        channels = range(a_fine.shape[1])
        expected = sum((a_fine[0, c] - a_typical[0, c]) * g_fine[0, c] for c in channels)
        assert product_map[0] == pytest.approx(expected.numpy(), abs=1e-5)
        weights = [g_last[0, c].mean() for c in range(a_last.shape[1])]
        expected = sum(w * a_last[0, c] for c, w in enumerate(weights))
        assert cam[0] == pytest.approx(expected.numpy(), abs=1e-5)
        expected = sum(a_fine[0, c] * torch.relu(g_fine[0, c]) for c in channels)
        assert layer[0] == pytest.approx(torch.relu(expected).numpy(), abs=1e-5)
        assert np.ptp(product_map) > 1e-3


def test_integrated_gradients_add_up_to_what_sets_the_image_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_STEPS", 50)
    vit = {"encoder": "vit", "width": 16, "size": 128, "patch": 8, "depth": 1}  # smooth, so that the mean converges
    case = case_of(_shown(tiny_artifact(seed=2, image=vit)), tiny_study(4))  # weights by which it changes both findings
    changed = (case.log_odds(case.fused) - images.log_odds_of_images(case, images.reference_images(case)))[0]
    found = images.integrated_gradients(case, BOTH)
    assert found.shape == (2, 1, 32, 32)
    assert found.sum(axis=(1, 2, 3)) == pytest.approx(changed, rel=0.005)
    assert np.abs(changed).min() > 0.02


def test_occlusion_is_the_mean_loss_of_the_windows_over_a_cell(case: Case) -> None:
    found = images.occlusion(case, BOTH)
    assert found.shape == (2, 1, 16, 16)
    hidden, whole = images.reference_images(case), case.log_odds(case.fused)[0]
    losses = []
    for row, column in product((6, 7), (9, 10)):  # the four windows of 2 × 2 cells that cover cell (7, 10)
        altered = case.batch.inputs["image"]["images"].clone()
        window = (..., slice(row * 8, row * 8 + 16), slice(column * 8, column * 8 + 16))
        altered[window] = hidden[window]
        losses.append(whole - images.log_odds_of_images(case, altered)[0])
    assert found[:, 0, 7, 10] == pytest.approx(np.mean(losses, axis=0) / 4, abs=1e-5)


def test_each_image_of_a_study_has_a_map_of_its_own(artifact: Artifact) -> None:
    first, second = tiny_study(4), tiny_study(9)
    both = first.with_parts(image=(*first.parts["image"], *second.parts["image"]))
    swapped = first.with_parts(image=(*second.parts["image"], *first.parts["image"]))
    maps, turned = (images.occlusion(case_of(artifact, study), [0])[0] for study in (both, swapped))
    assert maps.shape == (2, 16, 16)
    assert maps == pytest.approx(turned[::-1], abs=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-4


@pytest.mark.parametrize("name", ["gradient_x_activation", "grad_cam", "layer_cam"])
def test_frozen_weights_change_nothing(artifact: Artifact, name: str) -> None:
    study = Study({"image": tiny_study(3).parts["image"]})
    method = getattr(images, name)
    before = method(case_of(artifact, study), BOTH)
    artifact.model.requires_grad_(requires_grad=False)
    try:
        case = case_of(artifact, study)
        assert case.prepared.present == {"image"}
        assert method(case, BOTH) == pytest.approx(before, abs=1e-6)
    finally:
        artifact.model.requires_grad_(requires_grad=True)
