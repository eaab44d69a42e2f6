"""Objectives that make the joint states of different sources alike."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.domain.errors import RecipeError, TrainingError
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import cache_cohort
from training.data.datamodule import StudyDataset
from training.fitting.fit import fit
from training.fitting.objectives.adversarial import Discriminator
from training.fitting.objectives.coral import coral_sum

ROWS = np.arange(24)


def with_sources(cohort: Cohort, sources: list[str | None]) -> Cohort:
    records = tuple(replace(record, source=source) for record, source in zip(cohort.records, sources, strict=True))
    return replace(cohort, records=records)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    made = tiny_cohort(tmp_path_factory.mktemp("cohort"), 24)
    return with_sources(made, [("harbour", "north", None)[number % 3] for number in range(24)])


def recipe_of(**objectives: float):
    return tiny_training_recipe(
        modalities=["observations"],
        objectives=objectives,
        training={"epochs": 1, "batch_size": 12, "learning_rate": 0.01},
    )


def test_coral_is_the_distance_of_means_and_covariances_over_pairs_of_sources() -> None:
    states = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, 3.0], [9.0, 9.0]])
    total, pairs = coral_sum(states, torch.tensor([0, 0, 1, 1, 2]))
    # Means [1, 0] and [1, 2]; covariances diag(2, 0) and diag(0, 2). A source with one study has none.
    assert pairs.item() == 1
    assert total.item() == pytest.approx(4 / 2 + (4 + 4) / 4)


def test_studies_of_unknown_sources_take_no_part() -> None:
    states = torch.randn(6, 3)
    known = coral_sum(states[:4], torch.tensor([0, 0, 1, 1]))
    with_unknown = coral_sum(states, torch.tensor([0, 0, 1, 1, -1, -1]))
    assert with_unknown[0].item() == pytest.approx(known[0].item())


def test_three_sources_are_three_pairs_and_one_is_none() -> None:
    states = torch.randn(6, 3, requires_grad=True)
    assert coral_sum(states, torch.tensor([0, 0, 1, 1, 2, 2]))[1].item() == 3
    total, pairs = coral_sum(states, torch.zeros(6, dtype=torch.long))
    assert (total.item(), pairs.item()) == (0.0, 0.0)
    total.backward()  # a batch of one source still has a gradient, of nothing
    assert torch.equal(states.grad, torch.zeros(6, 3))


def test_the_discriminator_learns_and_what_it_reads_unlearns() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(4, 2)
    states = torch.randn(8, 4, requires_grad=True)
    sources = torch.tensor([0, 1] * 4)
    loss = torch.nn.functional.cross_entropy(discriminator(states), sources)
    loss.backward()
    straight = torch.autograd.grad(
        torch.nn.functional.cross_entropy(discriminator.layers(states), sources), [states, *discriminator.parameters()]
    )
    assert torch.allclose(states.grad, -straight[0])
    for parameter, gradient in zip(discriminator.parameters(), straight[1:], strict=True):
        assert torch.allclose(parameter.grad, gradient)


def test_batches_name_sources_by_their_place_in_the_cohort(cohort: Cohort, tmp_path: Path) -> None:
    recipe = recipe_of()
    cached = cache_cohort(cohort, recipe, tmp_path)
    dataset = StudyDataset(cached, cached.preprocessing(recipe, ROWS.tolist()), ROWS)
    assert cohort.sources == ("harbour", "north")
    wanted = [(0, 1, -1)[row % 3] for row in dataset.rows]
    assert [dataset[position].source for position in range(len(dataset))] == wanted


@pytest.mark.parametrize("name", ["coral", "adversarial"])
@pytest.mark.parametrize("gradient", ["sum", "mmpareto"])
def test_a_training_logs_the_term_and_leaves_the_discriminator_behind(
    name: str, gradient: str, cohort: Cohort, tmp_path: Path
) -> None:
    recipe = recipe_of(**{name: 0.5, "gradient": gradient})
    cached = cache_cohort(cohort, recipe, tmp_path / "cache")
    sink = Sink()
    found = fit(cached, recipe, ROWS, None, tmp_path / "fit", sink)
    values = list(sink.seen[f"train_{name}"].values())
    assert values
    assert all(math.isfinite(value) and value > 0 for value in values)
    assert not any("discriminator" in key for key in found.model.state_dict())
    # What the folder holds is taken up by the same call.
    again = fit(cached, recipe, ROWS, None, tmp_path / "fit", Sink())
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["coral", "adversarial"])
def test_cohorts_without_two_sources_are_refused(name: str, cohort: Cohort, tmp_path: Path) -> None:
    recipe = recipe_of(**{name: 1.0})
    one = with_sources(cohort, ["north" if number % 2 else None for number in range(24)])
    cached = cache_cohort(one, recipe, tmp_path / "cache")
    with pytest.raises(TrainingError, match="compare sources, and the training studies name 1"):
        fit(cached, recipe, ROWS, None, tmp_path / "fit", Sink())


@pytest.mark.parametrize("fusion", ["stacked", "auto"])
def test_a_fusion_without_gradient_descent_refuses_them(fusion: str) -> None:
    with pytest.raises(RecipeError, match=r"objectives.coral.*must be 0 with the fusion"):
        tiny_training_recipe(objectives={"coral": 1.0}, fusion={"name": fusion, "width": 16})


def test_coral_brings_sources_together(tmp_path: Path) -> None:
    """Two sources have joint states that lie nearer together with the objective."""
    made = tiny_cohort(tmp_path / "cohort", 32)
    sources: list[str | None] = ["north" if number % 2 else "harbour" for number in range(32)]
    cohort = with_sources(made, sources)
    apart = []
    for weight in (0.0, 10.0):
        recipe = recipe_of(coral=weight) if weight else recipe_of()
        recipe = recipe.model_copy(
            update={"training": recipe.training.model_copy(update={"epochs": 6, "batch_size": 32})}
        )
        cached = cache_cohort(cohort, recipe, tmp_path / "cache")
        rows = np.arange(32)
        found = fit(cached, recipe, rows, None, tmp_path / f"fit-{weight}", Sink())
        dataset = StudyDataset(cached, found.preprocessing, rows)
        batch = found.preprocessing.collate([dataset[position].prepared for position in range(len(dataset))])
        with torch.inference_mode():
            states = found.model.fusion(found.model.encode(batch))
        distance, _ = coral_sum(states, torch.tensor(dataset.sources))
        apart.append((distance / states.var()).item())
    assert apart[1] < apart[0]
