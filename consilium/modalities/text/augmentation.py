"""Augmentation of training notes: word pieces blanked at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from consilium.domain.errors import InputError
from consilium.modalities.draws import Draws
from consilium.modalities.part import MASK
from consilium.modalities.text.preparation import INPUT_IDS, TextPreparation
from consilium.modalities.text.section import TextSection
from consilium.modalities.tokens import Inputs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class WordDropout:
    """Blanks word pieces at random (word dropout, Iyyer et al. 2015), so that no single word decides.

    A piece becomes the tokenizer's mask, or its unknown piece where it has no mask. Its markers ([CLS], [SEP]) stay.

    Parameters
    ----------
    rate : float
        Chance of each piece.
    tokenizer : PreTrainedTokenizerBase
    longest : int
        The most pieces that a study has. So many are drawn for each, whatever the batch is padded to.

    Raises
    ------
    InputError
        Where the tokenizer has neither piece.
    """

    def __init__(self, rate: float, tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
        blank = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        if blank is None:
            rule = "needs a text model whose tokenizer has a mask or an unknown piece"
            raise InputError("modalities.text.word_dropout", rate, rule)
        self._rate = rate
        self._blank = int(blank)
        self._markers = torch.tensor(tokenizer.all_special_ids)
        self._longest = longest

    @classmethod
    def build(cls, section: TextSection, preparation: TextPreparation) -> WordDropout | None:
        """What the recipe asks for; None where it blanks no words."""
        if section.word_dropout == 0:
            return None
        return cls(section.word_dropout, preparation.tokenizer, section.max_tokens)

    def __call__(self, inputs: Inputs, draws: Draws) -> dict[str, Tensor]:
        """`inputs` with pieces of the notes that are there blanked; drawn on the CPU, the same on every device."""
        ids, mask = inputs[INPUT_IDS], inputs[MASK]
        drawn = draws.uniform(self._longest, on_cpu=True)[:, : ids.shape[1]]
        blanked = (drawn < self._rate).to(ids.device) & mask
        blanked &= ~torch.isin(ids, self._markers.to(ids.device))
        return {**inputs, INPUT_IDS: ids.masked_fill(blanked, self._blank)}
