"""What every fusion owes: finite states for every subset, deaf to what is absent, to padding and to company."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.registry import modality_names, nonempty_subsets
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import FUSIONS, FindingHead, Fusion
from consilium.network.fusion.masked_attention import SelfAttentionLayer

WIDTH, FINDINGS, STUDIES = 16, 3, 5
LENGTHS = {"image": 4, "text": 7, "observations": 3}
ALL = modality_names()
NAMES = list(FUSIONS)

Said = dict[str, Tokens]


class Council(nn.Module):
    """A fusion with its head, as the model puts them together."""

    def __init__(self, name: str, seed: int = 0, **keys: object) -> None:
        super().__init__()
        torch.manual_seed(seed)
        recipe = FusionRecipe.model_validate(
            {"name": name, "width": WIDTH, "depth": 1, "heads": 2, "latents": 4} | keys
        )
        self.fusion = FUSIONS[name](recipe, ALL, FINDINGS)
        self.head = FindingHead(WIDTH, FINDINGS)

    def forward(self, tokens: Said) -> Tensor:
        return self.head(self.fusion(tokens))


@pytest.fixture(params=NAMES)
def council(request: pytest.FixtureRequest) -> Council:
    return Council(request.param).eval()


def said(seed: int = 0, studies: int = STUDIES) -> Said:
    """Tokens of every modality; each study and modality has at least one, some are padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for modality, length in LENGTHS.items():
        mask = torch.rand(studies, length, generator=generator) < 0.7
        mask[:, 0] = True
        tokens[modality] = Tokens(torch.randn(studies, length, WIDTH, generator=generator), mask)
    return tokens


def without(tokens: Said, absent: set[str]) -> Said:
    return {m: t.keep(torch.full_like(t.present, m not in absent)) for m, t in tokens.items()}


def test_the_recipe_and_the_fusions_know_the_same_names() -> None:
    assert set(NAMES) == set(get_args(FusionRecipe.model_fields["name"].annotation))
    assert all(issubclass(fusion, Fusion) for fusion in FUSIONS.values())


@pytest.mark.parametrize(
    "subset", [*nonempty_subsets(modality_names()), frozenset()], ids=lambda s: "+".join(sorted(s)) or "-"
)
def test_every_subset_gives_finite_logits_that_only_its_members_decide(
    council: Council, subset: frozenset[str]
) -> None:
    """What stands in the rows of an absent modality, be it infinite, must not matter."""
    tokens = without(said(), set(ALL) - subset)
    swapped = {
        m: t if m in subset else Tokens(torch.full_like(t.values, 1e4), t.mask)
        for m, t in without(said(1), set()).items()
    }
    swapped = without({m: tokens[m] if m in subset else swapped[m] for m in ALL}, set(ALL) - subset)
    with torch.no_grad():
        logits = council(tokens)
        assert logits.shape == (STUDIES, FINDINGS)
        assert torch.isfinite(logits).all()
        torch.testing.assert_close(council(swapped), logits, rtol=0, atol=1e-6)


def test_every_subset_says_something_of_its_own(council: Council) -> None:
    with torch.no_grad():
        logits = [council(without(said(), set(ALL) - subset))[0, 0] for subset in nonempty_subsets(modality_names())]
    assert len({round(float(one), 5) for one in logits}) == len(logits)


