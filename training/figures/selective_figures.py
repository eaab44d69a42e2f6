"""Figures of selective answering: risk against coverage, and decision curves, one panel per finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from consilium.domain.findings import FindingSet
from training.evaluation.selective import RULE
from training.figures.panels import BLUE, GREEN, GREY, ORANGE, label_outer, panel_grid

_ORDERS: dict[str, tuple[str, dict]] = {
    "confidence": ("by confidence", {"color": BLUE, "linewidth": 1.8}),
    "prediction_set": ("sets of one answer first", {"color": ORANGE, "linewidth": 1.4, "dashes": (6, 1)}),
    "out_of_distribution": ("the ordinary first", {"color": GREEN, "linewidth": 1.4, "dashes": (6, 1, 1, 1)}),
}


def risk_coverage_figure(findings: FindingSet, tables: dict[str, pd.DataFrame]) -> Figure:
    """Error rate against the share answered, with 95 % intervals by confidence; a dot where the refer rule stands.

    Parameters
    ----------
    tables : dict of str to DataFrame
        ``risk_coverage``, ``aurc`` and ``selective`` of `training.evaluation.selective.selective_tables`.
    """
    figure, panels = panel_grid(len(findings), shared=False)
    curves, areas, policies = (tables[name] for name in ("risk_coverage", "aurc", "selective"))
    for finding, panel in zip(findings, panels, strict=True):
        for order, (label, style) in _ORDERS.items():
            line = curves[(curves["order"] == order) & (curves["finding"] == finding.name)]
            if line.empty:
                continue
            area = areas[(areas["order"] == order) & (areas["finding"] == finding.name)]["aurc"].iloc[0]
            panel.plot(line["answered"], line["error"], label=f"{label}  {_short(area)}", **style)
            if order == "confidence":
                panel.fill_between(line["answered"], line["error_low"], line["error_high"], color=BLUE, alpha=0.15)
        rule = policies[(policies["policy"] == RULE) & (policies["finding"] == finding.name)].iloc[0]
        panel.plot(rule["answered"], rule["error"], "o", color="black", markersize=6, label="the refer rule")
        # A third above the curves is the legend's.
        panel.set(xlim=(0, 1.02), ylim=(0, 1.5 * panel.get_ylim()[1]))
        panel.set_yticks([tick for tick in panel.get_yticks() if tick <= 1])
        panel.set_title(finding.display, fontsize=10, loc="left")
        panel.legend(title="area under the curve", loc="upper left", fontsize=7, title_fontsize=7, frameon=False)
        label_outer(panel, "share answered", "errors among them")
    return figure


def decision_figure(findings: FindingSet, table: pd.DataFrame) -> Figure:
    """Net benefit of acting by the model, with 95 % interval, of acting on all studies and on none.

    Parameters
    ----------
    table : DataFrame
        ``decision_curve`` of `training.evaluation.selective.selective_tables`.
    """
    figure, panels = panel_grid(len(findings), shared=False)
    for finding, panel in zip(findings, panels, strict=True):
        line = table[table["finding"] == finding.name]
        threshold, benefit = line["threshold"].to_numpy(float), line["net_benefit"].to_numpy(float)
        panel.axhline(0, color=GREY, linewidth=1.1, dashes=(1, 1.5), label="nobody")
        panel.plot(threshold, line["treat_all"], color=GREY, linewidth=1.1, dashes=(6, 2), label="everybody")
        panel.plot(threshold, benefit, color=BLUE, linewidth=1.8, label="by the model")
        panel.fill_between(
            threshold, line["net_benefit_low"], line["net_benefit_high"], color=BLUE, alpha=0.15, linewidth=0
        )
        top = max(float(np.nanmax(benefit)), 0.01)
        panel.set(xlim=(0, 1), ylim=(-0.25 * top, 1.25 * top))
        panel.set_title(finding.display, fontsize=10, loc="left")
        panel.legend(title="act on", loc="upper right", fontsize=7, title_fontsize=7, frameon=False)
        label_outer(panel, "probability from which one would act", "net benefit")
    return figure


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
