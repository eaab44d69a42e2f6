from __future__ import annotations

import pytest
import torch

from consilium.modalities.draws import Draws
from consilium.modalities.image.augmentation import ImageAugmentation
from consilium.modalities.image.section import AugmentationSection

NOTHING = {"rotate_degrees": 0.0, "translate": 0.0, "scale": 0.0, "contrast": 0.0, "noise": 0.0}


def changed(
    augmentation: ImageAugmentation, images: torch.Tensor, mask: torch.Tensor, seed: int, first: int = 0, whole: int = 0
) -> torch.Tensor:
    """`images`, the studies from `first` on of a batch of `whole`, as a step of that seed changes them."""
    generator = torch.Generator().manual_seed(seed)
    draws = Draws(whole or len(images), generator, generator, lambda drawn: drawn[first : first + len(images)])
    return augmentation({"images": images, "mask": mask}, draws)["images"]


def _apply(images: torch.Tensor, seed: int = 0, **strengths: float) -> torch.Tensor:
    augmentation = ImageAugmentation(AugmentationSection(**(NOTHING | strengths)))
    mask = torch.ones(images.shape[:2], dtype=torch.bool)
    return changed(augmentation, images, mask, seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(16, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_no_strength_changes_nothing(images: torch.Tensor):
    assert torch.allclose(_apply(images), images, atol=1e-5)


def test_left_stays_left_at_the_greatest_strength_allowed():
    marked = torch.zeros(64, 1, 1, 64, 64)
    marked[..., 28:36, 2:14] = 1
    out = _apply(marked, rotate_degrees=30, scale=0.2, translate=0.1)
    assert (out[..., :32].sum(dim=(1, 2, 3, 4)) > 10 * out[..., 32:].sum(dim=(1, 2, 3, 4))).all()


def test_shift_is_a_share_of_the_side():
    dot = torch.zeros(256, 1, 1, 65, 65)
    dot[..., 32, 32] = 1
    out = _apply(dot, translate=0.1)[:, 0, 0]
    columns = (out.sum(dim=1) * torch.arange(65)).sum(dim=1) / out.sum(dim=(1, 2))
    assert (columns - 32).abs().max() <= 0.1 * 65 + 0.5
    assert (columns - 32).abs().max() > 0.08 * 65
    assert (columns - 32).mean().abs() < 1


def test_contrast_keeps_black_white_and_order(images: torch.Tensor):
    out = _apply(images, contrast=0.5)
    ramp = torch.linspace(0, 1, 32).expand(4, 1, 1, 32, 32).clone()
    bent = _apply(ramp, contrast=0.5)
    assert not torch.allclose(out, images, atol=1e-2)
    assert bent[..., 0].abs().max() == 0
    assert torch.allclose(bent[..., -1], torch.ones(()))
    assert (bent.diff(dim=-1) >= 0).all()


def test_noise_has_the_recipe_s_strength():
    grey = torch.full((8, 1, 1, 64, 64), 0.5)
    out = _apply(grey, noise=0.05)
    assert out.std().item() == pytest.approx(0.05, rel=0.05)
    assert out.mean().item() == pytest.approx(0.5, abs=0.005)


def test_stays_in_range_and_draws_anew_for_every_image(images: torch.Tensor):
    out = _apply(images[:1].expand(16, 2, 1, 32, 32), rotate_degrees=5, noise=0.3, contrast=0.4)
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.allclose(out[0, 0], out[0, 1])
    assert not torch.allclose(out[0], out[1])


def test_padding_is_not_touched(images: torch.Tensor):
    mask = torch.ones(16, 2, dtype=torch.bool)
    mask[3, 1] = False
    images[3, 1] = 0
    out = changed(ImageAugmentation(AugmentationSection(noise=0.2)), images, mask, 0)
    assert out[3, 1].abs().max() == 0


def test_same_seed_same_images(images: torch.Tensor):
    strengths = {"rotate_degrees": 5.0, "noise": 0.1}
    assert torch.equal(_apply(images, 5, **strengths), _apply(images, 5, **strengths))
    assert not torch.equal(_apply(images, 5, **strengths), _apply(images, 6, **strengths))


def test_a_share_of_a_batch_is_changed_as_in_the_whole(images: torch.Tensor):
    augmentation = ImageAugmentation(AugmentationSection())
    mask = torch.ones(16, 2, dtype=torch.bool)
    mask[3, 0] = mask[5:, 1] = False
    whole = changed(augmentation, images, mask, 2)
    for first, views in ((0, 2), (8, 1)):  # the second share is not padded to two views
        part = slice(first, first + 8)
        there = changed(augmentation, images[part, :views], mask[part, :views], 2, first, 16)
        seen = mask[part, :views]
        assert torch.equal(there[seen], whole[part, :views][seen])
