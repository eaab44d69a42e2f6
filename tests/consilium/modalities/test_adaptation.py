from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from consilium.domain.errors import InputError, RecipeError
from consilium.modalities.adaptation import Adaptation
from consilium.modalities.encoder_section import AdaptationSection
from consilium.network.diagnosis_model import DiagnosisModel
from tests.consilium.tiny import FINDINGS, TEXT, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study

IMAGES = [
    {"encoder": "resnet18", "size": 64, "width": 8},
    {"encoder": "densenet121", "size": 64, "width": 8},
    {"encoder": "vit", "size": 64, "width": 16, "patch": 4, "depth": 2},
    {"encoder": "efficientnet-lite0", "size": 64},
]
IMAGE = IMAGES[0]


class Body(nn.Module):
    """Three blocks between weights of their own, and one weight that never learns."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.steps = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)) for _ in range(3))
        self.after = nn.LayerNorm(4)
        self.fixed = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x):
        x = self.before(x) * self.fixed
        for step in self.steps:
            x = step(x)
        return self.after(x)


def adapted(**section):
    torch.manual_seed(0)
    body = Body()
    found = Adaptation(AdaptationSection.model_validate(section), body, list(body.steps), learning_rate=0.1)
    body.train()
    found.hold()
    return body, found


def trained(body):
    """The parts of `body` that ask for a gradient."""
    names = (name.rpartition(".")[0] or name for name, parameter in body.named_parameters() if parameter.requires_grad)
    return set(names)


def test_all_is_trained_but_what_never_learns():
    body, found = adapted(name="all")
    assert trained(body) == {"before", "after", *(f"steps.{n}.{k}" for n in range(3) for k in (0, 1))}
    assert all(module.training for module in body.modules())
    assert not found.frozen


def test_nothing_of_a_frozen_body_is_trained_or_leaves_evaluation_mode():
    body, found = adapted(name="frozen")
    assert trained(body) == set()
    assert not any(module.training for module in body.modules())
    assert found.frozen


def test_the_last_blocks_take_with_them_what_follows():
    body, _ = adapted(name="last", blocks=2)
    assert trained(body) == {"after", "steps.1.0", "steps.1.1", "steps.2.0", "steps.2.1"}
    assert not any(module.training for module in (body.before, *body.steps[0].modules()))
    assert all(module.training for module in (*body.steps[1].modules(), *body.steps[2].modules(), body.after))


def test_more_blocks_than_there_are_cannot_be_trained():
    with pytest.raises(InputError, match="blocks: got 4, must be at most the 3 blocks"):
        adapted(name="last", blocks=4)


def test_rates_fall_from_block_to_block_towards_the_input():
    body, found = adapted(name="all", layer_decay=0.5)
    rates = {name: found.rate_of(parameter, 1.0) for name, parameter in body.named_parameters()}
    expected = {"before.weight": 0.025, "steps.0.0.bias": 0.025, "steps.1.1.weight": 0.05, "steps.2.0.weight": 0.1}
    assert {name: rates[name] for name in expected} == pytest.approx(expected)
    assert rates["after.weight"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("section", "opened"),
    [
        ({"name": "all", "head_epochs": 2}, [0, 0, 3, 3, 3]),
        ({"name": "all", "head_epochs": 1, "block_epochs": 1}, [0, 1, 2, 3, 3]),
        ({"name": "all", "block_epochs": 2}, [1, 1, 2, 2, 3]),
        ({"name": "last", "blocks": 2, "head_epochs": 1, "block_epochs": 1}, [0, 1, 2, 2, 2]),
    ],
)
def test_blocks_are_opened_from_the_last_one_on(section, opened):
    body, found = adapted(**section)
    for epoch, count in enumerate(opened):
        found.begin_epoch(epoch)
        body.train()
        found.hold()
        learning = [any(p.requires_grad for p in step.parameters()) for step in body.steps]
        assert learning == [False] * (3 - count) + [True] * count
        assert [step[1].training for step in body.steps] == learning
        assert body.after.weight.requires_grad == (count > 0)
        assert body.before.weight.requires_grad == (count == 3)
        assert not body.fixed.requires_grad


def test_low_rank_changes_leave_the_body_as_it_is_until_they_have_learned():
    plain, _ = adapted(name="all")
    body, found = adapted(name="lora", rank=2, targets=["0"])
    x = torch.randn(5, 4)
    assert torch.equal(body.eval()(x), plain.eval()(x))
    assert {name.rpartition(".lora_")[0] for name in trained(body)} == {f"steps.{n}.0" for n in range(3)}
    for parameter in body.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    before = body(x)
    assert not torch.allclose(before, plain(x), atol=1e-2)
    found.merge()
    assert list(body.state_dict()) == list(plain.state_dict())
    assert torch.allclose(body(x), before, atol=1e-5)


def test_batch_statistics_of_a_body_with_low_rank_changes_stay():
    body, _ = adapted(name="lora", rank=2)
    assert [step[1].training for step in body.steps] == [False] * 3
    assert [step[2].training for step in body.steps] == [True] * 3


@pytest.mark.parametrize("name", ["all", "last"])
def test_batch_statistics_can_be_kept_while_weights_learn(name):
    body, _ = adapted(name=name, batch_statistics="kept")
    assert [step[1].training for step in body.steps] == [False] * 3
    assert body.steps[2][2].training
    assert body.steps[2][1].weight.requires_grad


def test_layers_that_are_not_there_get_no_low_rank_changes():
    with pytest.raises(InputError, match=r"targets: got 'query', must be among the encoder's layers: 0, before"):
        adapted(name="lora", targets=["query"])


def test_a_copy_of_an_adapted_body_adapts_itself():
    body, found = copy.deepcopy(adapted(name="all", head_epochs=1))
    found.begin_epoch(0)
    assert trained(body) == set()


# --- in a model ------------------------------------------------------------------------------------------------------


def model_with(adaptation, image=IMAGE, **sections):
    recipe = tiny_recipe(image={**image, "adaptation": adaptation}, text={**TEXT, "adaptation": adaptation}, **sections)
    preprocessing = tiny_preprocessing(recipe)
    return recipe, preprocessing, tiny_model(recipe, preprocessing)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image["encoder"])
@pytest.mark.parametrize(
    "adaptation",
    [
        {"name": "frozen"},
        {"name": "last", "blocks": 1},
        {"name": "lora", "rank": 2},
        {"name": "all", "layer_decay": 0.5},
    ],
    ids=lambda adaptation: adaptation["name"],
)
def test_a_step_moves_what_is_trained_alone_and_answers_survive_the_artifact(image, adaptation, tmp_path):
    recipe, preprocessing, model = model_with(adaptation, image)
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(number)) for number in range(4)])
    before = copy.deepcopy(model.state_dict())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.train()
    step = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # half of a low-rank change is zero at first, and the other half moves at the second step
        step.zero_grad()
        model(batch).fused.square().sum().backward()
        step.step()
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    parameters = {name for name, _ in model.named_parameters()}
    assert moved & parameters <= learning
    body = {name for name in moved if ".backbone." in name or ".text.model." in name}
    if adaptation["name"] == "frozen":
        assert body == set()
    elif adaptation["name"] == "lora":
        assert body
        assert all(".lora_" in name for name in body)
    else:
        assert any(".backbone." in name for name in body)
        assert any(".text.model." in name for name in body)
    with torch.no_grad():
        expected = model.eval()(batch).fused
        model.end_training()
        assert torch.allclose(model(batch).fused, expected, atol=1e-5)
        assert not any("lora" in name for name in model.state_dict())
        save_file(model.state_dict(), tmp_path / "model.safetensors")
        loaded = DiagnosisModel(recipe, FINDINGS, preprocessing, pretrained=False).eval()
        loaded.load_state_dict(model.state_dict())
        assert torch.equal(loaded(batch).fused, model(batch).fused)


def test_weights_are_counted_by_encoder():
    _, _, whole = model_with({"name": "all"})
    _, _, frozen = model_with({"name": "frozen"})
    _, _, changed = model_with({"name": "lora", "rank": 2})
    counts = {name: model.parameter_counts() for name, model in (("all", whole), ("frozen", frozen), ("lora", changed))}
    total = sum(parameter.numel() for parameter in whole.parameters())
    for of_parts in counts.values():
        assert sum(part["all"] for part in of_parts.values()) == total
        assert of_parts["observations"]["trained"] == of_parts["observations"]["all"]
    body = sum(parameter.numel() for parameter in whole.encoders["text"].model.parameters())
    assert counts["frozen"]["text"]["trained"] == counts["all"]["text"]["all"] - body
    # Rank 2, of query and value of one layer, 16 wide: two matrices of 2 · 16 each.
    assert counts["lora"]["text"]["trained"] - counts["frozen"]["text"]["trained"] == 2 * 2 * 2 * 16


@pytest.mark.parametrize(
    ("adaptation", "message"),
    [
        ({"name": "frozen", "rank": 4}, "rank is read by lora alone, not by frozen"),
        ({"name": "lora", "layer_decay": 0.5}, "layer_decay is read by all and last alone, not by lora"),
        ({"name": "half"}, r"modalities\.image\.adaptation\.name"),
        ({"name": "last", "blocks": 0}, r"adaptation\.blocks: got 0"),
    ],
)
def test_an_adaptation_that_means_nothing_is_refused(adaptation, message):
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(image={**IMAGE, "adaptation": adaptation})


def test_an_encoder_without_the_blocks_names_the_recipes_key():
    recipe = tiny_recipe(text={**TEXT, "adaptation": {"name": "last", "blocks": 2}})
    preprocessing = tiny_preprocessing(recipe)
    with pytest.raises(InputError, match=r"modalities\.text\.adaptation\.blocks: got 2, must be at most the 1 blocks"):
        tiny_model(recipe, preprocessing)
