"""A phantom cohort's studies, drawn once more under other circumstances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from consilium.domain.errors import InputError
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.record import Design, draw_study
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
        design = Design.load(root)
        if design is None:
            raise InputError("cohort", root.name, "must be a phantom cohort")
        return cls(design, design.states(), design.evidence())

    def render(self, modality: str, study_id: str, **circumstances: Any) -> Any:
        """One modality of a study as its `PhantomModality` renders it, under other circumstances.

        Parameters
        ----------
        circumstances
            Fields of `training.cohorts.phantom.record.Shift`.
        """
        design = replace(self.design, shift=replace(self.design.shift, **circumstances))
        drawn = draw_study(design, int(study_id.removeprefix("S")), self.states, self.evidence)
        return self.evidence.phantoms[modality].render(design, drawn)


def load_renderer(root: Path) -> PhantomRenderer:
    """The renderer of the phantom cohort in the folder `root`."""
    return PhantomRenderer.of(root)
