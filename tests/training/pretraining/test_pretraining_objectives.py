"""Objectives of pretraining: right values on embeddings made by hand, and what cannot be learned by."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from consilium.configuration.pretraining_recipe import OF_PAIRS, OF_VIEWS, objective_names
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.modalities.draws import Draws
from consilium.modalities.part import MASK
from consilium.modalities.text.preparation import INPUT_IDS
from consilium.modalities.text.pretraining.masked_words import MaskedWords
from consilium.modalities.tokens import Tokens
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import tiny_recipe, tiny_study
from tests.training.cohorts_made import tiny_training_recipe
from training.pretraining.objectives.clip import Clip, contrast
from training.pretraining.objectives.local_alignment import LocalAlignment
from training.pretraining.objectives.objective_table import (
    PAIR_OBJECTIVES,
    VIEW_OBJECTIVES,
    build_objectives,
    compared_pairs,
)
from training.pretraining.objectives.pretraining_objective import PretrainingStep
from training.pretraining.objectives.siglip import SigLip
from training.pretraining.objectives.vicreg import VicReg
from training.pretraining.pretraining_module import Learner, PretrainingModule

PAIR = ("image", "text")


def pretraining_recipe(**pretraining: object) -> Recipe:
    return tiny_training_recipe(pretraining={"objectives": {"clip": 1.0}, "width": 8, **pretraining})


def step_of(one: torch.Tensor, other: torch.Tensor, there: list[bool] | None = None) -> PretrainingStep:
    """Studies with these embeddings of an image and a text; `there`: which have a text."""
    rows = torch.ones(len(one), dtype=torch.bool)
    texts = rows if there is None else torch.tensor(there)
    return PretrainingStep(
        model=None,  # type: ignore[arg-type]
        inputs={},
        tokens={name: Tokens(values[:, None], rows[:, None]) for name, values in zip(PAIR, (one, other), strict=True)},
        embeddings=dict(zip(PAIR, (one, other), strict=True)),
        present={"image": rows, "text": texts},
        views=lambda name: None,  # type: ignore[arg-type,return-value]
        draws=None,  # type: ignore[arg-type]
    )


def test_clip_is_the_mean_cross_entropy_of_both_directions() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    loss, count = contrast(logits)
    rows = [-2 + math.log(math.exp(2) + 1), -3 + math.log(math.e + math.exp(3))]
    columns = [-2 + math.log(math.exp(2) + math.e), -3 + math.log(1 + math.exp(3))]
    assert loss.item() == pytest.approx((sum(rows) + sum(columns)) / 2, abs=1e-6)
    assert count.item() == 2


def test_clip_compares_only_studies_that_have_both() -> None:
    unit = torch.eye(3)
    all_there = Clip((PAIR,), pretraining_recipe())(step_of(unit, unit))
    two = Clip((PAIR,), pretraining_recipe())(step_of(unit, unit, [True, True, False]))
    assert all_there["image_text"][1].item() == 3
    assert two["image_text"][1].item() == 2
    scale = 1 / 0.07
    assert two["image_text"][0].item() / 2 == pytest.approx(math.log1p(math.exp(-scale)), abs=1e-6)


def test_one_study_with_both_is_nothing_to_compare() -> None:
    unit = torch.eye(3)
    assert Clip((PAIR,), pretraining_recipe())(step_of(unit, unit, [True, False, False])) == {}


def test_siglip_is_the_summed_sigmoid_loss_over_all_pairs() -> None:
    unit = torch.eye(2)
    loss, count = SigLip((PAIR,), pretraining_recipe())(step_of(unit, unit))["image_text"]
    # Own pairs have the logit 10 - 10, the others -10, which is right of them.
    expected = 2 * math.log(2) + 2 * math.log1p(math.exp(-10))
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert count.item() == 2


def test_vicreg_punishes_a_collapsed_space() -> None:
    torch.manual_seed(0)
    objective = VicReg((PAIR,), pretraining_recipe())
    spread = torch.nn.functional.normalize(torch.randn(16, 8), dim=1)
    same = spread[:1].expand(16, 8)
    collapsed = objective(step_of(same, same))["image_text"]
    apart = objective(step_of(spread, spread))["image_text"]
    # Nothing varies: the hinge on the standard deviation stands at 1 - sqrt(1e-4) for either side, times 25 / 2.
    assert collapsed[0].item() / 16 >= 25 * (1 - 0.01) - 1e-3
    assert apart[0] / apart[1] < collapsed[0] / collapsed[1]


def test_local_alignment_prefers_own_tokens() -> None:
    torch.manual_seed(1)
    objective = LocalAlignment((PAIR,), pretraining_recipe())
    values = torch.randn(6, 4, 16)
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[:, 3] = False
    objective.projections["text"] = objective.projections["image"]
    own, shuffled = (
        SimpleNamespace(tokens={"image": Tokens(values, mask), "text": Tokens(other, mask)})
        for other in (values, values[torch.tensor([1, 2, 3, 4, 5, 0])])
    )
    rows = torch.ones(6, dtype=torch.bool)
    assert objective.compare(own, PAIR, rows)[0] < objective.compare(shuffled, PAIR, rows)[0]  # type: ignore[arg-type]


def test_hidden_tokens_change_no_local_similarity() -> None:
    torch.manual_seed(1)
    objective = LocalAlignment((PAIR,), pretraining_recipe())
    values, mask = torch.randn(4, 3, 16), torch.tensor([[True, True, False]] * 4)
    changed = values.clone()
    changed[:, 2] = 9.0
    rows = torch.ones(4, dtype=torch.bool)
    losses = [
        objective.compare(SimpleNamespace(tokens={n: Tokens(v, mask) for n in PAIR}), PAIR, rows)[0]  # type: ignore[arg-type]
        for v in (values, changed)
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-6)


def test_every_name_of_a_recipe_has_an_objective() -> None:
    assert tuple(PAIR_OBJECTIVES) == OF_PAIRS
    assert tuple(VIEW_OBJECTIVES) == OF_VIEWS
    assert {"masked_words", "masked_values"} <= set(objective_names())


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    recipe = pretraining_recipe()
    return Preprocessing.fit(recipe, [tiny_study(number) for number in range(12)])


def test_all_objectives_give_a_gradient_to_every_encoder(preprocessing: Preprocessing) -> None:
    recipe = pretraining_recipe(objectives=dict.fromkeys(objective_names(), 1.0))
    stage = recipe.pretraining.all_stages[0]
    model = AlignedEncoders(recipe, preprocessing)
    objectives = build_objectives(recipe, stage, preprocessing, compared_pairs(recipe, stage))
    module = PretrainingModule(Learner(model, objectives), recipe, "key", preprocessing)
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(number)) for number in range(8)])
    total, terms = objectives(module._step(batch, 5, module.augmentations))
    total.backward()
    assert {"clip_image_text", "siglip_image_observations", "vicreg_text_observations"} <= set(terms)
    assert {"simclr_image", "masked_words_text", "masked_values_observations"} <= set(terms)
    assert all(torch.isfinite(term) for term in terms.values())
    for encoder in model.encoders.values():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_the_same_seed_makes_the_same_step(preprocessing: Preprocessing) -> None:
    recipe = pretraining_recipe(objectives={"simclr": 1.0, "masked_words": 1.0, "masked_values": 1.0})
    stage = recipe.pretraining.all_stages[0]
    torch.manual_seed(0)
    model = AlignedEncoders(recipe, preprocessing).eval()
    objectives = build_objectives(recipe, stage, preprocessing, ())
    module = PretrainingModule(Learner(model, objectives), recipe, "key", preprocessing)
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(number)) for number in range(8)])
    first, again, other = (objectives(module._step(batch, seed, {}))[0].item() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_masked_words_hides_no_marker_and_counts_what_it_hid(preprocessing: Preprocessing) -> None:
    recipe = pretraining_recipe()
    preparation = preprocessing.preparations["text"]
    objective = MaskedWords.build(recipe.modalities["text"], preparation, recipe.fusion)
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(number)) for number in range(12)])
    inputs = batch.inputs["text"]
    seen = {}

    class Encoder:
        def __call__(self, given):
            seen.update(given)
            return Tokens(torch.zeros(*given[INPUT_IDS].shape, recipe.fusion.width), given[MASK])

    _, count = objective(Encoder(), inputs, Draws.alone(12, torch.Generator().manual_seed(3)))
    changed = seen[INPUT_IDS] != inputs[INPUT_IDS]
    markers = torch.isin(inputs[INPUT_IDS], torch.tensor(preparation.tokenizer.all_special_ids))
    assert int(count) == int(changed.sum()) > 0
    assert not (changed & (markers | ~inputs[MASK])).any()
    assert (seen[INPUT_IDS][changed] == preparation.tokenizer.mask_token_id).all()
    assert abs(float(count) / float((inputs[MASK] & ~markers).sum()) - 0.15) < 0.1


@pytest.mark.parametrize(
    ("modalities", "objective", "message"),
    [
        (["image"], "clip", "compares two modalities; the recipe has image alone"),
        (["image", "observations"], "masked_words", "reads text, which the recipe does not have"),
        (["observations"], "simclr", "needs a modality with an augmentation; the recipe has observations"),
    ],
)
def test_an_objective_that_the_modalities_cannot_learn_by_is_refused(
    modalities: list[str], objective: str, message: str
) -> None:
    recipe = tiny_recipe(modalities=modalities, pretraining={"objectives": {objective: 1.0}})
    preprocessing = Preprocessing.fit(recipe, [tiny_study(number) for number in range(12)])
    stage = recipe.pretraining.all_stages[0]
    with pytest.raises(InputError, match=message):
        build_objectives(recipe, stage, preprocessing, compared_pairs(recipe, stage))


def test_an_objective_of_weight_0_is_none(preprocessing: Preprocessing) -> None:
    recipe = pretraining_recipe(objectives={"clip": 0.0})
    with pytest.raises(InputError, match="at least one objective a weight above 0"):
        build_objectives(recipe, recipe.pretraining.all_stages[0], preprocessing, (PAIR,))


def test_masked_values_learns_nothing_of_a_study_with_one_value(preprocessing: Preprocessing) -> None:
    from consilium.modalities.observations.masked_values import MaskedValues
    from consilium.modalities.observations.preparation import CODES, NUMBERS

    width = len(preprocessing.preparations["observations"].features)
    objective = MaskedValues(16, torch.ones(width, dtype=torch.bool))
    mask = torch.zeros(5, width, dtype=torch.bool)
    mask[:, 0] = True
    inputs = {MASK: mask, NUMBERS: torch.ones(5, width), CODES: torch.zeros(5, width, dtype=torch.long)}
    encoder = lambda given: Tokens(torch.zeros(5, width, 16), given[MASK])  # noqa: E731
    loss, count = objective(encoder, inputs, Draws.alone(5, torch.Generator().manual_seed(0)))
    assert (loss.item(), count.item()) == (0.0, 0.0)
    assert np.isfinite(loss.item())
