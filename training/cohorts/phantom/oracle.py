"""The oracle: the best possible answer from every subset of modalities, by enumerating the states.

Kept are the log-likelihoods of each modality in each state; the answer from a subset is the prior times those of its
modalities. Age and sex belong to the values: a subset without them integrates over both. Image evidence enters as
drawn, so the oracle is an upper bound for whoever sees pixels; for note and values it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import InputError
from consilium.modalities.registry import nonempty_subsets, subset_key
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.outcomes import best_passed
from training.cohorts.phantom.phantom_modality import Floats
from training.cohorts.phantom.record import Design, Drawn, Rendered
from training.cohorts.phantom.state import FINDINGS, StateTable

LIKELIHOODS_FILE = "truth/likelihoods.npz"
EVIDENCE_FILE = "truth/evidence.csv"

Readings = Mapping[str, Any]
"""Modality → what the oracle reads of N records, as the modality's `PhantomModality.read` gives it."""


def read_records(model: EvidenceModel, drawn: Sequence[Drawn], rendered: Sequence[Rendered]) -> Readings:
    """What the oracle reads of these studies, of every modality of the cohort."""
    return {
        name: model.phantoms[name].read(drawn, [views.parts.get(name) for views in rendered])
        for name in model.modalities
    }


def read_drawn(design: Design, model: EvidenceModel, drawn: Sequence[Drawn]) -> Readings:
    """What the oracle reads of studies of which nothing was rendered; made is what is read as it is written."""
    written = [name for name in model.modalities if model.phantoms[name].read_as_written]
    views = [
        Rendered({name: model.phantoms[name].render(design, study) for name in written if study.has(name)})
        for study in drawn
    ]
    return read_records(model, drawn, views)


def has_modalities(model: EvidenceModel, drawn: Sequence[Drawn]) -> npt.NDArray[np.bool_]:
    """Which of the cohort's modalities each record has, bool [N, M]."""
    return np.array([[study.has(name) for name in model.modalities] for study in drawn])


def log_likelihoods(
    states: StateTable, model: EvidenceModel, readings: Readings, present: npt.NDArray[np.bool_]
) -> Floats:
    """Log p(reading | state) of each modality up to a constant, float64 [N, M, S]; 0 where a record lacks it.

    Parameters
    ----------
    present : bool [N, M]
        In the order of the model's modalities.
    """
    each = [model.phantoms[name].log_likelihood(readings[name], states) for name in model.modalities]
    return np.where(present[:, :, None], np.stack(each, axis=1), 0.0)


def posterior(prior: Floats, likelihoods: Floats, modalities: Sequence[str], subset: Iterable[str]) -> Floats:
    """P(finding | what each record has of the modalities in `subset`), float64 [N, F].

    A record that has none of them gets the prior.

    Parameters
    ----------
    prior : float64 [S]
    likelihoods : float64 [N, M, S]
        As `log_likelihoods` gives them, of `modalities`.

    Raises
    ------
    InputError
        For a modality that the cohort does not have.
    """
    joint = state_posterior(prior, likelihoods, modalities, subset)
    states = np.arange(len(prior))
    return np.stack([joint[:, states >> finding & 1 == 1].sum(axis=1) for finding in range(len(FINDINGS))], axis=1)


def state_posterior(prior: Floats, likelihoods: Floats, modalities: Sequence[str], subset: Iterable[str]) -> Floats:
    """P(state | what each record has of the modalities in `subset`), float64 [N, S]; arguments as of `posterior`."""
    chosen = set(subset)
    for name in sorted(chosen - set(modalities)):
        raise InputError("subset", name, f"must be one of the cohort's modalities: {', '.join(modalities)}")
    log_joint = np.tile(np.log(prior), (len(likelihoods), 1))
    for column, name in enumerate(modalities):  # in one order, whatever the subset's: rounding depends on it
        if name in chosen:
            log_joint += likelihoods[:, column]
    joint: Floats = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    joint /= joint.sum(axis=1, keepdims=True)
    return joint


