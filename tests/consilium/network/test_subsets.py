from __future__ import annotations

from itertools import combinations

import pytest
import torch

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.registry import nonempty_subsets
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from consilium.network.subsets import few_subsets, fuse_subsets
from tests.consilium.more_modalities import install

FIVE = ("image", "text", "observations", "signal", "volume")
LENGTHS = (5, 9, 2, 1, 7)


@pytest.fixture
def tokens() -> dict[str, Tokens]:
    """Of three studies; the second has no text."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for name, length in zip(FIVE, LENGTHS, strict=True):
        mask = torch.rand(3, length, generator=draw) > 0.3
        mask[:, 0] = True
        found[name] = Tokens(torch.randn(3, length, 16, generator=draw), mask)
    found["text"].mask[1] = False
    return found


@pytest.mark.parametrize("most_tokens", [1, 100, 400, 10**6])
@pytest.mark.parametrize("name", list(FUSIONS))
def test_subsets_in_one_batch_equal_one_pass_each(
    name: str, most_tokens: int, tokens: dict[str, Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "signal", "volume")
    torch.manual_seed(1)
    fusion = FUSIONS[name](FusionRecipe(name=name, width=16, heads=2), FIVE, 2).eval()
    head = FindingHead(fusion.state_width, 2)
    passes = []

    def fuse(inputs: dict[str, Tokens]) -> torch.Tensor:
        assert list(inputs) == list(FIVE)
        passes.append(len(inputs["image"].mask) * sum(one.mask.shape[1] for one in inputs.values()))
        return head(fusion(inputs))

    every = nonempty_subsets(FIVE)
    with torch.inference_mode():
        found = fuse_subsets(fuse, tokens, every, most_tokens)
        assert list(found) == every
        assert max(passes) <= max(most_tokens, 3 * sum(LENGTHS))
        assert (len(passes) == 1) == (most_tokens == 10**6)
        for subset, logits in found.items():
            partly = {m: one.keep(torch.full_like(one.present, m in subset)) for m, one in tokens.items()}
            assert torch.allclose(logits, head(fusion(partly)), atol=1e-6)


def test_a_modality_that_no_subset_of_a_pass_has_costs_one_token(tokens: dict[str, Tokens]) -> None:
    lengths = []

    def fuse(inputs: dict[str, Tokens]) -> torch.Tensor:
        lengths.append([one.mask.shape[1] for one in inputs.values()])
        return torch.zeros(len(inputs["image"].mask), 1)

    fuse_subsets(fuse, tokens, [frozenset({"signal"}), frozenset({"signal", "image"})], 10**6)
    assert lengths == [[5, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (2, [1, 1, 2]), (3, [1, 1, 1, 2, 2, 2, 3]), (5, [1] * 5 + [4] * 5 + [5])]
)
def test_few_subsets_are_singles_all_but_one_and_all(
    count: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "signal", "volume")
    few = few_subsets(FIVE[:count])
    assert [len(subset) for subset in few] == sizes
    assert len(set(few)) == len(few)
    assert few == [subset for subset in nonempty_subsets(FIVE[:count]) if len(subset) in sizes]
    assert {frozenset(chosen) for chosen in combinations(FIVE[:count], max(count - 1, 1))} <= set(few)
