"""The oracle: the best possible answer from every subset of modalities, by enumerating the states.

Age and sex belong to the values: a subset without them integrates over both. Image evidence enters as drawn, so the
oracle is an upper bound for whoever sees pixels; for note and values it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import InputError
from consilium.modalities.registry import modality_names, nonempty_subsets, subset_key
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.state import FINDINGS, PRESENT, StateTable

SUBSETS: tuple[str, ...] = tuple(subset_key(subset) for subset in nonempty_subsets(modality_names()))
POSTERIORS_FILE = "truth/posteriors.csv"
EVIDENCE_FILE = "truth/evidence.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Witnesses:
    """What N records say, as the oracle reads them.

    Attributes
    ----------
    image : float64 [N, C]
    grades : int64 [N, C]
        Of the note's channels.
    observations : float64 [N, C]
        Evidence read back from the written (rounded) values.
    measured : bool [N, C]
    age : int64 [N], sex : int64 [N]
        Years; index into `SEXES`.
    present : bool [N, 3]
        Which modality each record has, in the order of `consilium.modalities.registry.modality_names`.
    """

    image: npt.NDArray[np.float64]
    grades: npt.NDArray[np.int64]
    observations: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]
    age: npt.NDArray[np.int64]
    sex: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]


def posterior(
    states: StateTable, model: EvidenceModel, witnesses: Witnesses, subset: Iterable[str]
) -> npt.NDArray[np.float64]:
    """P(finding | what each record has of the modalities in `subset`), float64 [N, F].

    A record that has none of them gets the prior.
    """
    likelihoods = {
        "image": model.image_log_likelihood(witnesses.image),
        "text": model.text_log_likelihood(witnesses.grades),
        "observations": (
            model.observation_log_likelihood(witnesses.observations, witnesses.measured)
            + np.log(states.given(witnesses.age, witnesses.sex))
            - np.log(states.prior)
        ),
    }
    log_joint = np.tile(np.log(states.prior), (len(witnesses.age), 1))
    for modality in sorted(subset, key=modality_names().index):  # a set's own order, and so the rounding, is random
        heard = witnesses.present[:, modality_names().index(modality), None]
        log_joint += np.where(heard, likelihoods[modality], 0.0)
    joint = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    joint /= joint.sum(axis=1, keepdims=True)
    return np.stack([joint[:, PRESENT[:, finding]].sum(axis=1) for finding in range(len(FINDINGS))], axis=1)


def posteriors(states: StateTable, model: EvidenceModel, witnesses: Witnesses) -> dict[str, npt.NDArray[np.float64]]:
    """`posterior` for every non-empty subset, by its `subset_key`."""
    return {
        subset_key(subset): posterior(states, model, witnesses, subset) for subset in nonempty_subsets(modality_names())
    }


@dataclass(frozen=True, slots=True, eq=False)
class Oracle:
    """The stored best answers of a phantom cohort.

    Attributes
    ----------
    study_ids : str [N]
        In the order of ``studies.csv``.
    findings : tuple of str
    posteriors : dict of subset name to float64 [N, F]
        P(finding | what the study has of the subset's modalities); keys as `consilium.domain.study.subset_key` makes
        them.
    evidence : DataFrame
        Noise-free evidence, one row a study, indexed by study: ``image:<channel>``, ``text:<channel>``,
        ``grade:<channel>``, ``observations:<variable>`` (empty: not measured), ``has:<modality>``.
    """

    study_ids: npt.NDArray[np.str_]
    findings: tuple[str, ...]
    posteriors: dict[str, npt.NDArray[np.float64]]
    evidence: pd.DataFrame

    def of(self, study_ids: Iterable[str], subset: Iterable[str]) -> npt.NDArray[np.float64]:
        """Posteriors of these studies, in their order, given a non-empty subset: float64 [n, F].

        Raises
        ------
        InputError
            A study that is not in the cohort, or the empty subset.
        """
        key = subset_key(subset)
        if key not in self.posteriors:
            raise InputError("subset", key, f"must be one of {', '.join(self.posteriors)}")
        rows = {study: row for row, study in enumerate(self.study_ids)}
        wanted = list(study_ids)
        for study in wanted:
            if study not in rows:
                raise InputError("study", study, "must be a study of this phantom cohort")
        return self.posteriors[key][[rows[study] for study in wanted]]


def load_oracle(root: Path) -> Oracle:
    """Read the oracle of the phantom cohort in `root`.

    Raises
    ------
    InputError
        `root` has no oracle: it is no phantom cohort.
    """
    file = root / POSTERIORS_FILE
    if not file.is_file():
        raise InputError("cohort", root.name, f"must be a phantom cohort with {POSTERIORS_FILE}")
    table = pd.read_csv(file, dtype={"study": str, "subset": str})
    findings = tuple(table.columns[2:])
    by_subset = {str(key): rows for key, rows in table.groupby("subset", sort=False)}
    first = next(iter(by_subset.values()))
    evidence = pd.read_csv(root / EVIDENCE_FILE, dtype={"study": str}).set_index("study")
    return Oracle(
        study_ids=first["study"].to_numpy(dtype=str),
        findings=findings,
        posteriors={key: rows[list(findings)].to_numpy(dtype=np.float64) for key, rows in by_subset.items()},
        evidence=evidence,
    )
