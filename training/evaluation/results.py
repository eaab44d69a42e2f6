"""Evaluation: the tables, probabilities and pictures that come of judging a model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from consilium.domain.findings import FindingSet
from training.evaluation.comparisons import MACRO
from training.evaluation.coverage import AS_IT_CAME, SetAnswers
from training.figures.metric_figures import reliability_figure, roc_figure, subset_reliability_figure
from training.evaluation.metrics import BY_CHANCE, METRICS

AS_PRESENT = "fused/as_present"
"""The row of the model's answers from what each study has."""

_NOT_IN_MLFLOW = re.compile(r"[^\w\-. /]")
_NOT_IN_FILE_NAME = re.compile(r"[^\w\-.]")
_MOST_LINES = 30  # of one table on the terminal


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How well a model does, on N studies.

    Attributes
    ----------
    probabilities : dict of str to float [N, F]
        Every row that was judged (`training.evaluation.evaluate` says which there are); NaN where a study lacks a
        modality.
    thresholds : float [N, F]
        Operating points under which each study was called; in a cross-validation they differ between folds.
    tables : dict of str to DataFrame
        ``metrics``, ``operating_points``, ``reliability``, ``coverage``; ``comparisons`` where there is something to
        compare with, ``oracle_shares`` where there is an oracle. Others may be put in: all are saved.
    leaks : list of str
        Where the model is significantly better than the best possible answer.
    sets : SetAnswers or None
        Prediction sets and intervals of the row ``fused/as_present``; None where only probabilities were judged.
    """

    findings: FindingSet
    study_ids: npt.NDArray
    patient_ids: npt.NDArray
    labels: npt.NDArray
    probabilities: dict[str, npt.NDArray]
    thresholds: npt.NDArray
    tables: dict[str, pd.DataFrame]
    leaks: list[str] = field(default_factory=list)
    sets: SetAnswers | None = None

    def value(self, table: str, column: str, **where: str) -> float:
        """One figure: ``value("metrics", "auroc", row="fused/as_present", finding="macro")``.

        Raises
        ------
        KeyError
            Where `where` does not lead to exactly one line.
        """
        lines = self.tables[table]
        for name, wanted in where.items():
            lines = lines[lines[name] == wanted]
        if len(lines) != 1:
            raise KeyError(f"{len(lines)} lines of {table} have {where}")
        return float(lines[column].iloc[0])

    @property
    def metrics(self) -> dict[str, float]:
        """The figures worth tracking over runs, by names that MLflow takes; what could not be measured is left out.

        ``fused/as_present/pneumonia/auroc_low``, ``alone/image/macro/nll``,
        ``difference/fused/image_text/macro/auroc``, ``share/fused/as_present/macro/auroc_share``,
        ``coverage/pneumonia/present``, ``coverage/pneumonia/present_in_band`` (1 or 0).
        """
        flat: dict[str, float] = {}
        for line in self._lines("metrics"):
            if line["finding"] == MACRO or line["row"] == AS_PRESENT:
                names = [*METRICS, *(("auroc_low", "auroc_high") if line["row"] == AS_PRESENT else ())]
                flat |= {f"{line['row']}/{line['finding']}/{name}": line[name] for name in names}
        for line in self._lines("comparisons"):
            if line["finding"] == MACRO:
                for end in ("", "_low", "_high"):
                    flat[f"difference/{line['against']}/{MACRO}/auroc{end}"] = line[f"auroc_difference{end}"]
        for line in self._lines("oracle_shares"):
            if line["finding"] == MACRO or line["row"] == AS_PRESENT:
                for name in ("auroc_share", "information_share"):
                    flat[f"share/{line['row']}/{line['finding']}/{name}"] = line[name]
        for line in self._lines("coverage"):
            if line["subset"] == AS_IT_CAME and line["in_band"] is not None:
                name = f"coverage/{line['finding']}/{line['class']}"
                flat |= {name: line["coverage"], f"{name}_in_band": line["in_band"]}
        return {_NOT_IN_MLFLOW.sub("_", name): float(value) for name, value in flat.items() if math.isfinite(value)}

    def _lines(self, table: str) -> list[dict[str, Any]]:
        return _records(self.tables[table]) if table in self.tables else []

    def to_json(self) -> dict[str, Any]:
        """Tables and leaks, for `json.dumps`; what could not be measured is None. No study and no patient is named."""
        return {
            "findings": self.findings.to_json(),
            "studies": len(self.study_ids),
            "patients": len(set(self.patient_ids.tolist())),
            "tables": {name: [_jsonable(line) for line in _records(table)] for name, table in self.tables.items()},
            "leaks": list(self.leaks),
        }

    def save(self, folder: Path) -> list[Path]:
        """Write every table as CSV, ``evaluation.json`` and the figures; return these files.

        The figures are ``roc.png``, ``reliability.png`` and, where there are several subsets,
        ``reliability_by_subset.png``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for name, table in self.tables.items():
            files.append(folder / f"{_NOT_IN_FILE_NAME.sub('_', name)}.csv")
            table.to_csv(files[-1], index=False)
        files.append(folder / "evaluation.json")
        files[-1].write_text(json.dumps(self.to_json(), indent=1, allow_nan=False), encoding="utf-8")
        figures = {"roc": roc_figure(self), "reliability": reliability_figure(self)}
        if len([row for row in self.probabilities if row.startswith("fused/")]) > 2:
            figures["reliability_by_subset"] = subset_reliability_figure(self)
        for name, figure in figures.items():
            files.append(folder / f"{name}.png")
            figure.savefig(files[-1], dpi=150)
        return files


