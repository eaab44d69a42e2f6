"""Every network gives the features that it declares, and each of its weights gets a gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from consilium.modalities.part import MASK
from consilium.modalities.volume.encoder import CellEncoder, VolumeEncoder
from consilium.modalities.volume.networks import build_network
from consilium.modalities.volume.section import STRIDES, VolumeSection
from consilium.modalities.volume.volume_converter import VOLUMES
from tests.consilium.tiny import tiny_recipe

ONE_WINDOW: dict[str, Any] = {"windows": ((0.0, 1000.0),), "width": 4, "size": (32, 32, 32)}


@pytest.mark.parametrize("name", STRIDES)
def test_a_network_gives_the_features_that_it_declares(name: Any) -> None:
    torch.manual_seed(0)
    network = build_network(VolumeSection(encoder=name, **ONE_WINDOW), 2).train()
    features = network(torch.randn(2, 2, 32, 32, 32))

    assert features.shape == (2, network.count, network.channels)
    features.square().mean().backward()
    weights = dict(network.named_parameters())
    of_blocks = {id(one) for block in network.blocks() for one in block.parameters()}
    assert {name for name, one in weights.items() if id(one) not in of_blocks} <= {"places"}
    assert any(one.grad is not None and one.grad.abs().max() > 0 for one in weights.values())


@pytest.mark.parametrize("kind", [VolumeEncoder, CellEncoder])
def test_a_study_without_a_volume_has_no_token_and_does_not_change_the_others(kind: Any) -> None:
    torch.manual_seed(0)
    section, fusion = VolumeSection(**ONE_WINDOW), tiny_recipe().fusion
    encoder = (VolumeEncoder(section, fusion) if kind is VolumeEncoder else CellEncoder(section)).eval()
    volumes = torch.rand(2, 1, 2, 32, 32, 32)
    mask = torch.tensor([[True], [False]])
    both = encoder({VOLUMES: volumes, MASK: mask})
    alone = encoder({VOLUMES: volumes[:1], MASK: mask[:1]})

    assert both.present.tolist() == [True, False]
    torch.testing.assert_close(both.values[:1], alone.values)
    tokens, entry = encoder.traced({VOLUMES: volumes, MASK: mask})
    assert entry is not None
    torch.testing.assert_close(tokens.values, both.values)
    assert not encoder({VOLUMES: volumes, MASK: torch.zeros_like(mask)}).mask.any()


def test_the_average_volume_is_the_mean_of_the_first_batches() -> None:
    encoder = CellEncoder(VolumeSection(**ONE_WINDOW))
    mask = torch.tensor([[True], [False]])
    for value in (0.2, 0.6):
        encoder.observe({VOLUMES: torch.full((2, 1, 2, 32, 32, 32), value), MASK: mask})
    torch.testing.assert_close(encoder.typical.volume, torch.full((2, 32, 32, 32), 0.4))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_reads_what_differs_from_the_average_that_it_was_trained_on(frozen: bool) -> None:
    torch.manual_seed(0)
    section = VolumeSection(**ONE_WINDOW, adaptation={"name": "frozen" if frozen else "all"})
    encoder = VolumeEncoder(section, tiny_recipe().fusion)
    inputs = {VOLUMES: torch.full((1, 1, 2, 32, 32, 32), 0.5), MASK: torch.tensor([[True]])}
    encoder.train()(inputs)
    centre = encoder.centred.centre.volume.clone()

    torch.testing.assert_close(centre, torch.full_like(centre, 0.0 if frozen else 0.5))
    torch.testing.assert_close(encoder.typical.volume, torch.full_like(centre, 0.5))
    encoder.eval()({**inputs, VOLUMES: inputs[VOLUMES] + 0.3})
    torch.testing.assert_close(encoder.centred.centre.volume, centre)
    if not frozen:
        nothing = encoder.centred.network(torch.zeros(1, 2, 32, 32, 32))
        torch.testing.assert_close(encoder.dense(inputs[VOLUMES][0]), nothing)
