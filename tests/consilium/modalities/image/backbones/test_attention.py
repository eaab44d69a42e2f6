"""How relevance passes through layers of attention, against the same by single numbers and whole matrices."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from consilium.modalities.image import attention_maps
from consilium.modalities.image.backbones.attention import GlobalAttention, WindowAttention, spread
from tests.consilium.explain.cases import case_of
from tests.consilium.modalities.image.backbones.tiny_models import write_model
from tests.consilium.tiny import tiny_study
from tests.consilium.tiny_artifact import tiny_artifact


def _random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)).softmax(-1)


def test_global_attention_is_a_row_times_a_matrix() -> None:
    attention, relevance = _random(2, 5, 5), _random(2, 5)
    found = GlobalAttention(nn.Identity()).pulled(attention, relevance)
    for image in range(2):
        assert torch.allclose(found[image], relevance[image] @ attention[image], atol=1e-6)


@pytest.mark.parametrize(("side", "window", "shift"), [(8, 4, 0), (8, 4, 2), (6, 4, 2), (5, 3, 1)])
def test_windows_read_what_their_cells_read(side: int, window: int, shift: int) -> None:
    padded = side + -side % window
    across = padded // window
    attention = _random(2 * across**2, window**2, window**2)
    relevance = _random(2, side**2)
    layer: Any = SimpleNamespace(window_size=window, shift_size=shift)
    found = WindowAttention(nn.Identity(), layer, side).pulled(attention, relevance)
    expected = torch.zeros(2, side**2)
    # Swin moves the padded grid by the shift, up and left, and cuts it into windows.
    for image in range(2):
        for down in range(across):
            for right in range(across):
                cells = [
                    ((down * window + row + shift) % padded, (right * window + column + shift) % padded)
                    for row in range(window)
                    for column in range(window)
                ]
                of = attention[(image * across + down) * across + right]
                for made, (y, x) in enumerate(cells):
                    for read, (v, u) in enumerate(cells):
                        if max(y, x, v, u) < side:
                            expected[image, v * side + u] += relevance[image, y * side + x] * of[made, read]
    assert torch.allclose(found, expected, atol=1e-6)


def test_relevance_of_merged_cells_is_shared_equally() -> None:
    relevance = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert spread(relevance, 4) is relevance
    found = spread(relevance, 16).reshape(4, 4)
    assert found.sum() == pytest.approx(10)
    assert torch.equal(found[:2, :2], torch.full((2, 2), 0.25))
    assert torch.equal(found[2:, 2:], torch.full((2, 2), 1.0))


def test_a_rollout_through_shifted_windows_and_merged_cells_loses_nothing(tmp_path: Path) -> None:
    image = {"encoder": str(write_model(tmp_path, "swin")), "size": 64}
    case = case_of(tiny_artifact(modalities=["image"], image=image), tiny_study(4))
    found = attention_maps.attention_rollout(case, [0])
    assert found.shape == (1, 1, 16, 16)  # of the first layer; the last has 8 × 8 cells
    assert found.sum() == pytest.approx(1, abs=1e-4)
    assert found.min() > 0


def test_watched_attention_is_the_model_s_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "dinov2_with_registers")
    image = {"encoder": str(folder), "size": 32 * 2}
    artifact = tiny_artifact(modalities=["image"], image=image)
    case = case_of(artifact, tiny_study(4))
    backbone = artifact.model.encoders["image"].backbone
    theirs = AutoModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True).eval()
    pixels = backbone.normalised(case.batch.inputs["image"]["images"][:, 0])
    with torch.no_grad():
        expected = theirs(pixels, output_attentions=True).attentions
    watched = [case.traced[layer] for layer in attention_maps.attention_layers(artifact.model)]
    assert len(watched) == len(expected) == 3
    for ours, own in zip(watched, expected, strict=True):
        assert ours.shape == (1, 2, 261, 261)  # a class token, four registers, 16 × 16 patches
        assert torch.allclose(ours, own, atol=1e-5)
    with torch.no_grad():
        plain = artifact.model(case.batch)
    assert torch.allclose(case.fused, plain.fused, atol=1e-5), "watching must change no answer"
