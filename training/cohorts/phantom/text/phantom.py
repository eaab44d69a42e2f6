"""Notes of the phantom: a channel per finding and confounder, of which the note tells the grade only."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.text.note import NoteKind
from training.cohorts.phantom.image.dictation import render_report
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.phantom_modality import (
    Asked,
    Floats,
    PhantomModality,
    Row,
    Sent,
    Target,
    Written,
    channel_means,
    probability_below,
)
from training.cohorts.phantom.record import Design, Drawn, stream
from training.cohorts.phantom.state import FINDINGS, PRESENT, State, StateTable
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import TEXT_CHANNELS, THRESHOLDS, WrittenNote, note_grades, render_note

SPANS_FILE = "truth/spans.csv"


class TextPhantom(PhantomModality):
    """History and indication; the oracle reads the grades."""

    name = "text"
    truth = "training.evaluation.faithfulness.text_truth:TextTruth"
    missing = table("evidence")["missing_modality"]["text"]
    tables = MappingProxyType({SPANS_FILE: ("study", "kind", "channel", "grade", "start", "stop")})

    def __init__(self) -> None:
        self.means: Floats = channel_means(table("evidence")["text"])
        """Mean of each channel in each state, float64 [S, C]."""

    def draw(self, state: State, rng: np.random.Generator) -> Floats:
        return rng.normal(self.means[state.index])

    def render(self, design: Design, study: Drawn) -> WrittenNote:
        return render_note(
            study.evidence.parts[self.name],
            stream(design, study.index, "note"),
            study.site,
            held_out_phrases=design.shift.held_out_phrases,
        )

    def write(self, target: Target, rendered: WrittenNote | None) -> Written:
        columns: Row = {}
        for kind in (NoteKind.HISTORY, NoteKind.INDICATION):
            text = getattr(rendered, kind.value) if rendered else ""
            columns[f"note_{kind.value}"] = text
            columns[f"note_{kind.value}_time"] = target.study.note_time.isoformat() if text else ""
        spans: list[Row] = [
            {
                "study": target.study.study_id,
                "kind": span.kind.value,
                "channel": span.channel,
                "grade": span.grade,
                "start": span.start,
                "stop": span.stop,
            }
            for span in (rendered.spans if rendered else ())
        ]
        return Written(columns, rows={SPANS_FILE: spans})

    def read(self, studies: Sequence[Drawn], rendered: Sequence[Any]) -> npt.NDArray[np.int64]:
        del rendered
        return note_grades(np.stack([study.evidence.parts[self.name] for study in studies]))

    def log_likelihood(self, reading: npt.NDArray[np.int64], states: StateTable) -> Floats:
        del states
        total = np.zeros((len(reading), len(PRESENT)))
        for channel in range(len(TEXT_CHANNELS)):
            means = self.means[:, channel]
            below = [probability_below(threshold, means) for threshold in THRESHOLDS[channel]]
            cumulative = np.stack([np.zeros_like(means), *below, np.ones_like(means)])
            total += np.log(np.diff(cumulative, axis=0))[reading[:, channel]]
        return total

    def request(self, asked: Asked) -> Sent:
        """A note of each kind that the model reads."""
        design, study = asked.design, asked.study
        note = render_note(study.evidence.parts[self.name], stream(design, study.index, "note"), study.site)
        chances = [float(study.state.labels[name]) for name in FINDINGS]
        image = study.evidence.parts[ImagePhantom.name]
        findings, impression = render_report(image, chances, stream(design, study.index, "report"))
        texts = {
            NoteKind.HISTORY: note.history,
            NoteKind.INDICATION: note.indication,
            NoteKind.FINDINGS: findings,
            NoteKind.IMPRESSION: impression,
        }
        kinds = asked.preprocessing.recipe.modalities["text"].note_kinds
        return Sent({"notes": [{"kind": kind.value, "text": texts[kind]} for kind in kinds]})

    def describe(self, evidence: Floats) -> Row:
        drawn: Row = {f"text:{name}": float(x) for name, x in zip(TEXT_CHANNELS, evidence, strict=True)}
        return drawn | {f"grade:{name}": int(g) for name, g in zip(TEXT_CHANNELS, note_grades(evidence), strict=True)}
