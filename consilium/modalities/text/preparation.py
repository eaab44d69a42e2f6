"""Notes → word pieces: identifiers masked, tokenized, each piece with the characters that it came from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consilium import masking
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.masking import MaskedText, Span, mask_text
from consilium.modalities.part import Part, Preparation
from consilium.modalities.text.language_model import LanguageModel, read_language_model
from consilium.modalities.text.note import Note
from consilium.modalities.text.presentation import TextInformation
from consilium.modalities.text.section import TextSection
from consilium.modalities.text.windows import Windows
from consilium.modalities.text.wordpiece import train_wordpiece, train_words
from consilium.modalities.weight_source import WeightSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INPUT_IDS = "input_ids"
_STATE, _TOKENIZER = "model.json", "tokenizer"


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a word piece came from: characters `start` to `end` of the text of the study's note number `note`."""

    note: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextPart(Part):
    """The notes of one study as L word pieces.

    Attributes
    ----------
    arrays : mapping
        ``input_ids`` int64 [L].
    pieces : tuple of (Piece or None)
        Origin of each word piece; None for a marker of ours. `Piece.note` counts the study's notes as they came, also
        those that were not read.
    masked : mapping of int to tuple of Span
        What the pieces do not show, of each note by its number.
    """

    pieces: tuple[Piece | None, ...] = ()
    masked: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)


class TextPreparation(Preparation[TextPart]):
    """Masks and tokenizes notes of the kinds that the recipe reads.

    Attributes
    ----------
    model : LanguageModel
    windows : Windows
        How texts are cut that are longer than the model reads at a time.

    Raises
    ------
    InputError
        Where the section wants a longer window than the model can read.
    """

    def __init__(self, section: TextSection, model: LanguageModel) -> None:
        self.section = section
        self.model = model
        self.windows = _windows(section, model)
        self.key = f"masking{masking.VERSION}" if section.mask_notes else "as sent"

    @classmethod
    def fit(cls, section: TextSection, studies: Sequence[Study], variables: VariableTable) -> TextPreparation:
        """Read the tokenizer of the named model, or learn a vocabulary from the training notes."""
        del variables
        return cls(section, read_language_model(section) if section.model is not None else _fitted(section, studies))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.model.tokenizer

    @property
    def config(self) -> Mapping[str, Any]:
        """Hugging Face configuration of the text model."""
        return self.model.config

    def adopted(self, section: TextSection, studies: Sequence[Study], variables: VariableTable) -> TextPreparation:
        del studies, variables
        return TextPreparation(section, self.model)

    def prepare(self, study: Study, received: Study, converted: Sequence[Any] | None = None) -> TextPart:
        del converted
        notes, others = _by_kind(study, self.section)
        ids: list[int] = []
        pieces: list[Piece | None] = []
        masked: dict[int, tuple[Span, ...]] = {}
        for note in notes:
            if note.text.strip():
                number, read = (
                    received.parts["text"].index(note),
                    _masked(note, received.known_names, self.section),
                )
                masked[number] = read.spans
                self._tokenize(note, number, read, ids, pieces)
        warnings = [f"note ({kind}) left out: not read by this model" for kind in others]
        longest = self.section.max_tokens
        if len(ids) > longest:
            warnings.append(f"notes cut off: {len(ids)} word pieces, the model reads {longest}")
        return TextPart(
            arrays={INPUT_IDS: np.array(ids[:longest], np.int64)},
            warnings=tuple(warnings),
            pieces=tuple(pieces[:longest]),
            masked=masked,
        )

    def _tokenize(self, note: Note, number: int, read: MaskedText, ids: list[int], pieces: list[Piece | None]) -> None:
        """Append the pieces of `note` and their origins."""
        marker = f"{note.kind.value}: "
        encoded = self.tokenizer(marker + read.text, return_offsets_mapping=True, verbose=False)
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            inside = end > start >= len(marker)
            ids.append(token)
            origin = read.origin(start - len(marker), end - len(marker)) if inside else None
            pieces.append(None if origin is None else Piece(number, *origin))

    @classmethod
    def named_sources(cls, section: TextSection) -> tuple[WeightSource, ...]:
        return () if section.model is None else read_language_model(section).sources

    @property
    def weight_sources(self) -> tuple[WeightSource, ...]:
        return self.model.sources

    def information(self, section: TextSection) -> TextInformation:
        kinds = tuple(kind.value for kind in section.note_kinds)
        return TextInformation(note_kinds=kinds, mask_notes=section.mask_notes)

    def save(self, folder: Path) -> None:
        state = {"config": dict(self.config), "sources": [source.to_json() for source in self.model.sources]}
        (folder / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        self.tokenizer.save_pretrained(folder / _TOKENIZER)

    @classmethod
    def load(cls, folder: Path, section: TextSection, variables: VariableTable) -> TextPreparation:
        del variables
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder / _TOKENIZER, local_files_only=True)
        state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        sources = tuple(WeightSource.from_json(source) for source in state["sources"])
        return cls(section, LanguageModel(tokenizer, state["config"], sources))

    @property
    def digest(self) -> str:
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def _by_kind(study: Study, section: TextSection) -> tuple[list[Note], list[str]]:
    """The notes that the recipe reads, and the kinds, once each, of those that it does not."""
    notes = [note for note in study.parts["text"] if section.reads(note)]
    return notes, list(Counter(note.kind.value for note in study.parts["text"] if not section.reads(note)))


def _masked(note: Note, names: Sequence[str], section: TextSection) -> MaskedText:
    """What a model reads of `note`. A cohort's notes were masked when they were read, which this leaves as they are."""
    return mask_text(note.text, names) if section.mask_notes else MaskedText(note.text, ())


def _windows(section: TextSection, model: LanguageModel) -> Windows:
    most = model.most_pieces
    if section.window is not None and most is not None and section.window > most:
        raise InputError("modalities.text.window", section.window, f"must be at most the {most} that the model reads")
    size = section.window or most or section.max_tokens
    overlap = size // 4 if section.overlap is None else section.overlap
    if overlap > size // 2:
        rule = f"must be at most half of the {size} word pieces that the model reads at a time"
        raise InputError("modalities.text.overlap", overlap, rule)
    return Windows(size, overlap, model.begins_with_marker)


def _fitted(section: TextSection, studies: Sequence[Study]) -> LanguageModel:
    from transformers import BertConfig

    notes = [
        (study.patient_id, f"{note.kind.value}: {_masked(note, study.known_names, section).text}")
        for study in studies
        for note in _by_kind(study, section)[0]
    ]
    if not notes:
        raise InputError("modalities", "text", "needs notes of the kinds that the recipe reads")
    tokenizer = (train_words if section.units == "words" else train_wordpiece)(notes, section.vocabulary)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=section.width,
        num_hidden_layers=section.depth,
        num_attention_heads=section.heads,
        intermediate_size=4 * section.width,
        max_position_embeddings=section.window or section.max_tokens,
        hidden_dropout_prob=section.dropout,
        attention_probs_dropout_prob=section.dropout,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LanguageModel(tokenizer, config.to_dict())