@dataclass(frozen=True, slots=True, eq=False)
class PhantomOracle:
    """What is stored of a phantom cohort's best answers.

    Attributes
    ----------
    study_ids : str [N]
        In the order of ``studies.csv``.
    findings, modalities : tuple of str
    prior : float64 [S]
        P(state).
    likelihoods : float64 [N, M, S]
        As `log_likelihoods` gives them.
    evidence : DataFrame
        Noise-free evidence, one row a study, indexed by study: ``<modality>:<channel>``, ``grade:<channel>`` of the
        note, ``has:<modality>``; a value that was not measured is empty.
    passed_in : float64 [S, steps] or None
        Chance to pass each step of the targets beside the findings in each state; None where there are none.
    """

    study_ids: npt.NDArray[np.str_]
    findings: tuple[str, ...]
    modalities: tuple[str, ...]
    prior: Floats
    likelihoods: Floats
    evidence: pd.DataFrame
    passed_in: Floats | None = None

    @property
    def posteriors(self) -> Mapping[str, Floats]:
        """P(finding | subset) of all studies, float64 [N, F], by `subset_key`; computed where it is asked for."""
        return _BySubset(self.modalities, self.posterior)

    @property
    def passed(self) -> Mapping[str, Floats]:
        """P(step and all before passed | subset), float64 [N, steps], likewise; empty where there are no targets."""
        in_state = self.passed_in
        if in_state is None:
            return {}
        return _BySubset(
            self.modalities,
            lambda subset: state_posterior(self.prior, self.likelihoods, self.modalities, subset) @ in_state,
        )

    def posterior(self, subset: Iterable[str]) -> Floats:
        """P(finding | what each study has of the modalities in `subset`), float64 [N, F]; empty: the prior."""
        return posterior(self.prior, self.likelihoods, self.modalities, subset)

    def of(self, study_ids: Iterable[str], subset: Iterable[str]) -> Floats:
        """Posteriors of these studies, in their order, given a non-empty subset: float64 [n, F].

        Raises
        ------
        InputError
            A study that is not in the cohort, a modality that it does not have, or the empty subset.
        """
        chosen = set(subset)
        if not chosen:
            raise InputError("subset", "none", f"must name some of {', '.join(self.modalities)}")
        rows = {study: row for row, study in enumerate(self.study_ids)}
        wanted = list(study_ids)
        for study in wanted:
            if study not in rows:
                raise InputError("study", study, "must be a study of this phantom cohort")
        likelihoods = self.likelihoods[[rows[study] for study in wanted]]
        return posterior(self.prior, likelihoods, self.modalities, chosen)


@dataclass(frozen=True, slots=True, eq=False)
class _BySubset(Mapping[str, Floats]):
    modalities: tuple[str, ...]
    answer: Callable[[Iterable[str]], Floats]

    def __getitem__(self, key: str) -> Floats:
        if key not in self:
            raise KeyError(key)
        return self.answer(key.split("+"))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in list(self)

    def __iter__(self) -> Iterator[str]:
        return (subset_key(subset) for subset in nonempty_subsets(self.modalities))

    def __len__(self) -> int:
        return 2 ** len(self.modalities) - 1


def save_oracle(
    root: Path, study_ids: Sequence[str], modalities: Sequence[str], prior: Floats, likelihoods: Floats
) -> None:
    """Store what the oracle knows of a cohort; `load_oracle` reads it."""
    np.savez_compressed(
        root / LIKELIHOODS_FILE,
        study=np.array(study_ids),
        finding=np.array(FINDINGS),
        modality=np.array(modalities),
        prior=prior,
        log_likelihood=likelihoods,
    )


def load_oracle(root: Path) -> PhantomOracle:
    """Read the oracle of the phantom cohort in `root`.

    Raises
    ------
    InputError
        `root` has no oracle: it is no phantom cohort.
    """
    file = root / LIKELIHOODS_FILE
    if not file.is_file():
        raise InputError("cohort", root.name, f"must be a phantom cohort with {LIKELIHOODS_FILE}")
    design = Design.load(root)
    passed_in = None
    if design is not None and design.outcomes:
        states = design.states()
        passed_in = best_passed(states.members, states.present)
    with np.load(file, allow_pickle=False) as stored:
        return PhantomOracle(
            study_ids=stored["study"],
            findings=tuple(stored["finding"].tolist()),
            modalities=tuple(stored["modality"].tolist()),
            prior=stored["prior"],
            likelihoods=stored["log_likelihood"],
            evidence=pd.read_csv(root / EVIDENCE_FILE, dtype={"study": str}).set_index("study"),
            passed_in=passed_in,
        )
