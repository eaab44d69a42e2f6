"""What every fusion owes: finite states for every subset, deaf to what is absent, to padding and to company."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from consilium.configuration.recipe import FusionName, FusionRecipe
from consilium.modalities.masked_attention import SelfAttentionLayer
from consilium.modalities.registry import nonempty_subsets
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import FUSIONS, FindingHead, Fusion
from consilium.network.subsets import fuse_subsets
from tests.consilium.tiny import THREE

WIDTH, FINDINGS, STUDIES = 16, 3, 5
LENGTHS = {"image": 4, "text": 7, "observations": 3}
ALL = THREE
NAMES = list(FUSIONS)

ByModality = dict[str, Tokens]


def open_gates(fusion: nn.Module, alpha: float = 0.5) -> None:
    """As a training leaves the gates that start shut: behind a shut one nothing is seen and nothing learns."""
    for name, parameter in fusion.named_parameters():
        if name.endswith("gates") and not parameter.any():
            nn.init.constant_(parameter, alpha)


class Council(nn.Module):
    """A fusion with its head, as the model puts them together."""

    def __init__(self, name: str, seed: int = 0, **keys: object) -> None:
        super().__init__()
        torch.manual_seed(seed)
        recipe = FusionRecipe.model_validate(
            {"name": name, "width": WIDTH, "depth": 1, "heads": 2, "latents": 4} | keys
        )
        self.fusion = FUSIONS[name](recipe, ALL, FINDINGS)
        self.head = FindingHead(self.fusion.state_width, FINDINGS)
        open_gates(self.fusion)

    def forward(self, tokens: ByModality) -> Tensor:
        return self.head(self.fusion(tokens))


@pytest.fixture(params=NAMES)
def council(request: pytest.FixtureRequest) -> Council:
    return Council(request.param).eval()


def drawn_tokens(seed: int = 0, studies: int = STUDIES) -> ByModality:
    """Tokens of every modality; each study and modality has at least one, some are padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for modality, length in LENGTHS.items():
        mask = torch.rand(studies, length, generator=generator) < 0.7
        mask[:, 0] = True
        tokens[modality] = Tokens(torch.randn(studies, length, WIDTH, generator=generator), mask)
    return tokens


def without(tokens: ByModality, absent: set[str]) -> ByModality:
    return {m: t.keep(torch.full_like(t.present, m not in absent)) for m, t in tokens.items()}


def test_the_recipe_and_the_fusions_know_the_same_names() -> None:
    assert set(NAMES) == set(get_args(FusionName))
    assert all(issubclass(fusion, Fusion) for fusion in FUSIONS.values())


@pytest.mark.parametrize("subset", [*nonempty_subsets(THREE), frozenset()], ids=lambda s: "+".join(sorted(s)) or "-")
def test_every_subset_gives_finite_logits_that_only_its_members_decide(
    council: Council, subset: frozenset[str]
) -> None:
    """What stands in the rows of an absent modality, be it infinite, must not matter."""
    tokens = without(drawn_tokens(), set(ALL) - subset)
    swapped = {
        m: t if m in subset else Tokens(torch.full_like(t.values, 1e4), t.mask)
        for m, t in without(drawn_tokens(1), set()).items()
    }
    swapped = without({m: tokens[m] if m in subset else swapped[m] for m in ALL}, set(ALL) - subset)
    with torch.no_grad():
        logits = council(tokens)
        assert logits.shape == (STUDIES, FINDINGS)
        assert torch.isfinite(logits).all()
        torch.testing.assert_close(council(swapped), logits, rtol=0, atol=1e-6)


def test_every_subset_says_something_of_its_own(council: Council) -> None:
    with torch.no_grad():
        logits = [council(without(drawn_tokens(), set(ALL) - subset))[0, 0] for subset in nonempty_subsets(THREE)]
    assert len({round(float(one), 5) for one in logits}) == len(logits)


