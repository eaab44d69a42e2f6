"""How a comparison of fusions is shown: on a terminal, and as files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.evaluation.comparisons import MACRO
from training.experiments.fusion_comparison.comparison import SHARES, Comparison, lines_of
from training.experiments.fusion_comparison.comparison_figure import comparison_figure

_HEADINGS = {
    "auroc_share": "AUROC\nshare",
    "information_share": "information\nshare",
    "auroc": "AUROC",
    "nll": "NLL",
}


def save_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every table as CSV, ``comparison.json`` and ``comparison.png``; return these files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.csv" for name in comparison.tables]
    for file, table in zip(files, comparison.tables.values(), strict=True):
        table.to_csv(file, index=False)
    files.append(folder / "comparison.json")
    files[-1].write_text(json.dumps(comparison.to_json(), indent=1, allow_nan=False), encoding="utf-8")
    files.append(folder / "comparison.png")
    comparison_figure(comparison).savefig(files[-1], dpi=150)
    return files


def terminal_tables(comparison: Comparison) -> list[Table]:
    """What the terminal shows: the contenders, then their shares by subset and by finding."""
    tables = [_contender_table(comparison)]
    figure = "information_share" if "information_share" in comparison.tables["shares"] else "nll"
    title = "Information share" if figure == "information_share" else "NLL"
    shares = comparison.tables["shares"]
    by_subset = lines_of(shares, finding=MACRO)
    tables.append(_cross_table(f"{title}, mean over findings, by what was read", "subset", by_subset, figure))
    by_finding = lines_of(shares, subset=comparison.everything)
    tables.append(_cross_table(f"{title}, all modalities, by finding", "finding", by_finding, figure))
    return tables


def _contender_table(comparison: Comparison) -> Table:
    """AUROC and information as shares where the cohort knows what is possible, else AUROC and NLL."""
    ranking, proper = SHARES if SHARES[0] in comparison.tables["shares"] else ("auroc", "nll")
    title = "All modalities, mean over findings: mean over seeds, ± sd over seeds, 95 % interval of the test sample"
    named = [_HEADINGS[name] for name in (ranking, proper)]
    table = _table(title, "contender", *named, "NLL minus\nexperts'", "the same with\na confounder", "CPU s", "weights")
    everything = {"subset": comparison.everything, "finding": MACRO}
    against = everything | {"against": comparison.reference}
    lines = _by_contender(comparison.tables["shares"], **everything)
    gained = _by_contender(comparison.tables["differences"], **against)
    explained = _by_contender(comparison.tables.get("explaining_away"), **against, studies="with_confounder")
    for cost in lines_of(comparison.tables["contenders"]):
        name = str(cost["contender"])
        if name not in lines:
            continue
        line = lines[name]
        cells = [_number(line[ranking]) + _spread(line[f"{ranking}_sd"])]
        cells.append(f"{_number(line[proper])}{_spread(line[f'{proper}_sd'])}{_interval(line, proper)}")
        for found in (gained, explained):
            difference = found.get(name)
            column = "nll_difference"
            cells.append(_number(difference[column], "+") + _interval(difference, column) if difference else "")
        cells += [_whole(cost["seconds"]), _compact(cost["parameters"])]
        table.add_row(name, *cells, style="bold" if name == comparison.best else "")
    return table


def _by_contender(table: pd.DataFrame | None, **where: str) -> dict[str, dict[str, Any]]:
    return {} if table is None else {line["contender"]: line for line in lines_of(table, **where)}


def _cross_table(title: str, column: str, lines: list[dict[str, Any]], figure: str) -> Table:
    columns = list(dict.fromkeys(str(line[column]) for line in lines))
    table = _table(title, "contender", *(name.replace("+", "\n") for name in columns))
    for contender in dict.fromkeys(str(line["contender"]) for line in lines):
        cells = {str(line[column]): _number(line[figure]) for line in lines if line["contender"] == contender}
        table.add_row(contender, *(cells.get(name, "") for name in columns))
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _interval(line: dict[str, Any], name: str) -> str:
    low, high = (_number(line[f"{name}_{end}"]) for end in ("low", "high"))
    return f" \\[{low}, {high}]"


def _spread(sd: float) -> str:
    return "" if math.isnan(sd) else f" ±{_number(sd)}"


def _number(value: float, sign: str = "") -> str:
    text = f"{value:{sign}.3f}"
    return "–" if math.isnan(value) else text.replace("0.", ".", 1) if abs(value) < 1 else text


def _whole(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.0f}"


def _compact(count: float) -> str:
    return "" if count == 0 else f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
