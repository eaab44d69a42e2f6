from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from consilium.configuration.objectives_recipe import ObjectivesRecipe
from consilium.domain.targets import OrdinalTarget, SurvivalTarget
from tests.consilium.tiny import THREE
from training.fitting.modality_dropout import modality_dropout
from training.fitting.objectives.likelihood import divergence_sum, log_likelihood_sum, negative_log_likelihood
from training.fitting.objectives.losses import OBJECTIVES, needs_teachers, training_losses
from training.fitting.objectives.objective import StepOutputs
from training.runtime.distributed import Share

NAN = math.nan
IMAGE, TEXT, OBSERVATIONS = "image", "text", "observations"


def test_independent_findings_are_each_their_own_binary_likelihood():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    labels = torch.tensor([[1.0, 0.0], [NAN, 1.0]])
    expected = [math.log(2), math.log(1 + math.exp(2)), math.log(1 + math.exp(1))]
    assert negative_log_likelihood(logits, labels, exclusive=False).item() == pytest.approx(sum(expected) / 3)


def test_unknown_labels_have_no_gradient():
    logits = torch.zeros(2, 2, requires_grad=True)
    labels = torch.tensor([[NAN, 1.0], [NAN, NAN]])
    negative_log_likelihood(logits, labels, exclusive=False).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [0.0, -0.5, 0.0, 0.0]


def test_exclusive_findings_share_one_softmax():
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    labels = torch.tensor([[0.0, 1.0, 0.0], [NAN, NAN, NAN]])
    total, count = log_likelihood_sum(logits, labels, exclusive=True)
    assert total.item() == pytest.approx(-math.log(math.exp(2) / (math.e + math.exp(2) + 1)))
    assert count.item() == 1


def test_rows_left_out_do_not_count():
    logits = torch.tensor([[0.0], [5.0]])
    labels = torch.tensor([[1.0], [0.0]])
    rows = torch.tensor([True, False])
    assert negative_log_likelihood(logits, labels, exclusive=False, rows=rows).item() == pytest.approx(math.log(2))


def test_nothing_known_gives_zero_and_not_nan():
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = negative_log_likelihood(logits, torch.full((2, 3), NAN), exclusive=False)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(2, 3))


def test_total_is_the_sum_weighted_by_the_recipe():
    labels = torch.tensor([[1.0], [0.0]])
    logits = {name: torch.full((2, 1), value) for name, value in (("fused", 1.0), ("subset", 2.0), ("own", 3.0))}
    present = {IMAGE: torch.tensor([True, False]), TEXT: torch.tensor([True, True])}
    losses = training_losses(
        ObjectivesRecipe(fused=1.0, subset=10.0, modality=100.0),
        StepOutputs(
            labels=labels,
            exclusive=False,
            fused=logits["fused"],
            subset=logits["subset"],
            unimodal={IMAGE: logits["own"], TEXT: logits["own"]},
            present=present,
        ),
    )
    # The image's own head learns from the first study alone, which is positive.
    terms = losses.terms
    assert terms["image"].item() == pytest.approx(math.log1p(math.exp(-3)))
    assert losses.multimodal.item() == pytest.approx((terms["fused"] + 10 * terms["subset"]).item())
    assert losses.unimodal.item() == pytest.approx(100 * (terms["image"] + terms["text"]).item())
    assert losses.total.item() == pytest.approx((losses.multimodal + losses.unimodal).item())


def _pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 3, generator=generator), 2 * torch.randn(5, 3, generator=generator)


def test_a_teacher_of_independent_findings_is_followed_by_each():
    logits, teacher = _pair()
    teacher[2, 1] = NAN
    rows = torch.tensor([True, True, True, True, False])
    total, count = divergence_sum(logits, teacher, exclusive=False, rows=rows)
    each = kl_divergence(Bernoulli(logits=teacher.nan_to_num()), Bernoulli(logits=logits))
    each[2, 1] = 0
    assert total.item() == pytest.approx(each[:4].sum().item(), rel=1e-5)
    assert count.item() == 11


def test_a_teacher_of_exclusive_findings_is_one_distribution():
    logits, teacher = _pair()
    teacher[3] = NAN
    total, count = divergence_sum(logits, teacher, exclusive=True, rows=torch.ones(5, dtype=torch.bool))
    each = kl_divergence(Categorical(logits=teacher.nan_to_num()), Categorical(logits=logits))
    assert total.item() == pytest.approx(each[[0, 1, 2, 4]].sum().item(), rel=1e-5)
    assert count.item() == 4


@pytest.mark.parametrize("exclusive", [False, True])
def test_who_says_what_the_teacher_says_has_nothing_to_learn(exclusive: bool):
    logits, teacher = _pair()
    logits = teacher.clone().requires_grad_()
    total, _ = divergence_sum(logits, teacher, exclusive=exclusive, rows=torch.ones(5, dtype=torch.bool))
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max() < 1e-6


def test_a_teacher_adds_to_the_own_head_s_loss():
    labels = torch.tensor([[1.0], [0.0]])
    logits, teacher = torch.zeros(2, 1), torch.tensor([[2.0], [NAN]])
    present = {IMAGE: torch.tensor([True, True]), TEXT: torch.tensor([True, True])}
    both = []
    for teachers in ({}, {IMAGE: teacher}):
        losses = training_losses(
            ObjectivesRecipe(modality=1.0, distillation=3.0),
            StepOutputs(
                labels=labels,
                exclusive=False,
                fused=logits,
                subset=logits,
                unimodal={IMAGE: logits, TEXT: logits},
                present=present,
                teachers=teachers,
            ),
        )
        both.append(losses)
    divergence = kl_divergence(Bernoulli(logits=teacher[0]), Bernoulli(logits=logits[0])).item()
    assert both[1].terms["image_teacher"].item() == pytest.approx(divergence)
    assert (both[1].unimodal - both[0].unimodal).item() == pytest.approx(3 * divergence)
    assert torch.equal(both[0].multimodal, both[1].multimodal)


