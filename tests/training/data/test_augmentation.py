from __future__ import annotations

import pytest
import torch

from consilium.configuration.recipe import AugmentationRecipe
from consilium.domain.errors import InputError
from tests.consilium.tiny import tiny_preprocessing
from tests.training.cohorts_made import tiny_training_recipe
from training.data.augmentation import Augmentation, WordDropout
from training.runtime.distributed import Share

NOTHING = {"rotate_degrees": 0.0, "translate": 0.0, "scale": 0.0, "contrast": 0.0, "noise": 0.0}


def _apply(images: torch.Tensor, seed: int = 0, **strengths: float) -> torch.Tensor:
    augmentation = Augmentation(AugmentationRecipe(**(NOTHING | strengths)))
    mask = torch.ones(images.shape[:2], dtype=torch.bool)
    return augmentation(images, mask, torch.Generator().manual_seed(seed))


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
    out = Augmentation(AugmentationRecipe(noise=0.2))(images, mask, torch.Generator().manual_seed(0))
    assert out[3, 1].abs().max() == 0


def test_same_seed_same_images(images: torch.Tensor):
    strengths = {"rotate_degrees": 5.0, "noise": 0.1}
    assert torch.equal(_apply(images, 5, **strengths), _apply(images, 5, **strengths))
    assert not torch.equal(_apply(images, 5, **strengths), _apply(images, 6, **strengths))


def test_a_share_of_a_batch_is_changed_as_in_the_whole(images: torch.Tensor):
    augmentation = Augmentation(AugmentationRecipe())
    mask = torch.ones(16, 2, dtype=torch.bool)
    mask[3, 0] = mask[5:, 1] = False
    whole = augmentation(images, mask, torch.Generator().manual_seed(2))
    for first, views in ((0, 2), (8, 1)):  # the second share is not padded to two views
        part = slice(first, first + 8)
        share = Share(16, first, 8)
        there = augmentation(images[part, :views], mask[part, :views], torch.Generator().manual_seed(2), share)
        seen = mask[part, :views]
        assert torch.equal(there[seen], whole[part, :views][seen])


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_preprocessing(tiny_training_recipe()).preparations["text"].tokenizer


def _notes(tokenizer, studies: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """[CLS] word word ... [SEP] and padding."""
    word = tokenizer.convert_tokens_to_ids("f")
    ids = torch.tensor([[tokenizer.cls_token_id, *[word] * 10, tokenizer.sep_token_id, 0, 0]]).repeat(studies, 1)
    mask = torch.arange(14).expand(studies, -1) < 12
    return ids, mask


def test_words_are_blanked_at_the_rate_and_markers_stay(tokenizer):
    ids, mask = _notes(tokenizer)
    out = WordDropout(0.3, tokenizer, 32)(ids, mask, torch.Generator().manual_seed(0))
    blanked = out != ids
    assert set(out[blanked].tolist()) == {tokenizer.mask_token_id}
    assert blanked[:, 1:11].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not blanked[:, [0, 11, 12, 13]].any()
    # Each piece of each note is drawn on its own.
    assert 0.2 < blanked[:, 1].float().mean() < 0.4
    assert len(set(map(tuple, blanked.tolist()))) > 100


def test_words_are_drawn_alike_whatever_the_padding(tokenizer):
    ids, mask = _notes(tokenizer, 8)
    dropout = WordDropout(0.5, tokenizer, 32)
    narrow, wide = (dropout(ids[:, :end], mask[:, :end], torch.Generator().manual_seed(3)) for end in (12, 14))
    assert torch.equal(narrow, wide[:, :12])


def test_words_of_a_share_are_blanked_as_in_the_whole(tokenizer):
    ids, mask = _notes(tokenizer, 8)
    dropout = WordDropout(0.5, tokenizer, 32)
    whole = dropout(ids, mask, torch.Generator().manual_seed(3))
    share = dropout(ids[4:, :12], mask[4:, :12], torch.Generator().manual_seed(3), Share(8, 4, 4))
    assert torch.equal(share, whole[4:, :12])


def test_without_a_mask_the_unknown_piece_stands_in(tokenizer):
    class Plain:
        mask_token_id, unk_token_id, all_special_ids = None, 77, [1]

    ids, mask = torch.full((2, 4), 5), torch.ones(2, 4, dtype=torch.bool)
    out = WordDropout(1.0, Plain(), 4)(ids, mask, torch.Generator().manual_seed(0))
    assert (out == 77).all()
    Plain.unk_token_id = None
    with pytest.raises(InputError, match="mask or an unknown piece"):
        WordDropout(1.0, Plain(), 4)
