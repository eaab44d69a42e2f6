"""Phantom cohorts of notes alone, made in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from consilium.modalities.text.note import Note, NoteKind
from training.cohorts.cohort import Cohort, StudyRecord
from training.cohorts.phantom.record import Design, draw_study, stream
from training.cohorts.phantom.state import FINDINGS, phantom_findings
from training.cohorts.phantom.text.note import render_note


def phantom_notes(studies: int, seed: int) -> Cohort:
    """The notes and labels that a written phantom of this seed has; every fifth patient is in the test split."""
    design = Design(seed, 64)
    states, evidence = design.states(), design.evidence()
    records = []
    for index in range(studies):
        drawn = draw_study(design, index, states, evidence)
        notes = ()
        if drawn.has("text"):
            written = render_note(drawn.evidence.parts["text"], stream(design, index, "note"), drawn.site)
            notes = (Note(NoteKind.HISTORY, written.history), Note(NoteKind.INDICATION, written.indication))
        labels = np.array([drawn.state.labels[name] for name in FINDINGS], np.float32)
        split = "train" if index % 5 else "test"
        records.append(StudyRecord(drawn.study_id, drawn.patient_id, labels, parts={"text": notes}, split=split))
    return Cohort("phantom", phantom_findings(), tuple(records), Path(), "digest")
