from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.domain.errors import TrainingError
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import ALL, FINDINGS, THREE, tiny_study
from tests.training.cohorts_made import tiny_training_recipe
from training.fitting.lightning_module import TrainingModule, build_model
from training.fitting.scheduled_module import VALIDATION_LOSS, stream_seed

RECIPE = tiny_training_recipe()
STUDIES = [tiny_study(number) for number in range(30)]


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return Preprocessing.fit(RECIPE, STUDIES)


@pytest.fixture
def module(preprocessing: Preprocessing) -> TrainingModule:
    made = TrainingModule(build_model(RECIPE, FINDINGS, preprocessing), RECIPE, FINDINGS, "key", preprocessing)
    made.logged = {}
    made.log_dict = lambda metrics, **_: made.logged.update(metrics)
    return made


def batch_of(preprocessing: Preprocessing, studies: list, labels: np.ndarray) -> Batch:
    return preprocessing.collate([preprocessing.prepare(study) for study in studies], labels.astype(np.float32))


def test_the_seed_alone_makes_the_weights(preprocessing: Preprocessing):
    torch.manual_seed(5)
    one = build_model(RECIPE, FINDINGS, preprocessing)
    torch.rand(7)
    other = build_model(RECIPE, FINDINGS, preprocessing)
    third = build_model(RECIPE.model_copy(update={"seed": 8}), FINDINGS, preprocessing)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.head.weight, third.head.weight)


def test_streams_do_not_meet():
    seeds = [
        stream_seed(seed, stream, position) for seed in (0, 1, 7) for stream in range(3) for position in range(500)
    ]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**63


def test_a_step_depends_on_its_number_and_reaches_every_weight(module: TrainingModule, preprocessing: Preprocessing):
    batch = batch_of(preprocessing, STUDIES[:8], np.random.default_rng(0).integers(0, 2, (8, 2)))
    module.model.train()
    loss = module.training_step(batch, 0)
    loss.backward()
    untouched = [n for n, p in module.model.named_parameters() if p.grad is None]
    assert untouched == []
    assert loss.item() == pytest.approx(module.logged["train_total"].item())
    assert {"train_fused", "train_subset", *(f"train_{m}" for m in THREE)} <= set(module.logged)


def test_compiled_networks_make_the_same_step(
    module: TrainingModule, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
):
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: compile_module(self, backend=count, **options)
    )
    names = list(module.state_dict())
    batches = [
        batch_of(preprocessing, STUDIES[start:end], np.random.default_rng(0).integers(0, 2, (end - start, 2)))
        for start, end in ((0, 8), (8, 14))
    ]
    module.model.train()
    plain = [module.training_step(batch, 0).item() for batch in batches]
    module.compile_networks()
    compiled = [module.training_step(batch, 0) for batch in batches]
    assert graphs
    assert [loss.item() for loss in compiled] == pytest.approx(plain, rel=1e-5)
    compiled[0].backward()
    assert all(parameter.grad is not None for parameter in module.model.parameters())
    assert list(module.state_dict()) == names


def test_blanked_words_reach_the_text_encoder_and_change_with_the_step(
    preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
):
    text = RECIPE.modalities["text"].model_copy(update={"word_dropout": 0.5})
    recipe = RECIPE.model_copy(update={"modalities": RECIPE.modalities | {"text": text}})
    model = build_model(recipe, FINDINGS, preprocessing)
    blanking = Preprocessing(recipe, preprocessing.preparations, preprocessing.variables)
    module = TrainingModule(model, recipe, FINDINGS, "key", blanking)
    module.log_dict = lambda *_, **__: None
    batch = batch_of(preprocessing, STUDIES[:8], np.zeros((8, 2)))
    seen = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda batch: seen.append(batch.inputs["text"]["input_ids"]) or encode(batch))
    for step in (0, 1, 0):
        monkeypatch.setattr(TrainingModule, "global_step", step)
        module.training_step(batch, 0)
    mask = preprocessing.preparations["text"].tokenizer.mask_token_id
    assert 0.2 < (seen[0] == mask)[batch.inputs["text"]["mask"]].float().mean() < 0.6
    assert not (batch.inputs["text"]["input_ids"] == mask).any()
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    with torch.inference_mode():
        module.validation_step(batch, 0)
    assert torch.equal(seen[3], batch.inputs["text"]["input_ids"])


def test_validation_is_the_mean_over_subsets_of_known_labels(module: TrainingModule, preprocessing: Preprocessing):
    studies = [*STUDIES[:6], tiny_study(50, frozenset({"text"})), tiny_study(51, ALL - {"image"})]
    labels = np.random.default_rng(1).integers(0, 2, (8, 2)).astype(np.float64)
    labels[2, 0] = np.nan
    module.model.eval()
    with torch.inference_mode():
        for start in (0, 5):  # batches of unequal size
            part = slice(start, 5 if start == 0 else 8)
            module.validation_step(batch_of(preprocessing, studies[part], labels[part]), 0)
        module.on_validation_epoch_end()
        whole = batch_of(preprocessing, studies, labels)
        tokens = module.model.encode(whole)
        expected = {}
        for key, logits in module.model.subsets(tokens).items():
            present = torch.stack([whole.present(name) for name in key.split("+")]).all(dim=0)
            known = present[:, None] & torch.isfinite(whole.labels)
            each = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], whole.labels[known])
            expected[key] = each.item()
    assert module.logged[f"{VALIDATION_LOSS}_image_text"].item() == pytest.approx(expected["image+text"], abs=1e-5)
    assert module.logged[VALIDATION_LOSS].item() == pytest.approx(np.mean(list(expected.values())), abs=1e-5)


def test_validation_forgets_the_epoch_before(module: TrainingModule, preprocessing: Preprocessing):
    labels = np.zeros((4, 2))
    module.model.eval()
    losses = []
    for value in (0.0, 1.0, 0.0):
        with torch.inference_mode():
            module.validation_step(batch_of(preprocessing, STUDIES[:4], labels + value), 0)
            module.on_validation_epoch_end()
        losses.append(module.logged[VALIDATION_LOSS].item())
    assert losses[0] == pytest.approx(losses[2])
    assert losses[0] != pytest.approx(losses[1])


def test_validation_without_a_known_label_is_an_error(module: TrainingModule, preprocessing: Preprocessing):
    with torch.inference_mode():
        module.validation_step(batch_of(preprocessing, STUDIES[:2], np.full((2, 2), np.nan)), 0)
    with pytest.raises(TrainingError, match="known label"):
        module.on_validation_epoch_end()


def test_a_checkpoint_of_another_training_is_refused(module: TrainingModule, tmp_path: Path):
    checkpoint: dict = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    back = torch.load(tmp_path / "a.ckpt", weights_only=True)
    module.on_load_checkpoint(back)
    module.key = "another"
    with pytest.raises(TrainingError, match="another recipe, cohort or split"):
        module.on_load_checkpoint(back)
