"""Evaluation: the tables and probabilities that come of an evaluation, complete when it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.findings import FindingSet
from training.evaluation.comparisons import MACRO
from training.evaluation.coverage import SetAnswers
from training.evaluation.metrics import METRICS, WITHIN_FOLDS
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, Row

_NOT_IN_MLFLOW = re.compile(r"[^\w\-. /]")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScoredStudies:
    """Calibrated answers for N studies, beside what is true of them: what every table is computed from.

    Attributes
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    probabilities : mapping of Row to float [N, F]
        Of every way of answering; NaN where a study lacks a modality.
    thresholds : float [N, F]
        Operating points of each study; in a cross-validation they differ between folds.
    sets : SetAnswers or None
        Prediction sets and intervals of the row `AS_PRESENT`; None where there are only probabilities.
    """

    findings: FindingSet
    study_ids: npt.NDArray
    patient_ids: npt.NDArray
    labels: npt.NDArray
    probabilities: Mapping[Row, npt.NDArray]
    thresholds: npt.NDArray
    sets: SetAnswers | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", MappingProxyType(dict(self.probabilities)))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluation(ScoredStudies):
    """How good a model is, on N studies.

    Attributes
    ----------
    tables : mapping of str to DataFrame
        ``metrics``, ``operating_points``, ``reliability``, ``coverage``; ``comparisons`` where there is something to
        compare with, ``oracle_shares`` where there is an oracle; then whatever further tables were asked for. The
        columns ``row`` and ``against`` hold `Row`.
    leaks : tuple of str
        Where the model is significantly better than the best possible answer.
    repeats : tuple of mapping of Row to float [N, F]
        Probabilities of the same studies by models of folds that were drawn anew, the first draw among them; empty
        where there was one draw.
    """

    tables: Mapping[str, pd.DataFrame]
    leaks: tuple[str, ...] = ()
    repeats: tuple[Mapping[Row, npt.NDArray], ...] = ()

    def __post_init__(self) -> None:
        ScoredStudies.__post_init__(self)
        object.__setattr__(self, "tables", MappingProxyType(dict(self.tables)))

    def value(self, table: str, column: str, **where: object) -> float:
        """One figure: ``value("metrics", "auroc", row=AS_PRESENT, finding="macro")``.

        Raises
        ------
        KeyError
            Where `where` does not lead to exactly one line.
        """
        lines = self.tables[table]
        for name, wanted in where.items():
            lines = lines[lines[name] == wanted]
        if len(lines) != 1:
            shown = ", ".join(f"{name}={wanted}" for name, wanted in where.items())
            raise KeyError(f"{len(lines)} lines of {table} have {shown}; expected one")
        return float(lines[column].iloc[0])

    @property
    def metrics(self) -> dict[str, float]:
        """The figures worth tracking over runs, by names that MLflow takes; what could not be measured is left out.

        ``fused/as_present/pneumonia/auroc_low``, ``alone/image/macro/nll``,
        ``difference/fused/image_text/macro/auroc``, ``share/fused/as_present/macro/auroc_share``,
        ``coverage/pneumonia/present``, ``coverage/pneumonia/present_in_band`` (1 or 0).
        """
        flat = self._measured() | self._differences() | self._shares() | self._covered()
        return {_NOT_IN_MLFLOW.sub("_", name): float(value) for name, value in flat.items() if math.isfinite(value)}

    def lines(self, table: str) -> list[dict[str, Any]]:
        """The lines of `table` by column; none where there is no such table."""
        return records(self.tables[table]) if table in self.tables else []

    def to_json(self) -> dict[str, Any]:
        """Tables and leaks, for `json.dumps`; what could not be measured is None. No study and no patient is named."""
        return {
            "findings": self.findings.to_json(),
            "studies": len(self.study_ids),
            "patients": len(set(self.patient_ids.tolist())),
            "tables": {name: [_jsonable(line) for line in records(table)] for name, table in self.tables.items()},
            "leaks": list(self.leaks),
        }

    def _measured(self) -> dict[str, float]:
        flat: dict[str, float] = {}
        for line in self.lines("metrics"):
            if line["finding"] == MACRO or line["row"] == AS_PRESENT:
                names = [*METRICS, *([WITHIN_FOLDS] if WITHIN_FOLDS in line else [])]
                names += ["auroc_low", "auroc_high"] if line["row"] == AS_PRESENT else []
                flat |= {f"{line['row']}/{line['finding']}/{name}": line[name] for name in names}
        return flat

    def _differences(self) -> dict[str, float]:
        return {
            f"difference/{line['against']}/{MACRO}/auroc{end}": line[f"auroc_difference{end}"]
            for line in self.lines("comparisons")
            if line["finding"] == MACRO
            for end in ("", "_low", "_high")
        }

    def _shares(self) -> dict[str, float]:
        return {
            f"share/{line['row']}/{line['finding']}/{name}": line[name]
            for line in self.lines("oracle_shares")
            if line["finding"] == MACRO or line["row"] == AS_PRESENT
            for name in ("auroc_share", "information_share")
        }

    def _covered(self) -> dict[str, float]:
        flat: dict[str, float] = {}
        for line in self.lines("coverage"):
            if line["subset"] == ALL_PRESENT and line["in_band"] is not None:
                name = f"coverage/{line['finding']}/{line['class']}"
                flat |= {name: line["coverage"], f"{name}_in_band": line["in_band"]}
        return flat


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of `table` by column."""
    return [{str(name): value for name, value in line.items()} for line in table.to_dict(orient="records")]


def _jsonable(value: Any) -> Any:
    """`value` as JSON knows it; what is not known or not finite is None."""
    if isinstance(value, Mapping):
        return {str(name): _jsonable(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_jsonable(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)
