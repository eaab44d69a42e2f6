"""Whether what a patient's record holds goes with a finding, tested over patients and over many questions at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import hypergeom

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """Patients by finding and by each of W things that their studies may hold.

    Attributes
    ----------
    present, absent : int
        Patients with the finding and without it.
    holding_present, holding_absent : int [W]
        Of these, patients whose studies hold it.
    """

    present: int
    absent: int
    holding_present: Indices
    holding_absent: Indices

    @property
    def odds_ratio(self) -> Floats:
        """With half a patient more in each cell (Haldane and Anscombe), [W]."""
        a, b = self.holding_present + 0.5, self.holding_absent + 0.5
        return a * (self.absent + 1 - b) / (b * (self.present + 1 - a))

    @property
    def p(self) -> Floats:
        """Fisher's exact test, twice the smaller tail, [W]."""
        holding = self.holding_present + self.holding_absent
        margins = (self.present + self.absent, self.present, holding)
        more, fewer = hypergeom.sf(self.holding_present - 1, *margins), hypergeom.cdf(self.holding_present, *margins)
        return np.minimum(1, 2 * np.minimum(more, fewer))


def associate(
    holds: csr_array | npt.NDArray, labels: npt.NDArray[np.float32], patients: npt.NDArray[np.str_]
) -> Association:
    """Count patients.

    A patient has the finding where any study has it, and then only such studies count; studies without a label never
    do.

    Parameters
    ----------
    holds : sparse or array [n, W]
        What each study holds; anything but 0.
    labels : float32 [n]
        1 present, 0 absent, NaN unknown.
    patients : str [n]
    """
    names, patient = np.unique(patients, return_inverse=True)
    has = np.bincount(patient, labels == 1, len(names)) > 0
    counted = np.flatnonzero((labels == 1) | ((labels == 0) & ~has[patient]))
    own = csr_array((np.ones(len(counted)), (patient[counted], counted)), shape=(len(names), len(labels)))
    held = csr_array((own @ csr_array(holds != 0, dtype=np.float64)) > 0, dtype=np.int64)
    known = np.zeros(len(names), bool)
    known[patient[counted]] = True
    counts = [np.asarray(held[side].sum(axis=0), np.int64).ravel() for side in (has, known & ~has)]
    return Association(int(has.sum()), int((known & ~has).sum()), *counts)


def holm(p: Floats) -> Floats:
    """Adjusted p-values that control the chance of any false alarm (Holm, Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return adjusted.clip(max=1)
