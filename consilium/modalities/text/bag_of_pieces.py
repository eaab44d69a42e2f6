"""A bag of words, or of word pieces, in the place of a language model: for a linear fusion where no model is named.

The mean over a study's tokens is its TF-IDF vector of length 1 (Salton and Buckley 1988), with 1 + log n for a token
that stands n times, up to a turn of the axes. What a token adds is its own vector, so contributions of words add up.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from consilium.modalities.text.wordpiece import SPECIAL

WIDTH = 1024
"""Of the tokens' vectors: orthogonal where there are so few, else random, so nearly orthogonal (random projection,
Achlioptas 2003)."""


class PieceVectors(nn.Embedding):
    """A vector for each token, as long as the token is rare (inverse document frequency); special ones say nothing.

    Attributes
    ----------
    seen : int64 [V]
        Training studies with the token.
    studies : int64 []
        Training studies with notes.
    """

    seen: Tensor
    studies: Tensor

    def __init__(self, vocabulary: int) -> None:
        vectors = torch.eye(vocabulary, WIDTH) if vocabulary <= WIDTH else torch.randn(vocabulary, WIDTH) / WIDTH**0.5
        vectors[: len(SPECIAL)] = 0.0
        super().__init__(vocabulary, WIDTH, _weight=vectors, _freeze=True)
        self.register_buffer("seen", torch.zeros(vocabulary, dtype=torch.long))
        self.register_buffer("studies", torch.zeros((), dtype=torch.long))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        rarity = torch.log((1 + self.studies) / (1 + self.seen[input])) + 1
        return super().forward(input) * rarity[..., None]


class BagOfPieces(nn.Module):
    """What `TextEncoder` asks of a Hugging Face model: tokens are what they are, whatever stands beside them.

    Each counts so much that the mean over all of them is the bag's vector, of length 1.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vectors = PieceVectors(vocabulary)
        self.config = SimpleNamespace(hidden_size=WIDTH)

    def get_input_embeddings(self) -> PieceVectors:
        return self.vectors

    def count(self, ids: Tensor, mask: Tensor) -> None:
        """Learn from a training batch in how many studies each token stands; ids int and mask bool, [B, L]."""
        vocabulary = len(self.vectors.seen)
        stands = torch.zeros(len(ids), vocabulary + 1, dtype=torch.bool, device=ids.device)
        stands.scatter_(1, torch.where(mask, ids, vocabulary), True)
        self.vectors.seen += stands[:, :vocabulary].sum(dim=0)
        self.vectors.studies += mask.any(dim=1).sum()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        counts = self._share(input_ids, attention_mask.float())
        return SimpleNamespace(last_hidden_state=self.vectors(input_ids) * counts[..., None])

    def _share(self, ids: Tensor, mask: Tensor) -> Tensor:
        """How much each token counts, [B, L]: by the tokens alone, so that the answer is linear in their vectors."""
        # By `shape`, which tracing follows, where `len` is a constant of the example.
        often = mask.new_zeros(ids.shape[0], len(self.vectors.seen)).scatter_add(1, ids, mask)
        often = often.gather(1, ids).clamp(min=1)
        damped = mask * (1 + often.log()) / often
        # Not by a call, in whose place explanations put vectors of their own.
        bag = (self.vectors.forward(ids) * damped[..., None]).sum(dim=1)
        length = bag.norm(dim=1, keepdim=True)
        return damped * mask.sum(dim=1, keepdim=True) / torch.where(length > 0, length, 1.0)
