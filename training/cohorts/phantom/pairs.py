"""How well two records of the phantom can be known to be of one study: what no alignment can beat.

The score of two records is log p(both | one study) - log p(one) - log p(other), by enumerating the states, as the
oracle knows their evidence. Where a record repeats what another modality shows, as a report does, they fit or do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.oracle import PhantomOracle, load_oracle
from training.cohorts.phantom.phantom_modality import Floats, PhantomModality
from training.cohorts.phantom.record import Design
from training.cohorts.phantom.renderers import phantom_modalities
from training.cohorts.phantom.schemes import ORDINARY, find_scheme

_NO = -1e9
"""Score of two records that contradict each other."""


@dataclass(frozen=True, slots=True, eq=False)
class PhantomPairs:
    """Scores of pairs of records of a phantom cohort.

    Attributes
    ----------
    oracle : PhantomOracle
    phantoms : mapping of modality to PhantomModality
        As the cohort's scheme has them.
    """

    oracle: PhantomOracle
    phantoms: Mapping[str, type[PhantomModality]]

    def scores(
        self, study_ids: Sequence[str], one: str, other: str, sections: Mapping[str, Any]
    ) -> npt.NDArray[np.float64]:
        """Of the record `one` of each of N studies with the record `other` of each, float64 [N, N].

        Parameters
        ----------
        sections : mapping of modality to section
            Which records a model reads: a report among the notes changes what they can be known by.
        """
        place = {study: row for row, study in enumerate(self.oracle.study_ids.tolist())}
        rows = np.array([place[study] for study in study_ids])
        likelihoods = [self._likelihood(name, sections[name])[rows] for name in (one, other)]
        total = mutual_scores(self.oracle.prior, *likelihoods)
        for reader, shown in ((one, other), (other, one)):
            repeated = self.phantoms[reader].repeats(self.oracle, sections[reader], self.phantoms)
            codes = repeated.get(shown)
            if codes is not None:
                total = np.where(codes[rows][:, None] == codes[rows][None, :], total, _NO)
        return total

    def _likelihood(self, name: str, section: Any) -> Floats:
        """Log p(record | state) of every study, as far as the states decide it, float64 [N, S]."""
        own = self.oracle.likelihoods[:, self.oracle.modalities.index(name)]
        phantom = self.phantoms[name]
        found = own if phantom.shows_evidence(section) else np.zeros_like(own)
        for shown in phantom.repeats(self.oracle, section, self.phantoms):
            if shown != name and shown in self.oracle.modalities:
                found = found + self.oracle.likelihoods[:, self.oracle.modalities.index(shown)]
        return found


def mutual_scores(prior: Floats, one: Floats, other: Floats) -> Floats:
    """Log p(a, b) - log p(a) - log p(b) of every a with every b, from log-likelihoods [N, S] and [M, S]; [N, M]."""
    scaled = [np.exp(side - side.max(axis=1, keepdims=True)) for side in (one, other)]
    joint = (scaled[0] * prior) @ scaled[1].T
    alone = [side @ prior for side in scaled]
    found: Floats = np.log(joint) - np.log(alone[0])[:, None] - np.log(alone[1])[None, :]
    return found


def load_pairs(root: Path) -> PhantomPairs:
    """Of the phantom cohort in `root`."""
    design = Design.load(root)
    scheme = ORDINARY if design is None else find_scheme(design.scheme)
    return PhantomPairs(load_oracle(root), phantom_modalities(scheme))