def terminal_tables(evaluation: Evaluation) -> list[Table]:
    """What the terminal shows: answers, findings at their operating points, differences, sets, prevalence, leaks.

    No table is longer than a screen; under the last one stand the names of those that are not shown.
    """
    tables = [_answer_table(evaluation), _finding_table(evaluation)]
    if "comparisons" in evaluation.tables:
        tables.append(_comparison_table(evaluation))
    if "coverage" in evaluation.tables:
        tables.append(_coverage_table(evaluation))
    if "prevalence" in evaluation.tables:
        tables.append(_prevalence_table(evaluation))
    if evaluation.leaks:
        leaks = Table(title="Better than the best possible answer: a leak", title_justify="left", style="red")
        leaks.add_column("where")
        for leak in evaluation.leaks:
            leaks.add_row(leak)
        tables.append(leaks)
    further = [f"{escape(name)} ({len(table)})" for name, table in evaluation.tables.items() if name not in _SHOWN]
    if further:
        tables[-1].caption = "not shown, with so many lines: " + ", ".join(further)
        tables[-1].caption_justify = "left"
    return tables


def row_title(row: str) -> str:
    """A row's name for readers: ``fused/image+text`` → ``image + text``, ``alone/image`` → ``image, own head``."""
    kind, _, rest = row.partition("/")
    if kind == "alone":
        return f"{rest}, own head"
    return rest.replace("as_present", "all that is present").replace("+", " + ")


_SHOWN = ("metrics", "operating_points", "comparisons", "oracle_shares", "coverage", "prevalence")


def _answer_table(evaluation: Evaluation) -> Table:
    columns = ("answer", "n", "AUROC", "AUPRC", "Brier", "NLL", "ECE\n(by chance)")
    table = _table("Answers (mean over findings, 95 % interval)", *columns)
    shares = {}
    if "oracle_shares" in evaluation.tables:
        for name in ("possible\nAUROC", "share", "information\nshare"):
            table.add_column(name, justify="right")
        lines = _records(evaluation.tables["oracle_shares"])
        shares = {line["row"]: line for line in lines if line["finding"] == MACRO}
    means = [line for line in _records(evaluation.tables["metrics"]) if line["finding"] == MACRO]
    for line in _shortened(table, [line for line in means if not line["row"].startswith("oracle/")]):
        cells = [row_title(line["row"]), str(line["n"]), _with_interval(line, "auroc")]
        cells += [_number(line[name]) for name in ("auprc", "brier", "nll")]
        cells.append(f"{_number(line['ece'])} ({_number(line[BY_CHANCE])})")
        share = shares.get(line["row"])
        if share:
            cells += [_number(share[name]) for name in ("oracle_auroc", "auroc_share", "information_share")]
        table.add_row(*cells, style="bold" if line["row"] == AS_PRESENT else "")
    return table


