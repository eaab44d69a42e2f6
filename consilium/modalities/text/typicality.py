"""Notes out of the ordinary: the mean surprisal of their word pieces under a bigram model.

An encoder's pooled tokens hardly notice the order of words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.modalities.part import MASK
from consilium.modalities.text.preparation import INPUT_IDS
from consilium.modalities.text.wordpiece import LEAST_PATIENTS
from consilium.modalities.tokens import Inputs
from consilium.modalities.typicality import PAD, Learned, Typicality


@dataclass(frozen=True, slots=True, eq=False)
class Bigrams:
    """How word pieces follow each other in the training notes, with Witten and Bell's smoothing.

    P(b | a) = (c(a b) + T(a) P(b)) / (c(a) + T(a)), where T(a) is the number of different pieces seen after a (Witten
    and Bell, IEEE Transactions on Information Theory 37, 1991, method C; Chen and Goodman 1999, section 2.5). What
    fewer than `LEAST_PATIENTS` patients' notes hold is not counted: the table names no patient.

    Attributes
    ----------
    alone : float32 [V]
        -log P(b).
    after : float32 [V]
        -log of the weight of P(b) after a piece.
    pairs : int64 [K]
        a V + b of every pair that was seen, ascending.
    together : float32 [K]
        -log P(b | a) of those.
    """

    alone: Tensor
    after: Tensor
    pairs: Tensor
    together: Tensor

    @classmethod
    def fit(cls, pieces: Tensor, patients: npt.NDArray, vocabulary: int) -> Bigrams:
        """From `pieces` [N, L] of notes of `patients` [N], all below `vocabulary`."""
        ids = pieces.numpy()
        here = ids != PAD
        whose = np.unique(patients, return_inverse=True)[1][:, None]
        singles, single_counts = _shared(ids[here], np.broadcast_to(whose, ids.shape)[here])
        follows = here[:, 1:]
        keys = (ids[:, :-1].astype(np.int64) * vocabulary + ids[:, 1:])[follows]
        pairs, pair_counts = _shared(keys, np.broadcast_to(whose, follows.shape)[follows])
        alone = np.ones(vocabulary)
        alone[singles] += single_counts
        alone /= alone.sum()
        first, second = np.divmod(pairs, vocabulary)
        kinds = np.bincount(first, minlength=vocabulary)
        total = np.bincount(first, pair_counts, minlength=vocabulary) + kinds
        weight = np.divide(kinds, total, out=np.ones(vocabulary), where=total > 0)
        together = pair_counts / total[first] + weight[first] * alone[second]
        log = [torch.from_numpy(-np.log(p)).float() for p in (alone, weight, together)]
        return cls(log[0], log[1], torch.from_numpy(pairs), log[2])

    def surprisal(self, pieces: Tensor) -> Tensor:
        """Mean surprisal of the pieces of each row of `pieces` [B, L], nats, [B]; 0 where there are less than two."""
        first, second = pieces[:, :-1], pieces[:, 1:]
        follows = second != PAD
        first, second = first.clamp(min=0), second.clamp(min=0)
        surprisals = self.after[first] + self.alone[second]
        if len(self.pairs):
            keys = first * len(self.alone) + second
            place = torch.searchsorted(self.pairs, keys).clamp(max=len(self.pairs) - 1)
            surprisals = torch.where(self.pairs[place] == keys, self.together[place], surprisals)
        return (surprisals * follows).sum(dim=1) / follows.sum(dim=1).clamp(min=1)


def _shared(keys: npt.NDArray, whose: npt.NDArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The `keys` [n] that `LEAST_PATIENTS` of `whose` [n] have, once each, ascending; how often each occurs."""
    found, position, counts = np.unique(keys, return_inverse=True, return_counts=True)
    owned = np.unique(np.stack([position, whose]), axis=1)[0]
    kept = np.bincount(owned, minlength=len(found)) >= LEAST_PATIENTS
    return found[kept].astype(np.int64), counts[kept]


class Surprisal:
    """The mean surprisal of a study's word pieces under the bigrams of the training notes."""

    names = ("alone", "after", "pairs", "together")

    def evidence(self, inputs: Inputs) -> Tensor:
        """The word pieces, int64 [B, L]."""
        return inputs[INPUT_IDS].masked_fill(~inputs[MASK], PAD)

    def fit(self, evidence: Tensor, patients: npt.NDArray, preparation: Any) -> Learned:
        """The bigrams of the training notes. No word of fewer than `LEAST_PATIENTS` is in them."""
        bigrams = Bigrams.fit(evidence, patients, len(preparation.tokenizer))
        return {name: getattr(bigrams, name) for name in self.names}

    def score(self, learned: Learned, evidence: Tensor) -> Tensor:
        """Nats, [B]."""
        return Bigrams(*(learned[name] for name in self.names)).surprisal(evidence)


TYPICALITY = Typicality(statistic=Surprisal())
