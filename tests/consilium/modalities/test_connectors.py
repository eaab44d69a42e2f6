from types import SimpleNamespace

import pytest
import torch

from consilium.domain.errors import InputError, RecipeError
from consilium.modalities.connectors import CONNECTORS, build_connector
from consilium.modalities.encoder_section import ConnectorSection
from consilium.modalities.tokens import FEATURES
from consilium.network.diagnosis_model import DiagnosisModel
from tests.consilium.tiny import FINDINGS, TEXT, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study

FUSION = SimpleNamespace(width=8, heads=2, dropout=0.0, linear=False)
IMAGE = {"encoder": "resnet18", "size": 128, "width": 8}
SECTIONS = [
    {"name": "linear"},
    {"name": "mlp", "hidden": 5},
    {"name": "resampler", "tokens": 3, "depth": 2},
    {"name": "grid", "cells": 2},
    {"name": "attention_pool"},
]


def connector(grid=(4, 6), channels=5, **section):
    torch.manual_seed(0)
    made = build_connector(ConnectorSection.model_validate(section), channels, FUSION, modality="image", grid=grid)
    return made.eval()


def names(section):
    return section["name"]


def test_every_connector_is_tested():
    assert [section["name"] for section in SECTIONS] == list(CONNECTORS)


@pytest.mark.parametrize(("section", "tokens"), list(zip(SECTIONS, [24, 24, 3, 4, 1], strict=True)), ids=CONNECTORS)
def test_features_become_tokens_of_the_fusions_width(section, tokens):
    one = connector(**section)
    features = one.reduce(torch.randn(3, 24, 5))
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    assert one(features, mask, torch.zeros(features.shape[1], 8)).shape == (3, tokens, 8)
    assert one.token_mask(mask).shape == (3, tokens)
    assert one.token_mask(mask).all()


@pytest.mark.parametrize("section", [s for s in SECTIONS if s["name"] != "grid"], ids=names)
def test_what_is_masked_changes_no_token_that_is_there(section):
    one = connector(grid=None, **section)
    features = torch.randn(2, 6, 5)
    mask = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    other = torch.where(mask[..., None], features, torch.full_like(features, 9.0))
    there = one.token_mask(mask)
    assert torch.allclose(one(features, mask)[there], one(other, mask)[there], atol=1e-6)
    alone = one(features[1:, :2], mask[1:, :2])
    assert torch.allclose(one(features, mask)[1][there[1]], alone[0], atol=1e-6)


@pytest.mark.parametrize("section", [s for s in SECTIONS if s["name"] != "grid"], ids=names)
def test_a_thing_without_features_has_no_token(section):
    nothing = torch.zeros(1, 6, dtype=torch.bool)
    one = connector(grid=None, **section)
    assert not one.token_mask(nothing).any()
    assert torch.isfinite(one(torch.randn(1, 6, 5), nothing)).all()


def test_a_grid_is_the_mean_of_the_cells_in_it():
    one = connector(grid=(4, 6), channels=1, name="grid", cells=2)
    cells = torch.arange(24.0).reshape(1, 24, 1)
    rows = cells.reshape(4, 6)
    expected = [rows[:2, :3].mean(), rows[:2, 3:].mean(), rows[2:, :3].mean(), rows[2:, 3:].mean()]
    assert torch.allclose(one.reduce(cells)[0, :, 0], torch.stack(expected))
    assert one.reduction == "grid2"


def test_places_tell_equal_features_apart():
    features, mask = torch.ones(1, 4, 5), torch.ones(1, 4, dtype=torch.bool)
    for section in SECTIONS:
        one = connector(grid=(2, 2), **section)
        places = torch.randn(4, 8)
        assert not torch.allclose(one(features, mask), one(features, mask, places)), section


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"image": {**IMAGE, "connector": {"name": "grid", "cells": 9}}}, r"image\.connector\.cells: got 9, .* 4 of"),
        ({"text": {**TEXT, "connector": {"name": "grid"}}}, r"text\.connector\.name: got 'grid', needs features"),
    ],
)
def test_a_connector_that_cannot_read_the_features_is_refused(sections, message):
    recipe = tiny_recipe(**sections)
    with pytest.raises(InputError, match=message):
        DiagnosisModel(recipe, FINDINGS, tiny_preprocessing(recipe))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "linear", "cells": 4}, "cells is read by grid alone, not by linear"),
        ({"name": "grid", "tokens": 4}, "tokens is read by resampler alone, not by grid"),
        ({"name": "perceiver"}, r"modalities\.image\.connector\.name"),
        ({"name": "grid", "cell": 4}, r"connector\.cell: .* the nearest is 'cells'"),
        ({"name": "resampler", "tokens": 0}, r"connector\.tokens: got 0"),
    ],
)
def test_a_connector_that_means_nothing_is_refused(section, message):
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(image={**IMAGE, "connector": section})


def test_a_recipe_with_a_connector_reads_as_it_was_written():
    recipe = tiny_recipe(image={**IMAGE, "connector": {"name": "grid", "cells": 2}})
    assert type(recipe).from_mapping(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("section", SECTIONS, ids=names)
def test_a_model_reads_features_that_were_made_before(section):
    text = {} if section["name"] == "grid" else {"connector": section}
    recipe = tiny_recipe(image={**IMAGE, "connector": section}, text={**TEXT, **text})
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing)
    some = [tiny_study(1), tiny_study(2, frozenset({"image"})), tiny_study(3, frozenset({"text", "observations"}))]
    batch = preprocessing.collate([preprocessing.prepare(study) for study in some])
    with torch.no_grad():
        expected = model(batch).fused
        made = batch
        for name in ("image", "text"):
            encoder, inputs = model.encoders[name], batch.inputs[name]
            rows = encoder.rows(inputs)
            features = encoder.dense(*encoder.dense_inputs(inputs))
            held = features.new_zeros(*rows.shape, *features.shape[1:])
            held[rows] = features
            made = made.with_inputs(name, **{FEATURES: held})
        made = made.with_inputs("image", images=torch.full_like(batch.inputs["image"]["images"], 0.5))
        assert torch.allclose(model(made).fused, expected, atol=1e-6)
        assert not torch.allclose(
            model(made.with_inputs("image", features=held.new_zeros(made.inputs["image"][FEATURES].shape))).fused,
            expected,
            atol=1e-3,
        )
