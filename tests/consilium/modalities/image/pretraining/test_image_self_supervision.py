"""What images teach without labels: hidden cells, and two views of one study."""

from __future__ import annotations

import pytest
import torch

from consilium.domain.errors import InputError
from consilium.modalities.draws import Draws
from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.image.letterbox import IMAGES
from consilium.modalities.image.preparation import VIEWS, ImagePreparation
from consilium.modalities.image.pretraining.masked_patches import MaskedPatches, _targets
from consilium.modalities.image.pretraining.multi_view import MultiView
from consilium.modalities.part import MASK
from tests.consilium.tiny import tiny_recipe

SIDE, CELLS = 64, 2


def made(connector: str = "linear") -> tuple[ImageEncoder, MaskedPatches]:
    image = {"encoder": "resnet18", "size": SIDE, "width": 8, "connector": {"name": connector}}
    recipe = tiny_recipe(modalities=["image"], image=image)
    section = recipe.modalities["image"]
    preparation = ImagePreparation(section)
    torch.manual_seed(0)
    encoder = ImageEncoder.build(section, preparation, recipe.fusion, pretrained=False)
    return encoder, MaskedPatches.build(section, preparation, recipe.fusion)


def inputs_of(images: torch.Tensor, mask: list[list[bool]]) -> dict[str, torch.Tensor]:
    there = torch.tensor(mask)
    return {IMAGES: images, MASK: there, VIEWS: torch.zeros(there.shape, dtype=torch.long)}


def draws(studies: int, seed: int = 0) -> Draws:
    return Draws.alone(studies, torch.Generator().manual_seed(seed))


def test_targets_are_the_cells_of_the_standardised_image_row_by_row() -> None:
    image = torch.zeros(1, 1, 1, SIDE, SIDE)
    image[..., : SIDE // 2, SIDE // 2 :] = 1.0  # the second of four cells
    targets = _targets(image, CELLS)
    low, high = -0.25 / 0.1875**0.5, 0.75 / 0.1875**0.5
    assert targets.shape == (1, 1, 4, 64)
    for cell, value in enumerate((low, high, low, low)):
        assert targets[0, 0, cell].tolist() == pytest.approx([value] * 64, abs=1e-5)


def test_an_image_of_one_grey_has_finite_targets() -> None:
    assert torch.equal(_targets(torch.full((1, 1, 1, SIDE, SIDE), 0.3), CELLS), torch.zeros(1, 1, 4, 64))


def test_what_is_hidden_is_filled_with_the_average_image_and_asked_for() -> None:
    encoder, objective = made()
    encoder.eval()
    encoder.typical.fill_(0.5)
    seen: dict[str, torch.Tensor] = {}
    forward = encoder.dense_inputs

    def watched(inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        seen.update(inputs)
        return forward(inputs)

    encoder.dense_inputs = watched  # type: ignore[method-assign]
    images = torch.full((6, 2, 1, SIDE, SIDE), 0.25)
    mask = [[True, True]] * 3 + [[True, False]] * 3
    _, count = objective(encoder, inputs_of(images, mask), draws(6))
    changed = (seen[IMAGES] != images).float()
    of_cell = torch.nn.functional.avg_pool2d(changed.flatten(0, 1), SIDE // CELLS)
    assert set(of_cell.unique().tolist()) == {0.0, 1.0}
    assert int(of_cell.sum()) == int(count) > 0
    assert (seen[IMAGES][changed.bool()] == 0.5).all()
    assert not changed[3:, 1].any()


def test_the_loss_is_the_mean_squared_error_over_hidden_cells() -> None:
    encoder, objective = made()
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    rows = torch.zeros(4, 1, 1, SIDE, SIDE)
    rows[..., ::8] = 1.0
    inputs = inputs_of(rows, [[True]] * 4)
    loss, count = objective(encoder.eval(), inputs, draws(4))
    # Every cell looks the same, so it does not matter which were hidden.
    assert (loss / count).item() == pytest.approx(_targets(rows, CELLS).square().mean().item(), rel=1e-5)


def test_it_learns_what_a_hidden_cell_shows() -> None:
    """The left half tells the right one."""
    encoder, objective = made()
    torch.manual_seed(1)
    images = (torch.arange(8) % 2).float()[:, None, None, None, None] * 0.6 + torch.rand(8, 1, 1, SIDE, SIDE) * 0.1
    images[..., SIDE // 2 :] = 0.6 - images[..., SIDE // 2 :]
    inputs = inputs_of(images, [[True]] * 8)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], 0.003)
    losses = []
    for step in range(20):
        loss, count = objective(encoder, inputs, draws(8, step))
        optimiser.zero_grad()
        (loss / count).backward()
        optimiser.step()
        losses.append((loss / count).item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_tokens_that_are_no_cells_are_refused() -> None:
    with pytest.raises(InputError, match="needs tokens that are cells of a map"):
        made("attention_pool")


def test_a_grid_of_fewer_cells_is_hidden_cell_by_cell() -> None:
    recipe = tiny_recipe(
        modalities=["image"],
        image={"encoder": "resnet18", "size": 128, "width": 8, "connector": {"name": "grid", "cells": 3}},
    )
    section = recipe.modalities["image"]
    encoder = ImageEncoder.build(section, ImagePreparation(section), recipe.fusion, pretrained=False)
    assert encoder.token_cells == 3
    objective = MaskedPatches.build(section, ImagePreparation(section), recipe.fusion)
    loss, count = objective(encoder, inputs_of(torch.rand(4, 1, 1, 128, 128), [[True]] * 4), draws(4))
    assert torch.isfinite(loss)
    assert 0 < int(count) <= 36


def test_two_views_are_compared_only_where_a_study_has_two() -> None:
    encoder, _ = made()
    objective = MultiView(16)
    torch.manual_seed(0)
    images = torch.rand(6, 3, 1, SIDE, SIDE)
    mask = [[True, True, True], [True, True, False], [True, False, False], [False] * 3, [True, False, True], [True] * 3]
    loss, count = objective(encoder.eval(), inputs_of(images, mask), draws(6))
    assert int(count) == 4
    assert torch.isfinite(loss)
    absent = images.clone()
    absent[1, 2] = absent[2] = absent[3] = absent[4, 1] = 9.0
    again, _ = objective(encoder, inputs_of(absent, mask), draws(6))
    assert again.item() == pytest.approx(loss.item(), rel=1e-5)


def test_one_study_with_two_views_teaches_nothing() -> None:
    encoder, _ = made()
    loss, count = MultiView(16)(
        encoder, inputs_of(torch.rand(2, 2, 1, SIDE, SIDE), [[True, True], [True, False]]), draws(2)
    )
    assert (loss.item(), count.item()) == (0.0, 0.0)


def test_equal_views_agree_better_than_different_ones() -> None:
    encoder, _ = made()
    encoder.eval()
    torch.manual_seed(3)
    objective = MultiView(16)
    images = torch.rand(8, 1, 1, SIDE, SIDE) * torch.linspace(0.1, 1, 8)[:, None, None, None, None]
    mask = [[True, True]] * 8
    same, other = (
        objective(encoder, inputs_of(torch.cat([images, second], dim=1), mask), draws(8))[0]
        for second in (images, images.flip(0))
    )
    assert same < other
