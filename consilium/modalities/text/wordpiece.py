"""Tokenizers of the cohort's own words, whole or in pieces, for text models trained from nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import Model, WordLevel, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, WhitespaceSplit
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

from consilium.masking import PLACEHOLDERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LEAST_PATIENTS = 3
"""A word is learned only where at least so many patients' notes hold it: no vocabulary names a patient."""

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
"""These come first in every vocabulary."""


_NORMALIZER, _SPLITTER = BertNormalizer(lowercase=True), BertPreTokenizer()
_WORD = re.compile(r"\w\w")
_PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))


def train_wordpiece(notes: Iterable[tuple[str, str]], size: int) -> PreTrainedTokenizerFast:
    """Learn a vocabulary of at most `size` pieces from `notes`, pairs of patient id and text.

    Each placeholder of `consilium.masking` is one piece.
    """
    shared, counts = _shared_words(notes)
    vocabulary = _learn(shared, counts, size)
    return _tokenizer(WordPiece(vocabulary, unk_token=SPECIAL["unk_token"]), vocabulary)


def train_words(notes: Iterable[tuple[str, str]], size: int) -> PreTrainedTokenizerFast:
    """As `train_wordpiece`, of whole words of two letters or more: those that most patients' notes hold."""
    shared, _ = _shared_words(notes)
    reserved = [*SPECIAL.values(), *PLACEHOLDERS]
    words = [word for word in shared if _WORD.search(word)][: max(0, size - len(reserved))]
    vocabulary = {word: number for number, word in enumerate([*reserved, *words])}
    return _tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]), vocabulary)


def _shared_words(notes: Iterable[tuple[str, str]]) -> tuple[list[str], dict[str, int]]:
    """The words of at least `LEAST_PATIENTS` patients, those of most patients first, and how often each word stands."""
    patients: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for patient, text in notes:
        for word, _ in _SPLITTER.pre_tokenize_str(_NORMALIZER.normalize_str(_PLACEHOLDER.sub(" ", text))):
            patients[word].add(patient)
            counts[word] += 1
    shared = [word for word, whose in patients.items() if len(whose) >= LEAST_PATIENTS]
    return sorted(shared, key=lambda word: (-len(patients[word]), word)), counts


def _tokenizer(model: Model, vocabulary: Mapping[str, int]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = _NORMALIZER, _SPLITTER
    tokenizer.add_tokens([AddedToken(placeholder, normalized=False) for placeholder in PLACEHOLDERS])
    ends = ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    tokenizer.post_processor = BertProcessing(*ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def _learn(words: Sequence[str], counts: dict[str, int], size: int) -> dict[str, int]:
    """WordPiece vocabulary, piece → id.

    The trainer numbers letters in the order of a hash table, which differs from run to run, and breaks ties between
    merges by these numbers. Handed in as reserved tokens, letters are numbered in our order.
    """
    letters = sorted({letter for word in words for letter in word})
    continued = sorted({f"##{letter}" for word in words for letter in word[1:]})
    learner = Tokenizer(WordPiece(unk_token=SPECIAL["unk_token"]))
    learner.pre_tokenizer = WhitespaceSplit()
    reserved = [*SPECIAL.values(), *PLACEHOLDERS, *letters, *continued]
    trainer = WordPieceTrainer(vocab_size=max(size, len(reserved)), special_tokens=reserved, show_progress=False)
    learner.train_from_iterator((" ".join([word] * counts[word]) for word in sorted(words)), trainer)
    return learner.get_vocab()
