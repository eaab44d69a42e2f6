"""Notes, where a model is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from consilium.configuration.modality_sections import Scope
from consilium.configuration.recipe import Recipe
from consilium.domain.study import Study
from consilium.modalities.converter import Array
from consilium.modalities.text.note import NoteKind
from consilium.modalities.text.section import TextSection
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.modalities.text.near_notes import SIMILARITY, distinct_texts, improbability, near_texts, needed_bits
from training.modalities.text.notes_baseline import BASELINE
from training.training_side import Baseline, Copies, Indices, Row, TrainingSide

NAME = "text"
NOISE = 0.05
"""On word embeddings, in standard deviations of the vocabulary's."""


class TextTraining(TrainingSide):
    """Copies by what chance would not write twice, origins by lengths, a baseline of words."""

    origin_groups = MappingProxyType({"notes": "the number and length of the notes"})

    def copies(self, cohort: Cohort, cached: CachedCohort | None, scope: Scope, patients: Indices, seed: int) -> Copies:
        del cached
        texts = distinct_texts([record.readable(scope) for record in cohort.records])
        near = f"Jaccard index of at least {SIMILARITY:.2f}"
        if not texts:
            return Copies((), np.zeros((0, 2), np.int64), near)
        bits = improbability(texts, patients.tolist())
        needed = needed_bits(sum(len(set(patients[text.rows].tolist())) for text in texts))
        rare = np.flatnonzero(bits >= needed)
        kept, bits = [texts[number] for number in rare], bits[rare]
        pairs, likeness = near_texts(kept, seed)
        # What differs between two texts may be what was improbable of them.
        common = likeness * bits[pairs].min(axis=1, initial=np.inf)
        return Copies([text.rows for text in kept], pairs[common >= needed], near)

    def text(self, study: Study) -> str:
        return " ".join(note.text for note in study.parts[NAME])

    def origins(self, cached: CachedCohort, scope: Scope) -> Mapping[str, Sequence[Row]]:
        studies = [record.readable(scope) for record in cached.cohort.records]
        return {"notes": [_lengths(study) for study in studies], "missingness": [_filled(study) for study in studies]}

    def baseline(self) -> Baseline:
        return BASELINE

    def out_of_distribution_kinds(self) -> tuple[Any, ...]:
        from training.modalities.text.odd_texts import KINDS

        return KINDS

    def noisy(self, arrays: Mapping[str, Array], generator: np.random.Generator) -> Mapping[str, Array]:
        """None of them: words have no noise; see `disturb_encoder`."""
        del arrays, generator
        return {}

    def disturb_encoder(self, encoder: Any, seed: int) -> None:
        """Every word is read a little otherwise."""
        weights = encoder.model.get_input_embeddings().weight.detach()
        noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)).to(weights)
        weights.add_(noise, alpha=NOISE * float(weights.std()))

    def scope_in_words(self, section: TextSection) -> str:
        return f"of the notes {' and '.join(kind.value for kind in section.note_kinds)} alone"

    def card_sentences(self, recipe: Recipe) -> Sequence[str]:
        """What is taken out of the notes; the figures are those of ``benchmarks/masking.py``."""
        if not recipe.masks_identifiers:
            return ("Notes are read as they are sent, names and dates among it, in training as in the service.",)
        masked = (
            "Notes are masked before they are read, in training as in the service: names that are given or titled, "
            "dates, identifiers, telephone numbers and addresses. On made-up prose .99 of what is to hide goes where "
            "the names are given, and .5 where they are not, most other names staying. It makes nobody anonymous."
        )
        return (masked,)


def _lengths(study: Study) -> Row:
    texts = [note.text for note in study.parts[NAME]]
    return {
        "notes": float(len(texts)),
        "characters": float(sum(map(len, texts))),
        "words": float(sum(len(text.split()) for text in texts)),
    }


def _filled(study: Study) -> Row:
    notes = study.parts[NAME]
    kinds = {note.kind for note in notes}
    return {
        "note_time": float(any(note.time is not None for note in notes)),
        **{f"note_{kind.value}": float(kind in kinds) for kind in NoteKind},
    }
