"""A phantom cohort's studies, drawn once more under other circumstances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from consilium.domain.study import NoteKind
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.image.radiograph import BITS
from training.cohorts.phantom.record import Design, Rendered, Shift, draw_study, render_study
from training.cohorts.phantom.state import StateTable


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
        plan = yaml.safe_load((root / "truth" / "design.yaml").read_text(encoding="utf-8"))
        del plan["studies"]
        design = Design(**(plan | {"shift": Shift(**plan["shift"])}))
        return cls(design, design.states(), design.evidence())

    def on_unseen_device(self, study_id: str) -> npt.NDArray[np.uint16]:
        """The study's radiograph from the device that no site has, 16-bit display values [size, size]."""
        radiograph = self._rendered(study_id, replace(self.design.shift, unseen_device=True)).radiograph
        assert radiograph is not None
        return radiograph.pixels << np.uint16(16 - BITS)

    def in_held_out_phrases(self, study_id: str) -> dict[NoteKind, str]:
        """The study's notes in the phrases that ordinary cohorts never use."""
        note = self._rendered(study_id, replace(self.design.shift, held_out_phrases=True)).note
        assert note is not None
        return {NoteKind.HISTORY: note.history, NoteKind.INDICATION: note.indication}

    def _rendered(self, study_id: str, shift: Shift) -> Rendered:
        design = replace(self.design, shift=shift)
        drawn = draw_study(design, int(study_id.removeprefix("S")), self.states, self.evidence)
        return render_study(design, drawn)


def load_renderer(root: Path) -> PhantomRenderer:
    """The renderer of the phantom cohort in the folder `root`."""
    return PhantomRenderer.of(root)
