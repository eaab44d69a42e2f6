from __future__ import annotations

import pytest

from consilium.configuration.recipe import TrainingRecipe
from consilium.modalities.encoder_section import AdaptationSection
from tests.consilium.tiny import TEXT, tiny_model, tiny_preprocessing, tiny_recipe
from training.fitting.schedule import optimizer, scheduler, warmup_cosine


def test_warms_up_then_falls_to_nothing():
    factors = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_no_warmup_starts_at_full_rate_and_never_rises_again():
    assert warmup_cosine(0, 10, 0.0) == 1
    assert warmup_cosine(15, 10, 0.0) == pytest.approx(0)


def test_only_weights_of_layers_decay():
    model = tiny_model(tiny_recipe(), tiny_preprocessing(tiny_recipe()))
    adamw = optimizer(model, TrainingRecipe(weight_decay=0.1))
    decayed = {id(p) for group in adamw.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert "head.weight" in names
    assert "encoders.image.backbone.network.conv1.weight" in names  # a convolution
    for name in names:
        assert name.endswith("weight"), name
        assert "norm" not in name.lower() or "in_proj" in name, name
        assert "embeddings" not in name, name
    everything = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert everything == {id(p) for p in model.parameters() if p.requires_grad}


def model_with_text_rate(rate: float):
    recipe = tiny_recipe(text={**TEXT, "learning_rate": rate})
    return tiny_model(recipe, tiny_preprocessing(recipe))


def test_pretrained_text_has_a_rate_of_its_own():
    model = model_with_text_rate(1e-5)
    adamw = optimizer(model, TrainingRecipe(learning_rate=1e-3))
    rates = {id(p): group["lr"] for group in adamw.param_groups for p in group["params"]}
    text = model.encoders["text"]
    assert {rates[id(p)] for p in text.model.parameters()} == {1e-5}
    assert {rates[id(p)] for p in text.connector.parameters()} == {1e-3}


def test_frozen_parameters_are_left_out():
    recipe = tiny_recipe()
    image = recipe.modalities["image"].model_copy(update={"adaptation": AdaptationSection(name="frozen")})
    frozen = recipe.model_copy(update={"modalities": recipe.modalities | {"image": image}})
    model = tiny_model(frozen, tiny_preprocessing(frozen))
    trained = {id(p) for group in optimizer(model, TrainingRecipe()).param_groups for p in group["params"]}
    assert not trained & {id(p) for p in model.encoders["image"].backbone.parameters()}


def test_schedule_moves_every_group():
    model = model_with_text_rate(1e-4)
    adamw = optimizer(model, TrainingRecipe(learning_rate=1e-3))
    cosine = scheduler(adamw, total=10, warmup=0.5)
    assert {round(group["lr"], 8) for group in adamw.param_groups} == {2e-4, 2e-5}
    adamw.step()
    cosine.step()
    assert {round(group["lr"], 8) for group in adamw.param_groups} == {4e-4, 4e-5}
