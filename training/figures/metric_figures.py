"""Figures of an evaluation: ROC curves and reliability, one panel per finding or per modality subset."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from consilium.modalities.registry import modality_names
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT, Row, RowKind, alone
from training.figures.panels import BLUE, GREEN, GREY, ORANGE, VERMILION, label_outer, panel_grid

_LINES = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9")
_ALONE: tuple[dict, ...] = (
    {"color": ORANGE},
    {"color": GREEN, "dashes": (6, 1)},
    {"color": VERMILION, "dashes": (6, 1, 1, 1)},
    {"color": "#CC79A7", "dashes": (3, 1)},
    {"color": "#56B4E9", "dashes": (3, 1, 1, 1)},
    {"color": "#F0E442", "dashes": (1, 1)},
)
"""Of the modalities alone, in their order; those beyond begin anew."""
_DASHES: list[tuple[float, ...]] = [(1, 1.5), (4, 1.5), (4, 1.5, 1, 1.5), (7, 2)]


def roc_figure(evaluation: Evaluation) -> Figure:
    """ROC curves: the fused model with its operating point, each modality alone, baselines, the oracle."""
    figure, panels = _panels(evaluation)
    styles = _roc_styles(list(evaluation.probabilities))
    for f, (finding, panel) in enumerate(zip(evaluation.findings, panels, strict=True)):

        def measured(column: str, row: Row = AS_PRESENT, finding: str = finding.name) -> float:
            return evaluation.value("metrics", column, row=row, finding=finding)

        panel.plot([0, 1], [0, 1], color="0.85", linewidth=1, zorder=0)
        for row, (label, style) in styles.items():
            curve = _roc(evaluation.labels[:, f], evaluation.probabilities[row][:, f])
            if curve is not None:
                auroc = f"{measured('auroc', row):.3f}".removeprefix("0")
                panel.plot(*curve, label=f"{label}  {auroc}", **style)
        place = 1 - measured("specificity"), measured("sensitivity")
        panel.plot(*place, "o", color=BLUE, markeredgecolor="white", markersize=8)
        panel.set_title(
            f"{finding.display} ({measured('positives'):.0f} of {measured('n'):.0f})", fontsize=10, loc="left"
        )
        if panel.get_legend_handles_labels()[0]:
            panel.legend(title="AUROC", loc="lower right", fontsize=7, title_fontsize=7, frameon=False, reverse=True)
        label_outer(panel, "1 − specificity", "sensitivity")
    return figure


def reliability_figure(evaluation: Evaluation) -> Figure:
    """Observed against predicted frequency, ten bins of equal mass with 95 % intervals, over all probabilities."""
    figure, panels = _panels(evaluation)
    reliability = evaluation.tables["reliability"]
    reliability = reliability[reliability["row"] == AS_PRESENT]
    for f, (finding, panel) in enumerate(zip(evaluation.findings, panels, strict=True)):
        panel.plot([0, 1], [0, 1], color="0.75", linewidth=1, zorder=0)
        probabilities = evaluation.probabilities[AS_PRESENT][:, f]
        counts, edges = np.histogram(probabilities[~np.isnan(probabilities)], bins=np.linspace(0, 1, 41))
        heights = 0.15 * counts / max(counts.max(), 1)
        panel.bar(edges[:-1], heights, width=np.diff(edges), align="edge", color="0.85", zorder=0)
        bins = reliability[reliability["finding"] == finding.name]
        predicted, observed, low, high = (
            bins[column].to_numpy(float) for column in ("predicted", "observed", "observed_low", "observed_high")
        )
        panel.vlines(predicted, low, high, color=BLUE, linewidth=1)
        panel.plot(predicted, observed, "o-", color=BLUE, markersize=4, linewidth=1.2)
        ece = evaluation.value("metrics", "ece", row=AS_PRESENT, finding=finding.name)
        panel.set_title(f"{finding.display}, ECE {f'{ece:.3f}'.removeprefix('0')}", fontsize=10, loc="left")
        label_outer(panel, "predicted probability", "observed frequency")
    return figure


def subset_reliability_figure(evaluation: Evaluation) -> Figure:
    """Observed against predicted frequency given each modality subset alone, a panel each, a line per finding."""
    rows = [row for row in evaluation.probabilities if row.of_one_subset]
    figure, panels = _grid(len(rows))
    table = evaluation.tables["reliability"].set_index(["row", "finding"]).sort_index()
    for row, panel in zip(rows, panels, strict=True):
        panel.plot([0, 1], [0, 1], color="0.75", linewidth=1, zorder=0)
        for f, finding in enumerate(evaluation.findings):
            if (row, finding.name) not in table.index:
                continue
            bins = table.loc[[(row, finding.name)]].sort_values("bin")
            color, dashes = _LINES[f % len(_LINES)], _DASHES[f // len(_LINES) % len(_DASHES)]
            predicted, observed, low, high = (
                bins[column].to_numpy(float) for column in ("predicted", "observed", "observed_low", "observed_high")
            )
            panel.vlines(predicted, low, high, color=color, linewidth=0.8, alpha=0.6)
            ece = f"{evaluation.value('metrics', 'ece', row=row, finding=finding.name):.3f}".removeprefix("0")
            style: dict[str, Any] = {} if f < len(_LINES) else {"dashes": dashes}
            panel.plot(
                predicted,
                observed,
                "o-",
                color=color,
                markersize=3,
                linewidth=1.1,
                label=f"{finding.display}  {ece}",
                **style,
            )
        panel.set_title(row.title, fontsize=10, loc="left")
        panel.legend(title="ECE", loc="upper left", fontsize=7, title_fontsize=7, framealpha=0.85, edgecolor="none")
        label_outer(panel, "predicted probability", "observed frequency")
    return figure


def _roc_styles(rows: list[Row]) -> dict[Row, tuple[str, dict]]:
    """Label and line style of each row that has a curve, those drawn last on top."""
    styles: dict[Row, tuple[str, dict]] = {}
    baselines = [row for row in rows if row.kind is RowKind.BASELINE]
    for number, row in enumerate(baselines):
        style = {"color": GREY, "linewidth": 1.1, "dashes": _DASHES[number % len(_DASHES)]}
        styles[row] = (row.name, style)
    for number, modality in enumerate(modality_names()):
        if alone(modality) in rows:
            styles[alone(modality)] = (f"{modality} alone", {"linewidth": 1.3, **_ALONE[number % len(_ALONE)]})
    possible = Row(RowKind.ORACLE, AS_PRESENT.name)
    if possible in rows:
        styles[possible] = ("best possible", {"color": "black", "linewidth": 1.1, "dashes": (4, 2)})
    styles[AS_PRESENT] = ("fused", {"color": BLUE, "linewidth": 2.2})
    return styles


def _roc(labels: npt.NDArray, probabilities: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray] | None:
    known = ~np.isnan(labels) & ~np.isnan(probabilities)
    if len(np.unique(labels[known])) < 2:
        return None
    false, true, _ = roc_curve(labels[known], probabilities[known])
    return false, true


def _panels(evaluation: Evaluation) -> tuple[Figure, list[Axes]]:
    """A panel per finding."""
    return _grid(len(evaluation.findings))


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """Panels of shares against shares."""
    figure, panels = panel_grid(count, shared=True)
    for panel in panels:
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, panels
