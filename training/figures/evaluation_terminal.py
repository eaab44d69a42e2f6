"""What the terminal shows of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from training.evaluation.comparisons import MACRO
from training.evaluation.metrics import BY_CHANCE, WITHIN_FOLDS
from training.evaluation.results import Evaluation
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, RowKind

_MOST_LINES = 30  # of one table


def terminal_tables(evaluation: Evaluation) -> list[Table]:
    """What the terminal shows: answers, findings at their operating points, targets, differences, sets and so on.

    No table is longer than a screen; under the last one stand the names of those that are not shown.
    """
    tables = [_answer_table(evaluation), _finding_table(evaluation)]
    if "targets" in evaluation.tables:
        tables.append(_target_table(evaluation))
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


_SHOWN = ("metrics", "operating_points", "targets", "comparisons", "oracle_shares", "coverage", "prevalence")


def _answer_table(evaluation: Evaluation) -> Table:
    columns = ("answer", "n", "AUROC", "AUPRC", "Brier", "NLL", "ECE\n(by chance)")
    table = _table("Answers (mean over findings, 95 % interval)", *columns)
    shares, within = {}, WITHIN_FOLDS in evaluation.tables["metrics"]
    if within:
        table.add_column("AUROC\nwithin folds", justify="right")
    if "oracle_shares" in evaluation.tables:
        for name in ("possible\nAUROC", "share", "information\nshare"):
            table.add_column(name, justify="right")
        lines = evaluation.lines("oracle_shares")
        shares = {line["row"]: line for line in lines if line["finding"] == MACRO}
    means = [line for line in evaluation.lines("metrics") if line["finding"] == MACRO]
    for line in _shortened(table, [line for line in means if line["row"].kind is not RowKind.ORACLE]):
        cells = [line["row"].title, str(line["n"]), _with_interval(line, "auroc")]
        cells += [_number(line[name]) for name in ("auprc", "brier", "nll")]
        cells.append(f"{_number(line['ece'])} ({_number(line[BY_CHANCE])})")
        cells += [_number(line[WITHIN_FOLDS])] if within else []
        share = shares.get(line["row"])
        if share:
            cells += [_number(share[name]) for name in ("oracle_auroc", "auroc_share", "information_share")]
        table.add_row(*cells, style="bold" if line["row"] == AS_PRESENT else "")
    return table


def _finding_table(evaluation: Evaluation) -> Table:
    columns = ("finding", "positive", "AUROC", "called\nfrom", "sensitivity", "specificity", "precision", "F1", "ECE")
    table = _table("Findings at their operating points (as present)", *columns)
    metrics = evaluation.lines("metrics")
    of_finding = {line["finding"]: line for line in metrics if line["row"] == AS_PRESENT}
    for finding, point in zip(evaluation.findings, evaluation.lines("operating_points"), strict=True):
        line = of_finding[finding.name]
        cells = [finding.display, f"{line['positives']} of {line['n']}", _with_interval(line, "auroc", digits=2)]
        cells.append(_number(point["threshold"]))
        cells += [_with_interval(line, name, digits=2) for name in ("sensitivity", "specificity")]
        table.add_row(*cells, *(_number(line[name]) for name in ("precision", "f1", "ece")))
    return table


def _target_table(evaluation: Evaluation) -> Table:
    columns = ("target", "answer", "n", "observed", "concordance", "Brier over all steps")
    table = _table("Targets beside the findings", *columns)
    displays = {target.name: target.display for target in evaluation.findings.targets}
    for line in _shortened(table, evaluation.lines("targets")):
        title = "best possible" if line["row"].kind is RowKind.ORACLE else line["row"].title
        cells = [escape(displays[line["target"]]), title, str(line["n"]), str(line["observed"])]
        figures = [_with_interval(line, name) for name in ("concordance", "brier")]
        table.add_row(*cells, *figures, style="bold" if line["row"] == AS_PRESENT else "")
    return table


def _comparison_table(evaluation: Evaluation) -> Table:
    table = _table("Paired differences (mean over findings, same studies)", "answer", "minus", "n", "AUROC", "NLL")
    means = [line for line in evaluation.lines("comparisons") if line["finding"] == MACRO]
    for line in _shortened(table, means):
        cells = [line["row"].title, line["against"].title, str(line["n"])]
        table.add_row(*cells, *(_with_interval(line, f"{name}_difference", sign="+") for name in ("auroc", "nll")))
    return table


def _coverage_table(evaluation: Evaluation) -> Table:
    columns = ("finding", "truly", "n", "covered", "band", "in band", "size of set", "both", "none")
    table = _table("Prediction sets (as present; the band is where 95 % of sound coverages lie)", *columns)
    lines = [line for line in evaluation.lines("coverage") if line["subset"] == ALL_PRESENT]
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
        "given\nprevalence",
        "NLL",
        "NLL\nadjusted",
        "difference",
        "ECE",
        "ECE\nadjusted",
    )
    table = _table("Adjusted to the given prevalence, and as calibrated (as present)", *columns)
    displays = _displays(evaluation) | {MACRO: "mean over findings"}
    for line in evaluation.lines("prevalence"):
        cells = [escape(displays[line["finding"]])]
        cells += [_number(line[name]) for name in ("calibrated_prevalence", "given_prevalence", "nll", "nll_adjusted")]
        cells.append(_with_interval(line, "nll_difference", sign="+"))
        table.add_row(*cells, *(_number(line[name]) for name in ("ece", "ece_adjusted")))
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
