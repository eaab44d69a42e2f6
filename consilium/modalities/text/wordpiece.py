"""A WordPiece tokenizer of the cohort's own words, for text models trained from nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, WhitespaceSplit
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

from consilium.masking import PLACEHOLDERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LEAST_PATIENTS = 3
"""A word is learned only where at least so many patients' notes hold it: no vocabulary names a patient."""

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


_PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))


def train_wordpiece(notes: Iterable[tuple[str, str]], size: int) -> PreTrainedTokenizerFast:
    """Learn a vocabulary of at most `size` pieces from `notes`, pairs of patient id and text.

    Each placeholder of `consilium.masking` is one piece.
    """
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    patients: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for patient, text in notes:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(_PLACEHOLDER.sub(" ", text))):
            patients[word].add(patient)
            counts[word] += 1
    shared = sorted(word for word, whose in patients.items() if len(whose) >= LEAST_PATIENTS)
    vocabulary = _learn(shared, counts, size)
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=_SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.add_tokens([AddedToken(placeholder, normalized=False) for placeholder in PLACEHOLDERS])
    ends = ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    tokenizer.post_processor = BertProcessing(*ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)


def _learn(words: list[str], counts: dict[str, int], size: int) -> dict[str, int]:
    """WordPiece vocabulary, piece → id.

    The trainer numbers letters in the order of a hash table, which differs from run to run, and breaks ties between
    merges by these numbers. Handed in as reserved tokens, letters are numbered in our order.
    """
    letters = sorted({letter for word in words for letter in word})
    continued = sorted({f"##{letter}" for word in words for letter in word[1:]})
    learner = Tokenizer(WordPiece(unk_token=_SPECIAL["unk_token"]))
    learner.pre_tokenizer = WhitespaceSplit()
    reserved = [*_SPECIAL.values(), *PLACEHOLDERS, *letters, *continued]
    trainer = WordPieceTrainer(vocab_size=max(size, len(reserved)), special_tokens=reserved, show_progress=False)
    learner.train_from_iterator((" ".join([word] * counts[word]) for word in words), trainer)
    return learner.get_vocab()
