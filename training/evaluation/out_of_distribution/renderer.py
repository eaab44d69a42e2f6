"""A phantom cohort's studies, drawn once more under other circumstances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from consilium.modalities.text.note import NoteKind
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.image.radiograph import BITS, Radiograph
from training.cohorts.phantom.record import Design, Shift, draw_study
from training.cohorts.phantom.state import StateTable
from training.cohorts.phantom.text.note import WrittenNote


@dataclass(frozen=True, slots=True, eq=False)
class PhantomRenderer:
    """Draws the studies of one cohort anew: the same patient and evidence, another device or other words.

    Attributes
    ----------
    design : Design
        What the cohort was made from.
    """

    design: Design
    states: StateTable
    evidence: EvidenceModel

    @classmethod
    def of(cls, root: Path) -> PhantomRenderer:
        """Of the phantom cohort in the folder `root`."""
        design = Design.load(root)
        if design is None:
            raise InputError("cohort", root.name, "must be a phantom cohort")
        return cls(design, design.states(), design.evidence())

    def on_unseen_device(self, study_id: str) -> npt.NDArray[np.uint16]:
        """The study's radiograph from the device that no site has, 16-bit display values [size, size]."""
        radiograph: Radiograph = self._rendered("image", study_id, replace(self.design.shift, unseen_device=True))
        return radiograph.pixels << np.uint16(16 - BITS)

    def in_held_out_phrases(self, study_id: str) -> dict[NoteKind, str]:
        """The study's notes in the phrases that ordinary cohorts never use."""
        note: WrittenNote = self._rendered("text", study_id, replace(self.design.shift, held_out_phrases=True))
        return {NoteKind.HISTORY: note.history, NoteKind.INDICATION: note.indication}

    def _rendered(self, modality: str, study_id: str, shift: Shift) -> Any:
        design = replace(self.design, shift=shift)
        drawn = draw_study(design, int(study_id.removeprefix("S")), self.states, self.evidence)
        return self.evidence.phantoms[modality].render(design, drawn)


def load_renderer(root: Path) -> PhantomRenderer:
    """The renderer of the phantom cohort in the folder `root`."""
    return PhantomRenderer.of(root)
