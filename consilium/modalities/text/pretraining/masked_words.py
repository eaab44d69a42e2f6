"""Masked words: some word pieces are hidden, and the encoder's tokens must tell which they were.

Devlin et al., "BERT" (2019), section 3.1, with every chosen piece hidden: a piece that stays or is exchanged matters
where a model is fine-tuned on the very output, and here it is read through other layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.draws import Draws
from consilium.modalities.part import MASK
from consilium.modalities.pretraining.self_supervision import SelfSupervision
from consilium.modalities.text.preparation import INPUT_IDS, TextPreparation
from consilium.modalities.text.section import TextSection
from consilium.modalities.tokens import Encoder, FusionShape, Inputs

_SHARE = 0.15
_IGNORED = -100


class MaskedWords(SelfSupervision):
    """Predicts hidden word pieces out of the vocabulary.

    Parameters
    ----------
    width : int
        Of the encoder's tokens.
    vocabulary : int
    blank : int
        Id of the piece that hides others.
    markers : tensor of int
        Ids that are never hidden.
    longest : int
        The most pieces that a study has; so many are drawn for each, whatever the batch is padded to.
    """

    markers: Tensor

    def __init__(self, width: int, vocabulary: int, blank: int, markers: Tensor, longest: int) -> None:
        super().__init__()
        self.blank = blank
        self.longest = longest
        self.register_buffer("markers", markers, persistent=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, vocabulary))

    @classmethod
    def build(cls, section: TextSection, preparation: TextPreparation, fusion: FusionShape) -> MaskedWords:
        tokenizer = preparation.tokenizer
        if tokenizer.mask_token_id is None:
            raise InputError("pretraining.objectives", "masked_words", "needs a tokenizer that has a mask")
        markers = torch.tensor(tokenizer.all_special_ids)
        return cls(fusion.width, len(tokenizer), int(tokenizer.mask_token_id), markers, section.max_tokens)

    def forward(self, encoder: Encoder, inputs: Inputs, draws: Draws) -> tuple[Tensor, Tensor]:
        ids = inputs[INPUT_IDS]
        drawn = draws.uniform(self.longest, on_cpu=True)[:, : ids.shape[1]].to(ids.device)
        hidden = (drawn < _SHARE) & inputs[MASK] & ~torch.isin(ids, self.markers)
        tokens = encoder({**inputs, INPUT_IDS: ids.masked_fill(hidden, self.blank)})
        predicted = self.head(tokens.values[hidden]).float()
        return F.cross_entropy(predicted, ids[hidden], reduction="sum", ignore_index=_IGNORED), hidden.sum().float()
