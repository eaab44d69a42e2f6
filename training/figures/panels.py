"""What all figures of an evaluation share: colours, and panels in a grid.

Drawn without pyplot, so that no global state and no display is touched. Colours are Okabe and Ito's, distinguishable by
colour-blind readers; lines differ in dash too.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
_SIDE = 3.5  # inches
_COLUMNS = 4


def panel_grid(count: int, *, shared: bool) -> tuple[Figure, list[Axes]]:
    """`count` panels; with axes `shared`, only the outer ones have figures."""
    # Four panels stand better as two by two than as a strip.
    columns = min(count, _COLUMNS if count > _COLUMNS else math.ceil(math.sqrt(count)))
    lines = math.ceil(count / columns)
    figure = Figure(figsize=(_SIDE * columns + 0.4, _SIDE * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharex=shared, sharey=shared, squeeze=False).ravel()
    for unused in grid[count:]:
        unused.set_visible(False)
    panels = list(grid[:count])
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, panels


def label_outer(panel: Axes, x: str, y: str) -> None:
    """Name the axes where `panel` is the lowest or the leftmost."""
    place = panel.get_subplotspec()
    if place is None or place.is_last_row():
        panel.set_xlabel(x, fontsize=9)
    if place is None or place.is_first_col():
        panel.set_ylabel(y, fontsize=9)
