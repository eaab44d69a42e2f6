"""Which words of a phantom's notes carry evidence, and the notes without one piece of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from consilium.domain.errors import TrainingError
from consilium.domain.study import Study
from consilium.explain.case import Case
from consilium.modalities.text.note import NoteKind
from consilium.preprocessing.collate import converted
from training.cohorts.phantom.phantom_modality import Floats
from training.cohorts.phantom.state import CONFOUNDERS, FINDINGS
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import ORDINARY, TEXT_CHANNELS, WrittenNote
from training.cohorts.phantom.text.phantom import SPANS_FILE
from training.evaluation.faithfulness.phantom_truth import ModalityTruth, Remade, neutral
from training.evaluation.faithfulness.truth import Mask, Twin

Passage = tuple[int, int, int]
"""Characters of a study: note, start, end."""


class TextTruth(ModalityTruth):
    """Each channel is written in one passage of a note; the units are words."""

    name = "text"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        spans = pd.read_csv(root / SPANS_FILE, dtype={"study": str})
        self._spans = {str(study): rows for study, rows in spans.groupby("study")}

    def passages(self, study: Study, channel: str) -> list[Passage]:
        """Which characters of the notes are about `channel`."""
        notes = {note.kind: number for number, note in enumerate(study.parts[self.name])}
        rows = self._spans.get(study.study_id)
        if rows is None:
            return []
        own = rows[rows["channel"] == channel]
        places = zip(map(NoteKind, own["kind"]), own["start"].tolist(), own["stop"].tolist(), strict=True)
        return [(notes[kind], start, stop) for kind, start, stop in places if kind in notes]

    def decisive(self, case: Case, finding: str) -> tuple[Mask, Mask]:
        """Words that explain a finding's image away are neither decisive nor beside the point."""
        study = case.prepared.study
        confounders = [name for name in table("evidence")["image"][finding] if name in CONFOUNDERS]
        aside = [passage for name in confounders for passage in self.passages(study, name)]
        return self._words_in(case, self.passages(study, finding)), ~self._words_in(case, aside)

    def twins(self, remade: Remade) -> Iterator[Twin]:
        evidence = remade.drawn.evidence.parts[self.name]
        prepared, preprocessing = remade.case.prepared, remade.case.preprocessing
        written = prepared.study.parts[self.name]
        own = self._texts(remade, evidence)
        if any(own.get(note.kind, note.text) != note.text for note in written):
            raise TrainingError("this version writes the phantom's notes otherwise; write the cohort anew")
        for finding in FINDINGS:
            changed = evidence.copy()
            changed[TEXT_CHANNELS.index(finding)] = neutral(self.name, finding, finding)
            grades = ORDINARY.grades(changed)[None]
            passages = self.passages(prepared.study, finding)
            if not passages or np.array_equal(grades, remade.readings[self.name]):
                continue
            texts = self._texts(remade, changed)
            notes = tuple(replace(note, text=texts.get(note.kind, note.text)) for note in written)
            twin = preprocessing.prepare(
                prepared.study.with_parts(**{self.name: notes}), converted(preprocessing, prepared)
            )
            if twin.parts[self.name].pieces == prepared.parts[self.name].pieces:
                continue  # beyond the length that the model reads
            where = self._words_in(remade.case, passages[:1])
            yield Twin(self.name, finding, twin, remade.fall(self.name, grades, finding), where)

    def _texts(self, remade: Remade, evidence: Floats) -> dict[NoteKind, str]:
        note: WrittenNote = remade.render(self.name, evidence)
        return {NoteKind.HISTORY: note.history, NoteKind.INDICATION: note.indication}

    def _words_in(self, case: Case, passages: Sequence[Passage]) -> Mask:
        """Which words lie in one of `passages`, bool [W]."""
        words = [word for word, _ in case.units.get(self.name, ())]
        inside = [
            any(w.note == note and w.start < end and start < w.end for note, start, end in passages) for w in words
        ]
        return np.array(inside, bool)
