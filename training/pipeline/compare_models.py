"""Two models on the same studies: which is better, and whether the other is good enough.

The answers of a model that was cross-validated on the very cohort are the out-of-fold ones of its training, which its
MLflow run keeps; those of any other model are made by `evaluate_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.artifacts.artifact import Artifact, load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.configuration.recipe import CohortRecipe
from consilium.domain.diagnosis import Estimate
from consilium.domain.errors import InputError, TrainingError
from training.cohorts import load_cohort
from training.evaluation.comparisons import MACRO, estimate_columns
from training.evaluation.delong import delong
from training.evaluation.metrics import Measured, Sample, macro
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.pipeline.evaluate_registered import evaluate_model
from training.runtime.tracking import download_evaluation

ANSWERS = "answers.npz"
"""A model's own answers, beside the tables of its evaluation."""

_GROUP = "group/"

BETTER, WORSE, NOT_INFERIOR, UNDECIDED = "better", "worse", "not inferior", "undecided"


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Calibrated probabilities of one model, float [N, F], NaN where it has none, with what is true of the studies.

    Attributes
    ----------
    groups : mapping of kind to str [N]
        Sex, age band and the like (`training.evaluation.subgroups.study_groups`); empty where they are not known.
    """

    findings: tuple[str, ...]
    study_ids: npt.NDArray
    patient_ids: npt.NDArray
    labels: npt.NDArray
    probabilities: npt.NDArray
    groups: Mapping[str, npt.NDArray] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluation: Evaluation, groups: Mapping[str, npt.NDArray] = MappingProxyType({})) -> Answers:
        """Of the model, from what each study has."""
        return cls(
            evaluation.findings.names,
            evaluation.study_ids,
            evaluation.patient_ids,
            evaluation.labels,
            evaluation.probabilities[AS_PRESENT],
            groups,
        )

    def save(self, path: Path) -> None:
        """Write an ``.npz`` that `load` reads back to the bit."""
        with path.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                findings=np.array(self.findings, np.str_),
                study_ids=np.asarray(self.study_ids, np.str_),
                patient_ids=np.asarray(self.patient_ids, np.str_),
                labels=self.labels,
                probabilities=self.probabilities,
                **{f"{_GROUP}{kind}": np.asarray(of, np.str_) for kind, of in self.groups.items()},
            )

    @classmethod
    def load(cls, path: Path) -> Answers:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        groups = {n.removeprefix(_GROUP): columns.pop(n) for n in list(columns) if n.startswith(_GROUP)}
        return cls(tuple(columns.pop("findings").tolist()), **columns, groups=groups)

    def at(self, rows: npt.NDArray) -> Answers:
        """Those of the studies at `rows`."""
        return Answers(
            self.findings,
            self.study_ids[rows],
            self.patient_ids[rows],
            self.labels[rows],
            self.probabilities[rows],
            {kind: of[rows] for kind, of in self.groups.items()},
        )


def compare_models(
    first: str,
    second: str,
    cohort_root: Path,
    *,
    cohort: CohortRecipe | None = None,
    margin: float,
    bootstrap: int,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """Set the model `first` against `second` on the studies of `cohort_root` that neither has learned from.

    Parameters
    ----------
    first, second : str
        Model folder, ``models:/name@alias`` or ``models:/name/version``.
    cohort : CohortRecipe or None
        Kind and task of the cohort; None: those of the first model's recipe.
    margin : float
        AUROC that `first` may be worse by and still count as not inferior.
    bootstrap, seed : int
        Replicates over patients.
    advance : callable or None
        Called after each image.

    Returns
    -------
    DataFrame
        See `compare_answers`.

    Raises
    ------
    InputError
        They have other findings.
    TrainingError
        There is no study that neither has learned from.
    """
    _require_margin(margin)
    # Both before either is evaluated, which takes its time.
    artifacts = {source: load_artifact(resolve(source).folder) for source in (first, second)}
    one, two = (_answers(source, artifacts[source], cohort_root, cohort, advance) for source in (first, second))
    return compare_answers(one, two, margin=margin, bootstrap=bootstrap, seed=seed)


def _require_margin(margin: float) -> None:
    if not 0 < margin < 0.5:
        raise InputError("margin", margin, "must lie between 0 and 0.5")


def _answers(
    source: str,
    artifact: Artifact,
    cohort_root: Path,
    cohort: CohortRecipe | None,
    advance: Callable[[], None] | None,
) -> Answers:
    if _out_of_fold(artifact, cohort or artifact.recipe.cohort, cohort_root):
        return Answers.load(download_evaluation(artifact.details["run_id"], ANSWERS))
    return Answers.of(evaluate_model(source, cohort_root, cohort=cohort, bootstrap=1, advance=advance))


def _out_of_fold(artifact: Artifact, chosen: CohortRecipe, root: Path) -> bool:
    """The model was cross-validated on this very cohort."""
    if artifact.recipe.evaluation.protocol == "split":
        return False
    masks = artifact.recipe.masks_identifiers
    found = load_cohort(chosen.kind, root, chosen.options, mask_notes=masks)
    return found.digest == artifact.details["cohort"]["digest"]


def compare_answers(first: Answers, second: Answers, *, margin: float, bootstrap: int, seed: int) -> pd.DataFrame:
    """First minus second on their common studies, per finding and for the mean over findings.

    Returns
    -------
    DataFrame
        Columns ``finding``, ``n``, ``positives``, ``auroc`` and ``other_auroc``, ``auroc_difference`` and
        ``nll_difference`` with ``_low`` and ``_high`` (95 %, paired bootstrap by patient), ``delong_p`` (of a single
        finding), and ``verdict``: ``better`` or ``worse`` where the interval of the AUROC difference excludes 0, ``not
        inferior`` where it excludes -`margin`, else ``undecided``.
    """
    _require_margin(margin)
    one, two = common_studies(first, second)
    sample = Sample(one.labels, patient_bootstrap(one.patient_ids, bootstrap, seed))
    known = ~np.isnan(one.probabilities) & ~np.isnan(two.probabilities)
    measured = [sample.measure(np.where(known, side.probabilities, np.nan)) for side in (one, two)]
    lines = []
    for f, name in enumerate(one.findings):
        line = _line(name, measured[0][f], measured[1][f], margin)
        rows = known[:, f] & ~np.isnan(one.labels[:, f])
        if 0 < measured[0][f].positives < measured[0][f].n:
            positive = one.labels[rows, f] == 1
            line["delong_p"] = delong(positive, one.probabilities[rows, f], two.probabilities[rows, f]).p_value
        lines.append(line)
    if len(lines) > 1:
        lines.append(_line(MACRO, macro(measured[0]), macro(measured[1]), margin))
    columns = [name for name in lines[0] if name not in ("delong_p", "verdict")]
    return pd.DataFrame(lines, columns=[*columns, "delong_p", "verdict"])


def common_studies(first: Answers, second: Answers) -> tuple[Answers, Answers]:
    """Of both, the answers to the studies that both have, in the order of `first`.

    Raises
    ------
    InputError
        They have other findings.
    TrainingError
        There is no common study.
    """
    if first.findings != second.findings:
        rule = f"must be those of the first model: {', '.join(first.findings)}"
        raise InputError("second model's findings", ", ".join(second.findings), rule)
    place = {study: row for row, study in enumerate(second.study_ids.tolist())}
    rows = np.array([row for row, study in enumerate(first.study_ids.tolist()) if study in place], int)
    if not len(rows):
        raise TrainingError("there is no study that both models can be evaluated on")
    one = first.at(rows)
    return one, second.at(np.array([place[study] for study in one.study_ids.tolist()], int))


def _line(name: str, one: Measured, two: Measured, margin: float) -> dict[str, object]:
    auroc = percentile_interval(one.figures["auroc"] - two.figures["auroc"])
    line: dict[str, object] = {"finding": name, "n": one.n, "positives": one.positives}
    line |= {"auroc": float(one.figures["auroc"][0]), "other_auroc": float(two.figures["auroc"][0])}
    line |= estimate_columns("auroc_difference", auroc)
    line |= estimate_columns("nll_difference", percentile_interval(one.figures["nll"] - two.figures["nll"]))
    return line | {"verdict": _verdict(auroc, margin)}


def _verdict(difference: Estimate, margin: float) -> str:
    if difference.low > 0:
        return BETTER
    if difference.high < 0:
        return WORSE
    return NOT_INFERIOR if difference.low > -margin else UNDECIDED
