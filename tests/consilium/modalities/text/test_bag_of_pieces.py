"""The bag of words beside scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from consilium.modalities.text.bag_of_pieces import WIDTH, BagOfPieces
from consilium.modalities.text.wordpiece import SPECIAL

FIRST = len(SPECIAL)
TEXTS = [[0, 1, 1, 2], [0, 0, 0], [3, 4], [1]]
"""Numbers of words."""


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    """Padded ids between the markers of beginning and end, and their mask."""
    ids, mask = torch.zeros(len(TEXTS), 6, dtype=torch.long), torch.zeros(len(TEXTS), 6, dtype=torch.bool)
    for row, text in enumerate(TEXTS):
        ids[row, : len(text) + 2] = torch.tensor([2, *(FIRST + word for word in text), 3])
        mask[row, : len(text) + 2] = True
    return ids, mask


def bags(vocabulary: int) -> np.ndarray:
    bag, (ids, mask) = BagOfPieces(vocabulary), tensors()
    bag.count(ids, mask)
    hidden = bag(ids, mask.long()).last_hidden_state
    return ((hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)).numpy()


def test_the_mean_over_tokens_is_tf_idf() -> None:
    texts = [" ".join(f"w{word}" for word in text) for text in TEXTS]
    expected = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    assert bags(FIRST + 5)[:, FIRST : FIRST + 5] == pytest.approx(expected, abs=1e-5)


def test_more_words_than_dimensions_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    exact, near = bags(FIRST + 5), bags(WIDTH + 1)
    assert near @ near.T == pytest.approx(exact @ exact.T, abs=0.1)


def test_a_note_of_unknown_words_says_nothing() -> None:
    bag = BagOfPieces(FIRST + 5)
    ids, mask = torch.ones(1, 3, dtype=torch.long), torch.ones(1, 3)
    assert not bag(ids, mask).last_hidden_state.any()
