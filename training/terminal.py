"""Tables of a cohort on a terminal."""

from __future__ import annotations

import math

import pandas as pd
from rich.markup import escape
from rich.table import Table


def frame_table(title: str, frame: pd.DataFrame) -> Table:
    """`frame` as a table; numbers with three decimals, nothing where one is not known."""
    table = Table(title=escape(title), title_justify="left")
    for name in frame.columns:
        table.add_column(escape(str(name)), overflow="fold")
    for line in frame.to_dict("records"):
        table.add_row(*(_cell(cell) for cell in line.values()))
    return table


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.3f}"
    return "" if cell is None else escape(str(cell))
