"""The monitor's plots: evidence of every test over time, and performance over time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from training.figures.panels import BLUE, GREEN, GREY, ORANGE, VERMILION, panel_grid
from training.monitoring.alarms import DAY, StreamEvidence
from training.monitoring.monitor import MonitorResult
from training.monitoring.outcome_performance import NAIVE, WEIGHTED
from training.monitoring.output.wording import name_of_test

Floats = npt.NDArray[np.float64]

_COLOURS = (VERMILION, BLUE, ORANGE, GREEN)
_NAMED = len(_COLOURS)


def evidence_figure(result: MonitorResult) -> Figure | None:
    """Logarithm of each test's evidence by day, as a share of what raises an alarm; the strongest are named.

    None where nothing was tested yet.
    """
    if not any(one.count for one in result.tested):
        return None
    figure, [panel] = panel_grid(1, shared=False)
    figure.set_size_inches(9.0, 3.6)
    strongest = sorted(result.tested, key=lambda one: one.log_e_value + np.log(one.alpha), reverse=True)
    for number, one in reversed(list(enumerate(strongest))):
        days, evidence = _by_day(one, result)
        if number < _NAMED and len(days):
            name = name_of_test(one.kind, one.label, result.model.findings)
            panel.plot(days, evidence, color=_COLOURS[number], linewidth=1.6, label=name, zorder=3)
        elif len(days):
            panel.plot(days, evidence, color=GREY, linewidth=0.6, alpha=0.5)
    panel.axhline(1, color="black", linestyle="--", linewidth=1)
    panel.set_ylim(-1, 3)
    panel.set_ylabel("log evidence, in units of an alarm", fontsize=9)
    _dates(panel)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def _by_day(one: StreamEvidence, result: MonitorResult) -> tuple[npt.NDArray[np.datetime64], Floats]:
    """The evidence at the end of each block, at most what fits on the figure."""
    ends = result.started + (one.blocks + 1) * result.rule.block_days * DAY
    evidence = np.clip(one.log_capital / -np.log(one.alpha), -1, 3)
    return ends.astype("datetime64[s]"), evidence


def performance_figure(result: MonitorResult) -> Figure | None:
    """AUROC, sensitivity and specificity over time by finding, as confirmed and weighted; None without outcomes."""
    table = result.tables["over_time"]
    if not len(table):
        return None
    findings = [one for one in result.model.findings if (table.finding == one.name).any()]
    figure, panels = panel_grid(len(findings) * 3, shared=False)
    cells = [(finding, name) for finding in findings for name in ("auroc", "sensitivity", "specificity")]
    for panel, (finding, name) in zip(panels, cells, strict=True):
        for reads, colour, shift in ((NAIVE, BLUE, 0), (WEIGHTED, ORANGE, 4)):
            _with_bars(panel, table[(table.finding == finding.name) & (table.reads == reads)], name, colour, shift)
        panel.set_title(f"{finding.display}: {'AUROC' if name == 'auroc' else name}", fontsize=9)
        panel.set_ylim(0, 1.02)
        _dates(panel)
    panels[0].legend([NAIVE, WEIGHTED], fontsize=8, frameon=False, loc="lower left")
    return figure


def _with_bars(panel: Axes, lines: pd.DataFrame, name: str, colour: str, shift_days: int) -> None:
    when = pd.to_datetime(lines.window) + pd.Timedelta(days=shift_days)
    value, low, high = (lines[f"{name}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    bars = np.nan_to_num(np.stack([value - low, high - value]).clip(0))
    panel.errorbar(when.to_numpy(), value, bars, color=colour, marker="o", markersize=3, linewidth=1, capsize=2)


def _dates(panel: Axes) -> None:
    locator = AutoDateLocator(minticks=2, maxticks=5)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
