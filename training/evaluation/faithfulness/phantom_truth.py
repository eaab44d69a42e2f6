"""Truth of a phantom cohort, asked of each of its modalities.

A counterfactual twin is the study itself with one piece of evidence at the value that speaks neither for nor against
its finding, half-way between the means with and without it, and every other piece and all nuisance (patient, device,
noise, wording) as they were. What changed in the record is that evidence, and what changes in an answer is due to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from consilium.domain.errors import InputError
from consilium.explain.case import Case
from consilium.modalities.registry import nonempty_subsets
from consilium.system.installed import load
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.oracle import Readings, has_modalities, log_likelihoods, posterior, read_drawn
from training.cohorts.phantom.record import Design, Drawn, draw_study
from training.cohorts.phantom.state import FINDINGS, StateTable
from training.cohorts.phantom.tables import table
from training.evaluation.faithfulness.truth import Mask, Twin

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Remade:
    """A study of a phantom, to be made again with other evidence.

    Attributes
    ----------
    case : Case
        The study as the model reads it.
    readings : mapping
        What the oracle reads of it.
    before : float64 [F]
        The best possible log-odds from what the model reads.
    """

    truth: PhantomTruth
    case: Case
    drawn: Drawn
    readings: Readings
    before: Floats

    def render(self, modality: str, evidence: Any) -> Any:
        """One modality of the study, with other evidence and the same nuisance."""
        changed = replace(self.drawn, evidence=self.drawn.evidence.with_part(modality, evidence))
        return self.truth.model.phantoms[modality].render(self.truth.design, changed)

    def fall(self, modality: str, reading: Any, finding: str) -> float:
        """By how much the oracle's log-odds of `finding` fall when it reads `reading` of one modality."""
        after = self.truth.best(self.drawn, {**self.readings, modality: reading}, self.case.prepared.present)
        k = FINDINGS.index(finding)
        return float(self.before[k] - after[k])


class ModalityTruth(ABC):
    """What is known of one modality of a phantom cohort; its `PhantomModality` names the class.

    Attributes
    ----------
    name : str
        Of the modality.
    root : Path
        Of the cohort.
    """

    name: ClassVar[str]

    def __init__(self, root: Path) -> None:
        self.root = root

    def view(self, case: Case, weights: npt.NDArray) -> npt.NDArray:
        """See `Truth.view`."""
        del case
        return weights

    def masks(self, study_id: str) -> Mapping[str, Mask]:
        """See `Truth.masks`."""
        del study_id
        return {}

    def decisive(self, case: Case, finding: str) -> tuple[Mask, Mask] | None:
        """See `Truth.decisive`."""
        del case, finding
        return None

    @abstractmethod
    def twins(self, remade: Remade) -> Iterator[Twin]:
        """A twin for every piece of this modality's evidence.

        Raises
        ------
        TrainingError
            Where this version renders the study otherwise than the cohort has it.
        """


@dataclass(frozen=True, slots=True, eq=False)
class PhantomTruth:
    """What is known of a phantom cohort beside its records.

    Attributes
    ----------
    parts : mapping of modality to ModalityTruth
        Of those modalities whose phantom names one.
    """

    design: Design
    states: StateTable
    model: EvidenceModel
    parts: Mapping[str, ModalityTruth]

    def view(self, modality: str, case: Case, weights: npt.NDArray) -> npt.NDArray:
        return self.parts[modality].view(case, weights) if modality in self.parts else weights

    def masks(self, modality: str, study_id: str) -> Mapping[str, Mask]:
        return self.parts[modality].masks(study_id) if modality in self.parts else {}

    def decisive(self, modality: str, case: Case, finding: str) -> tuple[Mask, Mask] | None:
        return self.parts[modality].decisive(case, finding) if modality in self.parts else None

    def twins(self, case: Case) -> Iterator[Twin]:
        drawn = self.drawn(case.prepared.study.study_id)
        readings = self.readings(drawn)
        remade = Remade(self, case, drawn, readings, self.best(drawn, readings, case.prepared.present))
        for name, part in self.parts.items():
            if name in case.prepared.present:
                yield from part.twins(remade)

    def modality_log_odds(self, study_id: str) -> dict[frozenset[str], Floats]:
        drawn = self.drawn(study_id)
        readings = self.readings(drawn)
        subsets = [frozenset[str](), *nonempty_subsets(drawn.evidence.modalities)]
        return {subset: self.best(drawn, readings, subset) for subset in subsets}

    def drawn(self, study_id: str) -> Drawn:
        """The study as it was drawn."""
        return draw_study(self.design, int(study_id.removeprefix("S")), self.states, self.model)

    def readings(self, drawn: Drawn) -> Readings:
        """What the oracle reads of it."""
        return read_drawn(self.design, self.model, [drawn])

    def best(self, drawn: Drawn, readings: Readings, subset: Iterable[str]) -> Floats:
        """The best possible log-odds [F] from the modalities in `subset`, of the study with these `readings`."""
        likelihoods = log_likelihoods(self.states, self.model, readings, has_modalities(self.model, [drawn]))
        known = [name for name in subset if name in self.model.modalities]
        best = posterior(self.states.prior, likelihoods, self.model.modalities, known)[0]
        return logit(np.clip(best, 1e-12, 1 - 1e-12))


def load_truth(root: Path) -> PhantomTruth:
    """The truth of the phantom cohort in the folder `root`.

    Raises
    ------
    InputError
        Where it is no phantom cohort.
    """
    design = Design.load(root)
    if design is None:
        raise InputError("cohort", root.name, "must be a phantom cohort")
    model = design.evidence()
    known = {name: model.phantoms[name].truth for name in model.modalities}
    parts = {name: load(reference)(root) for name, reference in known.items() if reference}
    return PhantomTruth(design, design.states(), model, parts)


def neutral(modality: str, channel: str, finding: str) -> float:
    """Evidence as likely with the finding as without it, all else absent."""
    return float(table("evidence")[modality][channel][finding]) / 2
