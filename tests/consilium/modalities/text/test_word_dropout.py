from __future__ import annotations

import pytest
import torch

from consilium.domain.errors import InputError
from consilium.modalities.draws import Draws
from consilium.modalities.text.augmentation import WordDropout
from consilium.modalities.text.section import TextSection
from tests.consilium.tiny import tiny_preprocessing, tiny_recipe


def blanked_ids(
    dropout: WordDropout, ids: torch.Tensor, mask: torch.Tensor, seed: int, first: int = 0, whole: int = 0
) -> torch.Tensor:
    """`ids`, of the studies from `first` on of a batch of `whole`, as a step of that seed changes them."""
    generator = torch.Generator().manual_seed(seed)
    draws = Draws(whole or len(ids), generator, generator, lambda drawn: drawn[first : first + len(ids)])
    return dropout({"input_ids": ids, "mask": mask}, draws)["input_ids"]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_preprocessing(tiny_recipe()).preparations["text"].tokenizer


def _notes(tokenizer, studies: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """[CLS] word word ... [SEP] and padding."""
    word = tokenizer.convert_tokens_to_ids("f")
    ids = torch.tensor([[tokenizer.cls_token_id, *[word] * 10, tokenizer.sep_token_id, 0, 0]]).repeat(studies, 1)
    mask = torch.arange(14).expand(studies, -1) < 12
    return ids, mask


def test_words_are_blanked_at_the_rate_and_markers_stay(tokenizer):
    ids, mask = _notes(tokenizer)
    out = blanked_ids(WordDropout(0.3, tokenizer, 32), ids, mask, 0)
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
    narrow, wide = (blanked_ids(dropout, ids[:, :end], mask[:, :end], 3) for end in (12, 14))
    assert torch.equal(narrow, wide[:, :12])


def test_words_of_a_share_are_blanked_as_in_the_whole(tokenizer):
    ids, mask = _notes(tokenizer, 8)
    dropout = WordDropout(0.5, tokenizer, 32)
    whole = blanked_ids(dropout, ids, mask, 3)
    share = blanked_ids(dropout, ids[4:, :12], mask[4:, :12], 3, 4, 8)
    assert torch.equal(share, whole[4:, :12])


def test_without_a_mask_the_unknown_piece_stands_in(tokenizer):
    class Plain:
        mask_token_id, unk_token_id, all_special_ids = None, 77, [1]

    ids, mask = torch.full((2, 4), 5), torch.ones(2, 4, dtype=torch.bool)
    out = blanked_ids(WordDropout(1.0, Plain(), 4), ids, mask, 0)
    assert (out == 77).all()
    Plain.unk_token_id = None
    with pytest.raises(InputError, match="mask or an unknown piece"):
        WordDropout(1.0, Plain(), 4)


def test_a_section_without_a_share_blanks_nothing():
    preparation = tiny_preprocessing(tiny_recipe()).preparations["text"]
    assert WordDropout.build(TextSection(), preparation) is None
    assert WordDropout.build(TextSection(word_dropout=0.1), preparation) is not None