def _finding_table(evaluation: Evaluation) -> Table:
    columns = ("finding", "positive", "AUROC", "called\nfrom", "sensitivity", "specificity", "precision", "F1", "ECE")
    table = _table("Findings at their operating points (as present)", *columns)
    metrics = _records(evaluation.tables["metrics"])
    judged = {line["finding"]: line for line in metrics if line["row"] == AS_PRESENT}
    for finding, point in zip(evaluation.findings, _records(evaluation.tables["operating_points"]), strict=True):
        line = judged[finding.name]
        cells = [finding.display, f"{line['positives']} of {line['n']}", _with_interval(line, "auroc", digits=2)]
        cells.append(_number(point["threshold"]))
        cells += [_with_interval(line, name, digits=2) for name in ("sensitivity", "specificity")]
        table.add_row(*cells, *(_number(line[name]) for name in ("precision", "f1", "ece")))
    return table


def _comparison_table(evaluation: Evaluation) -> Table:
    table = _table("Paired differences (mean over findings, same studies)", "answer", "minus", "n", "AUROC", "NLL")
    means = [line for line in _records(evaluation.tables["comparisons"]) if line["finding"] == MACRO]
    for line in _shortened(table, means):
        cells = [row_title(line["row"]), row_title(line["against"]), str(line["n"])]
        table.add_row(*cells, *(_with_interval(line, f"{name}_difference", sign="+") for name in ("auroc", "nll")))
    return table


def _coverage_table(evaluation: Evaluation) -> Table:
    columns = ("finding", "truly", "n", "covered", "band", "in band", "size of set", "both", "none")
    table = _table("Prediction sets (as present; the band is where 95 % of sound coverages lie)", *columns)
    lines = [line for line in _records(evaluation.tables["coverage"]) if line["subset"] == AS_IT_CAME]
    displays = _displays(evaluation)
    for line in _shortened(table, lines):
        cells = [escape(displays[line["finding"]]), line["class"], str(line["n"]), _number(line["coverage"])]
        cells.append(f"{_number(line['band_low'])} … {_number(line['band_high'])}")
        cells.append({True: "yes", False: "no"}.get(line["in_band"], "–"))
        cells += [_number(line[name], digits=2) for name in ("set_size", "both", "empty")]
        table.add_row(*cells, style="bold red" if line["in_band"] is False else "")
    return table


def _prevalence_table(evaluation: Evaluation) -> Table:
    columns = (
        "finding",
        "calibrated\nprevalence",
        "told\nprevalence",
        "NLL",
        "NLL\ntold",
        "difference",
        "ECE",
        "ECE\ntold",
    )
    table = _table("Told the prevalence, and as calibrated (as present)", *columns)
    displays = _displays(evaluation) | {MACRO: "mean over findings"}
    for line in _records(evaluation.tables["prevalence"]):
        cells = [escape(displays[line["finding"]])]
        cells += [_number(line[name]) for name in ("calibrated_prevalence", "told_prevalence", "nll", "nll_told")]
        cells.append(_with_interval(line, "nll_difference", sign="+"))
        table.add_row(*cells, *(_number(line[name]) for name in ("ece", "ece_told")))
    return table


def _displays(evaluation: Evaluation) -> dict[str, str]:
    return {finding.name: finding.display for finding in evaluation.findings}


def _shortened(table: Table, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many of `lines` as a screen takes; the title says how many are left out."""
    if len(lines) > _MOST_LINES:
        table.title = f"{table.title}; {len(lines) - _MOST_LINES} more not shown"
    return lines[:_MOST_LINES]


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name == "minus" else "right")
    return table


def _with_interval(line: Mapping[str, Any], name: str, sign: str = "", digits: int = 3) -> str:
    low, high = (_number(line[f"{name}_{end}"], sign, digits) for end in ("low", "high"))
    return f"{_number(line[name], sign, digits)} \\[{low}, {high}]"


def _number(value: float, sign: str = "", digits: int = 3) -> str:
    text = f"{value:{sign}.{digits}f}"
    return "–" if math.isnan(value) else text.replace("0.", ".", 1) if abs(value) < 1 else text


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
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
