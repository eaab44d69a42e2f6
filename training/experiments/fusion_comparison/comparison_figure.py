"""The figure of a comparison: how near each contender comes to the possible, and what it explains away.

Drawn without pyplot, as `training.figures.metric_figures`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.evaluation.comparisons import MACRO
from training.experiments.fusion_comparison.comparison import Comparison

_COLOURS = {
    "fusion": "#0072B2",
    "end_to_end": "#009E73",
    "ensemble": "#D55E00",
    "rule": "#8C8C8C",
    "peer": "#E69F00",
}


def comparison_figure(comparison: Comparison) -> Figure:
    """One line a contender; one panel each for AUROC, information and the studies with a confounder.

    Bounds, and the plain sum that counts the prior many times, are so far away that the others could not be
    distinguished.
    """
    shares = comparison.tables["shares"]
    near = ~(shares["contender"].str.startswith("bound/") | (shares["contender"] == "rule/sum_of_log_odds"))
    here = shares[(shares["subset"] == comparison.everything) & (shares["finding"] == MACRO) & near]
    possible = "information_share" in shares
    panels: list[tuple[str, str, pd.DataFrame]] = [
        ("share of the possible AUROC", "auroc_share", here) if possible else ("AUROC", "auroc", here),
        ("share of the possible information", "information_share", here) if possible else ("NLL", "nll", here),
    ]
    if "explaining_away" in comparison.tables:
        away = comparison.tables["explaining_away"]
        wanted = {
            "studies": "with_confounder",
            "subset": comparison.everything,
            "finding": MACRO,
            "against": comparison.reference,
        }
        for column, value in wanted.items():
            away = away[away[column] == value]
        panels.append(("NLL against the product of experts,\nstudies with a confounder", "nll_difference", away))
    contenders = here["contender"].tolist()
    figure = Figure(figsize=(3.4 * len(panels) + 1.6, 0.32 * len(contenders) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (title, column, lines) in zip(grid, panels, strict=True):
        _draw(panel, title, column, lines, contenders)
    return figure


def _draw(panel: Axes, title: str, column: str, lines: pd.DataFrame, contenders: list[str]) -> None:
    values = lines.set_index("contender")
    for row, name in enumerate(contenders):
        if name not in values.index:
            continue
        value, low, high = (values.loc[[name], f"{column}{end}"].to_numpy(float)[0] for end in ("", "_low", "_high"))
        colour = _COLOURS[name.partition("/")[0]]
        panel.hlines(row, low, high, color=colour, linewidth=1.2)
        panel.plot(value, row, "o", color=colour, markersize=5)
    if column == "nll_difference":
        panel.axvline(0, color="0.75", linewidth=1, zorder=0)
    panel.set_yticks(np.arange(len(contenders)), [name.replace("_", " ") for name in contenders], fontsize=8)
    panel.set_ylim(len(contenders) - 0.5, -0.5)
    panel.set_xlabel(title, fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="x", color="0.92", zorder=-1)
    panel.spines[["top", "right"]].set_visible(False)