def _present(studies: int) -> dict[str, torch.Tensor]:
    ones = torch.ones(studies, dtype=torch.bool)
    return {IMAGE: ones, TEXT: ones.clone(), OBSERVATIONS: torch.arange(studies) % 2 == 0}


def test_modality_dropout_follows_the_rates():
    kept = modality_dropout(_present(20_000), {IMAGE: 0.3, TEXT: 0.0}, torch.Generator().manual_seed(0))
    assert kept[IMAGE].float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert kept[TEXT].all()


def test_modality_dropout_never_adds_and_never_empties():
    present = _present(1000)
    kept = modality_dropout(present, dict.fromkeys(THREE, 1.0), torch.Generator().manual_seed(0))
    stacked, had = torch.stack(list(kept.values()), 1), torch.stack(list(present.values()), 1)
    assert not (stacked & ~had).any()
    assert (stacked.sum(dim=1) == 1).all()
    # Which one stays is drawn, not fixed.
    assert stacked.float().mean(dim=0).min() > 0.1


def test_modality_dropout_leaves_a_study_without_anything_as_it_is():
    nothing = {modality: torch.zeros(3, dtype=torch.bool) for modality in THREE}
    kept = modality_dropout(nothing, {}, torch.Generator().manual_seed(0))
    assert not any(kept[modality].any() for modality in THREE)


def test_modality_dropout_is_the_same_for_the_same_seed():
    draws = [
        modality_dropout(_present(64), dict.fromkeys(THREE, 0.5), torch.Generator().manual_seed(seed))[IMAGE]
        for seed in (3, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_share_of_a_batch_drops_what_the_whole_would():
    present, rates = _present(8), dict.fromkeys(THREE, 0.5)
    whole = modality_dropout(present, rates, torch.Generator().manual_seed(1))
    second = {modality: there[4:] for modality, there in present.items()}
    share = modality_dropout(second, rates, torch.Generator().manual_seed(1), Share(8, 4, 4))
    assert all(torch.equal(share[modality], whole[modality][4:]) for modality in THREE)
    assert not torch.equal(whole[IMAGE][:4], whole[IMAGE][4:])


def test_a_target_is_learned_by_the_likelihood_of_each_study_that_is_known():
    targets = (
        OrdinalTarget("severity", "Severity", ("none", "mild", "severe")),
        SurvivalTarget("death", "Death", (9.0,)),
    )
    logits = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.3, -0.2]], requires_grad=True)
    steps = torch.tensor([[1.0, 0.0, NAN], [NAN, NAN, 1.0]])
    step = StepOutputs(
        labels=torch.full((2, 1), NAN),
        exclusive=False,
        fused=torch.zeros(2, 1),
        subset=torch.zeros(2, 1),
        unimodal={IMAGE: torch.zeros(2, 1)},
        present={IMAGE: torch.tensor([True, True])},
        targets=targets,
        steps=steps,
        fused_steps=logits,
        subset_steps=2 * logits,
    )
    losses = training_losses(ObjectivesRecipe(targets=10), step)
    softplus = torch.nn.functional.softplus
    assert losses.terms["target_severity_fused"].item() == pytest.approx(
        (softplus(torch.tensor(-0.5)) + softplus(torch.tensor(-1.0))).item()
    )
    assert losses.terms["target_death_subset"].item() == pytest.approx(softplus(torch.tensor(0.4)).item())
    named = ("severity_fused", "severity_subset", "death_fused", "death_subset")
    assert losses.total.item() == pytest.approx(10 * sum(losses.terms[f"target_{name}"].item() for name in named))
    losses.total.backward()
    assert logits.grad is not None
    assert ((logits.grad == 0) == steps.isnan()).all()


def test_every_weight_of_a_recipe_is_that_of_an_objective():
    weights = [name for name, field in ObjectivesRecipe.model_fields.items() if field.annotation is float]
    assert list(OBJECTIVES) == weights
    assert needs_teachers(ObjectivesRecipe(distillation=0.1))
    assert not needs_teachers(ObjectivesRecipe())


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_an_objective_reads_what_it_declares_and_nothing_else(name: str):
    logits = torch.tensor([[0.5], [-1.0]])
    whole = StepOutputs(
        labels=torch.tensor([[1.0], [0.0]]),
        exclusive=False,
        fused=logits,
        subset=logits,
        unimodal={IMAGE: logits},
        present={IMAGE: torch.tensor([True, True])},
        teachers={IMAGE: 2 * logits},
        targets=(OrdinalTarget("severity", "Severity", ("none", "some")),),
        steps=torch.tensor([[1.0], [NAN]]),
        fused_steps=logits,
        subset_steps=logits,
        sources=torch.tensor([0, 1]),
        states=logits,
        source_logits=torch.cat([logits, -logits], dim=1),
    )
    read = []

    class Watched:
        def __getattr__(self, field: str) -> object:
            read.append(field)
            return getattr(whole, field)

    assert OBJECTIVES[name].terms(Watched())  # type: ignore[arg-type]
    assert set(read) - {"labels", "exclusive"} == OBJECTIVES[name].reads
