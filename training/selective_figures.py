"""Figures of selective answering: risk against coverage, and decision curves, one panel per finding.

Drawn as those of `training.figures` are: without pyplot, in Okabe and Ito's colours, lines that differ in dash too.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from consilium.findings import FindingSet
from training.selective import RULE

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#8C8C8C"
_ORDERS: dict[str, tuple[str, dict]] = {
    "confidence": ("by confidence", {"color": _BLUE, "linewidth": 1.8}),
    "prediction_set": ("sets of one answer first", {"color": _ORANGE, "linewidth": 1.4, "dashes": (6, 1)}),
    "novelty": ("the ordinary first", {"color": _GREEN, "linewidth": 1.4, "dashes": (6, 1, 1, 1)}),
}
_PANEL = 3.5  # inches


def risk_coverage_figure(findings: FindingSet, tables: dict[str, pd.DataFrame]) -> Figure:
    """Error rate against the share answered, with 95 % intervals by confidence; a dot where the refer rule stands.

    Parameters
    ----------
    tables : dict of str to DataFrame
        ``risk_coverage``, ``aurc`` and ``selective`` of `training.selective.selective_tables`.
    """
    figure, panels = _panels(len(findings))
    curves, areas, policies = (tables[name] for name in ("risk_coverage", "aurc", "selective"))
    for finding, panel in zip(findings, panels, strict=True):
        for order, (label, style) in _ORDERS.items():
            line = curves[(curves["order"] == order) & (curves["finding"] == finding.name)]
            if line.empty:
                continue
            area = areas[(areas["order"] == order) & (areas["finding"] == finding.name)]["aurc"].iloc[0]
            panel.plot(line["answered"], line["error"], label=f"{label}  {_short(area)}", **style)
            if order == "confidence":
                panel.fill_between(line["answered"], line["error_low"], line["error_high"], color=_BLUE, alpha=0.15)
        rule = policies[(policies["policy"] == RULE) & (policies["finding"] == finding.name)].iloc[0]
        panel.plot(rule["answered"], rule["error"], "o", color="black", markersize=6, label="the refer rule")
        # A third above the curves is the legend's.
        panel.set(xlim=(0, 1.02), ylim=(0, 1.5 * panel.get_ylim()[1]))
        panel.set_title(finding.display, fontsize=10, loc="left")
        panel.legend(title="area under the curve", loc="upper left", fontsize=7, title_fontsize=7, frameon=False)
        _label_outer(panel, "share of studies answered", "errors among them")
    return figure


def decision_figure(findings: FindingSet, table: pd.DataFrame) -> Figure:
    """Net benefit of acting by the model, with 95 % interval, of acting on all studies and on none.

    Parameters
    ----------
    table : DataFrame
        ``decision_curve`` of `training.selective.selective_tables`.
    """
    figure, panels = _panels(len(findings))
    for finding, panel in zip(findings, panels, strict=True):
        line = table[table["finding"] == finding.name]
        threshold, benefit = line["threshold"].to_numpy(float), line["net_benefit"].to_numpy(float)
        panel.axhline(0, color=_GREY, linewidth=1.1, dashes=(1, 1.5), label="nobody")
        panel.plot(threshold, line["treat_all"], color=_GREY, linewidth=1.1, dashes=(6, 2), label="everybody")
        panel.plot(threshold, benefit, color=_BLUE, linewidth=1.8, label="by the model")
        panel.fill_between(
            threshold, line["net_benefit_low"], line["net_benefit_high"], color=_BLUE, alpha=0.15, linewidth=0
        )
        top = max(float(np.nanmax(benefit)), 0.01)
        panel.set(xlim=(0, 1), ylim=(-0.25 * top, 1.25 * top))
        panel.set_title(finding.display, fontsize=10, loc="left")
        panel.legend(title="act on", loc="upper right", fontsize=7, title_fontsize=7, frameon=False)
        _label_outer(panel, "probability from which one would act", "net benefit")
    return figure


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 4 if count > 4 else math.ceil(math.sqrt(count)))
    lines = math.ceil(count / columns)
    figure = Figure(figsize=(_PANEL * columns + 0.4, _PANEL * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for unused in grid[count:]:
        unused.set_visible(False)
    for panel in grid[:count]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, list(grid[:count])


def _label_outer(panel: Axes, x: str, y: str) -> None:
    place = panel.get_subplotspec()
    if place is None or place.is_last_row():
        panel.set_xlabel(x, fontsize=9)
    if place is None or place.is_first_col():
        panel.set_ylabel(y, fontsize=9)