def test_a_study_is_diagnosed_alike_in_any_batch(council: Council) -> None:
    """Alone, and beside studies that lack what it has."""
    tokens = drawn_tokens()
    lacking = {m: t.keep(torch.arange(STUDIES) % 3 != i) for i, (m, t) in enumerate(tokens.items())}
    with torch.no_grad():
        together = council(lacking)
        alone = torch.cat(
            [council({m: Tokens(t.values[[i]], t.mask[[i]]) for m, t in lacking.items()}) for i in range(STUDIES)]
        )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_padding_may_stand_anywhere_and_be_of_any_length(council: Council) -> None:
    tokens = drawn_tokens()
    moved = {}
    for modality, t in tokens.items():
        order = torch.randperm(t.mask.shape[1], generator=torch.Generator().manual_seed(3))
        values = torch.cat([t.values[:, order], torch.randn(STUDIES, 2, WIDTH)], dim=1)
        moved[modality] = Tokens(values, nn.functional.pad(t.mask[:, order], (0, 2), value=False))
    with torch.no_grad():
        torch.testing.assert_close(council(moved), council(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("subset", nonempty_subsets(THREE), ids=lambda s: "+".join(sorted(s)))
def test_the_gradient_reaches_unmasked_tokens_and_nothing_else(council: Council, subset: frozenset[str]) -> None:
    tokens = {m: Tokens(t.values.requires_grad_(), t.mask) for m, t in drawn_tokens().items()}
    council(without(tokens, set(ALL) - subset)).square().sum().backward()
    for modality, t in tokens.items():
        assert t.values.grad is not None
        assert torch.isfinite(t.values.grad).all()
        reached = t.values.grad.abs().sum(dim=-1) > 0
        expected = t.mask if modality in subset else torch.zeros_like(t.mask)
        assert torch.equal(reached, expected)


@pytest.mark.parametrize("name", NAMES)
def test_only_late_and_stacked_fusion_cannot_read_one_modality_in_the_light_of_another(name: str) -> None:
    """The second difference of a function that is a sum over modalities is 0; the rest need one exchange."""
    council = Council(name).eval()
    one, other = drawn_tokens(0), drawn_tokens(1)

    def logits(image: ByModality, text: ByModality) -> Tensor:
        return council({"image": image[ALL[0]], "text": text[ALL[1]], ALL[2]: one[ALL[2]]})

    with torch.no_grad():
        mixed = logits(one, one) - logits(one, other) - logits(other, one) + logits(other, other)
    assert (mixed.abs().amax() < 1e-6) == (name in ("late", "stacked"))


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_back_from_a_file(name: str, tmp_path: Path) -> None:
    council, other = Council(name, seed=1).eval(), Council(name, seed=2).eval()
    save_file(council.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(other(drawn_tokens()), council(drawn_tokens()))


def test_every_weight_learns(council: Council) -> None:
    council.train()
    council(without(drawn_tokens(), {"text"})).square().sum().backward()
    council(drawn_tokens()).square().sum().backward()
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
        before = council(drawn_tokens())
        council.fusion.queries[0, 1] = torch.randn(WIDTH)
        moved = (council(drawn_tokens()) - before).abs().amax(dim=0)
    assert moved[1] > 1e-4
    assert moved[[0, 2]].max() == 0


def test_the_gated_sum_is_that_of_the_paper() -> None:
    """h = sum of sigmoid(W_zi [x_1 .. x_k]) * tanh(W_i x_i), an absent x_i being zero."""
    council = Council("gated").eval()
    gated = council.fusion
    for pool in gated.pools.values():
        nn.init.normal_(pool.norm.bias)
    tokens = without(drawn_tokens(), {"text"})
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
    tokens = without(drawn_tokens(), {"text"})
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
    tokens = drawn_tokens()["text"]
    with torch.no_grad():
        torch.testing.assert_close(
            layer(tokens.values, tokens.mask, keep=2), layer(tokens.values, tokens.mask)[:, :2], rtol=0, atol=1e-6
        )


def _shut(name: str, **keys: object) -> Council:
    council = Council(name, **keys).eval()
    for parameter_name, parameter in council.fusion.named_parameters():
        if parameter_name.endswith("gates"):
            nn.init.zeros_(parameter)
    return council


def test_the_gates_of_cross_attention_start_shut_and_are_the_first_to_learn() -> None:
    recipe = FusionRecipe(name="gated_cross_attention", width=WIDTH, depth=2, heads=2)
    fusion = FUSIONS["gated_cross_attention"](recipe, ALL, FINDINGS)
    gates = {name: p for name, p in fusion.named_parameters() if name.endswith("gates")}
    assert len(gates) == 2 * len(ALL)
    assert not any(gate.any() for gate in gates.values())
    FindingHead(WIDTH, FINDINGS)(fusion(drawn_tokens())).square().sum().backward()
    assert all(gate.grad is not None and gate.grad.abs().min() > 0 for gate in gates.values())
    behind = [p.grad for name, p in fusion.named_parameters() if ".attention." in name and ".own." not in name]
    assert behind
    assert all(grad is not None and not grad.any() for grad in behind)


def test_behind_shut_gates_each_modality_keeps_to_itself() -> None:
    """The joint state is then the mean of what each modality's own layers make of its own tokens."""
    council = _shut("gated_cross_attention", depth=2)
    fusion = council.fusion
    tokens = without(drawn_tokens(), {"text"})
    with torch.no_grad():
        states = []
        for place, modality in enumerate(ALL):
            if modality == "text":
                continue
            t = tokens[modality]
            stream = torch.cat([fusion.summaries[modality].expand(STUDIES, -1, -1), t.values], dim=1)
            stream = stream + fusion.modality[place]
            for layer in fusion.layers:
                stream = layer[modality].own(stream, nn.functional.pad(t.mask, (1, 0), value=True))
            states.append(fusion.norm(stream[:, 0]))
        torch.testing.assert_close(fusion(tokens), (states[0] + states[1]) / 2)


def test_open_gates_let_in_what_the_paper_adds() -> None:
    """y + tanh(a) attention(y, others), then y + tanh(b) feed(y), and without anybody to ask y as it is."""
    layer = Council("gated_cross_attention").eval().fusion.layers[0]["image"]
    tokens, seen = drawn_tokens(), []
    layer.own.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    y, others = tokens["image"].values, tokens["text"]
    with torch.no_grad():
        layer.gates.copy_(torch.tensor([0.3, -0.7]))
        mask = others.mask & (torch.arange(STUDIES) > 0)[:, None]
        layer(y, tokens["image"].mask, others.values, mask, None)
        asking, asked, second = layer.norms
        let_in = y + 0.29131 * layer.attention(asking(y), asked(others.values), mask)
        let_in = let_in - 0.60437 * layer.feed(second(let_in))
    torch.testing.assert_close(seen[0][1:], let_in[1:], rtol=0, atol=1e-4)
    assert torch.equal(seen[0][0], y[0])


@pytest.mark.parametrize(("modalities", "pairs"), [(1, 0), (2, 1), (3, 3), (6, 15)])
def test_a_hierarchy_has_every_pair_and_weights_that_do_not_grow_with_them(modalities: int, pairs: int) -> None:
    names = tuple(f"m{k}" for k in range(modalities))
    recipe = FusionRecipe(name="hierarchical", width=WIDTH, depth=2, heads=2, latents=3)
    fusion = FUSIONS["hierarchical"](recipe, names, FINDINGS).eval()
    seen: list[tuple[int, ...]] = []
    fusion.levels[2][0].register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    one = drawn_tokens()["text"]
    with torch.no_grad():
        assert fusion(dict.fromkeys(names, one)).shape == (STUDIES, WIDTH)
    assert seen == [(STUDIES, 1 + modalities + pairs, WIDTH)]
    # Of its own a modality has an embedding, its latents and the layer that reads it.
    own = sum(p.numel() for name, p in fusion.named_parameters() if "m0" in name) + WIDTH
    assert sum(p.numel() for p in fusion.parameters()) - modalities * own == _shared_of_a_hierarchy()


def _shared_of_a_hierarchy() -> int:
    layer = sum(p.numel() for p in SelfAttentionLayer(WIDTH, 2, 0.0).parameters())
    return (1 + 2 + 2) * layer + 3 * WIDTH + 2 * WIDTH


def test_a_pair_is_there_where_both_of_it_are() -> None:
    council = Council("hierarchical").eval()
    masks: list[Tensor] = []
    council.fusion.levels[2][0].register_forward_pre_hook(lambda _, inputs: masks.append(inputs[1]))
    with torch.no_grad():
        council(without(drawn_tokens(), {"text"}))
        council(without(drawn_tokens(), {"image", "text"}))
    # The class token, then image, text, observations, image + text, image + observations, text + observations.
    assert masks[0][0].tolist() == [True, True, False, True, False, True, False]
    assert masks[1][0].tolist() == [True, False, False, True, False, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_subsets_in_one_pass_are_what_each_is_alone(name: str) -> None:
    council, tokens = Council(name, depth=2).eval(), drawn_tokens()
    subsets = nonempty_subsets(ALL)
    with torch.no_grad():
        together = fuse_subsets(council, tokens, subsets)
        for subset in subsets:
            alone = council(without(tokens, set(ALL) - subset))
            torch.testing.assert_close(together[subset], alone, rtol=0, atol=1e-5)