def test_a_study_is_judged_alike_in_any_company(council: Council) -> None:
    """Alone, and beside studies that lack what it has."""
    tokens = said()
    lacking = {m: t.keep(torch.arange(STUDIES) % 3 != i) for i, (m, t) in enumerate(tokens.items())}
    with torch.no_grad():
        together = council(lacking)
        alone = torch.cat(
            [council({m: Tokens(t.values[[i]], t.mask[[i]]) for m, t in lacking.items()}) for i in range(STUDIES)]
        )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_padding_may_stand_anywhere_and_be_of_any_length(council: Council) -> None:
    tokens = said()
    moved = {}
    for modality, t in tokens.items():
        order = torch.randperm(t.mask.shape[1], generator=torch.Generator().manual_seed(3))
        values = torch.cat([t.values[:, order], torch.randn(STUDIES, 2, WIDTH)], dim=1)
        moved[modality] = Tokens(values, nn.functional.pad(t.mask[:, order], (0, 2), value=False))
    with torch.no_grad():
        torch.testing.assert_close(council(moved), council(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("subset", nonempty_subsets(modality_names()), ids=lambda s: "+".join(sorted(s)))
def test_the_gradient_reaches_what_was_heard_and_nothing_else(council: Council, subset: frozenset[str]) -> None:
    tokens = {m: Tokens(t.values.requires_grad_(), t.mask) for m, t in said().items()}
    council(without(tokens, set(ALL) - subset)).square().sum().backward()
    for modality, t in tokens.items():
        assert t.values.grad is not None
        assert torch.isfinite(t.values.grad).all()
        heard = t.values.grad.abs().sum(dim=-1) > 0
        expected = t.mask if modality in subset else torch.zeros_like(t.mask)
        assert torch.equal(heard, expected)


@pytest.mark.parametrize("name", NAMES)
def test_only_late_fusion_cannot_hear_one_modality_in_the_light_of_another(name: str) -> None:
    """The second difference of a function that is a sum over modalities is 0; the rest need one exchange."""
    council = Council(name).eval()
    one, other = said(0), said(1)

    def logits(image: Said, text: Said) -> Tensor:
        return council({"image": image[ALL[0]], "text": text[ALL[1]], ALL[2]: one[ALL[2]]})

    with torch.no_grad():
        mixed = logits(one, one) - logits(one, other) - logits(other, one) + logits(other, other)
    assert (mixed.abs().amax() < 1e-6) == (name == "late")


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_back_from_a_file(name: str, tmp_path: Path) -> None:
    council, other = Council(name, seed=1).eval(), Council(name, seed=2).eval()
    save_file(council.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(other(said()), council(said()))


def test_every_weight_learns(council: Council) -> None:
    council.train()
    council(without(said(), {"text"})).square().sum().backward()
    council(said()).square().sum().backward()
    idle = {n for n, p in council.named_parameters() if p.grad is None or not p.grad.abs().any()}
    assert idle == set()


@pytest.mark.parametrize(
    ("name", "keys"), [("bottleneck", {"latents": 2}), ("perceiver", {"latents": 2}), ("early", {})]
)
def test_depth_and_latents_count(name: str, keys: dict[str, int]) -> None:
    def parameters(**more: object) -> int:
        return sum(p.numel() for p in Council(name, **(keys | more)).parameters())

    assert parameters(depth=3) - parameters(depth=2) == parameters(depth=2) - parameters(depth=1) > 0
    if keys:
        assert parameters(latents=5) - parameters(latents=2) == 3 * WIDTH


def test_the_head_reads_one_joint_state_or_one_for_each_finding() -> None:
    head = FindingHead(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        head.bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
        joint = torch.tensor([[1.0, -1.0]])
        own = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
        assert head(joint).tolist() == [[-0.5, -1.0, -1.5]]
        assert head(own).tolist() == [[1.5, 4.0, 10.5]]
        torch.testing.assert_close(head(joint[:, None].expand(-1, 3, -1)), head(joint))


def test_a_perceivers_findings_each_ask_for_themselves() -> None:
    """Changing what one finding asks changes its own logit only."""
    council = Council("perceiver").eval()
    with torch.no_grad():
        before = council(said())
        council.fusion.queries[0, 1] = torch.randn(WIDTH)
        moved = (council(said()) - before).abs().amax(dim=0)
    assert moved[1] > 1e-4
    assert moved[[0, 2]].max() == 0


def test_the_gated_sum_is_that_of_the_paper() -> None:
    """h = sum of sigmoid(W_zi [x_1 .. x_k]) * tanh(W_i x_i), an absent x_i being zero."""
    council = Council("gated").eval()
    gated = council.fusion
    for pool in gated.pools.values():
        nn.init.normal_(pool.norm.bias)
    tokens = without(said(), {"text"})
    seen: list[Tensor] = []
    gated.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        council(tokens)
        pooled = [gated.pools[m](t.values, t.mask) * (m != "text") for m, t in tokens.items()]
        everything = torch.cat(pooled, dim=1)
        expected = torch.zeros(STUDIES, WIDTH)
        for m, x in zip(ALL, pooled, strict=True):
            if m != "text":
                gate = 1 / (1 + torch.exp(-(everything @ gated.gates[m].weight.T + gated.gates[m].bias)))
                expected += gate * torch.tanh(x @ gated.hidden[m].weight.T + gated.hidden[m].bias)
    torch.testing.assert_close(seen[0], expected)


def test_a_bottleneck_token_is_the_mean_over_the_modalities_that_are_there() -> None:
    """After the first layer, by hand, from the modalities' own layers; and so is the joint state after the last."""
    council = Council("bottleneck").eval()
    bottleneck = council.fusion
    tokens = without(said(), {"text"})
    second: dict[str, Tensor] = {}
    summaries: list[Tensor] = []
    bottleneck.norm.register_forward_hook(lambda _, inputs, output: summaries.append(output))
    for name, layer in bottleneck.layers[1].items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: second.update({name: inputs[0]}))
    with torch.no_grad():
        joint = bottleneck(tokens)
        returned = []
        for modality in ("image", "observations"):
            t = tokens[modality]
            first = torch.cat(
                [
                    bottleneck.summaries[modality].expand(STUDIES, -1, -1),
                    t.values,
                    bottleneck.bottleneck.expand(STUDIES, -1, -1),
                ],
                dim=1,
            )
            mask = nn.functional.pad(t.mask, (1, 4), value=True)
            returned.append(bottleneck.layers[0][modality](first, mask)[:, -4:])
    for stream in second.values():
        torch.testing.assert_close(stream[:, -4:], (returned[0] + returned[1]) / 2)
    torch.testing.assert_close(joint, (summaries[0][:, 0] + summaries[0][:, 2]) / 2)


def test_a_layer_that_keeps_fewer_tokens_makes_the_same_of_them() -> None:
    torch.manual_seed(0)
    layer = SelfAttentionLayer(WIDTH, 2, 0.0)
    tokens = said()["text"]
    with torch.no_grad():
        torch.testing.assert_close(
            layer(tokens.values, tokens.mask, keep=2), layer(tokens.values, tokens.mask)[:, :2], rtol=0, atol=1e-6
        )
