"""Tables of a cohort on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from consilium.output.labels import column_head


def frame_table(title: str, frame: pd.DataFrame, displays: Mapping[str, str]) -> Table:
    """`frame` as a table; numbers with three decimals, nothing where one is not known.

    Parameters
    ----------
    displays : mapping of str to str
        What a reader calls the findings, in the column ``finding`` and as heads of columns.
    """
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in frame.columns:
        head = displays.get(name) or column_head(str(name))
        # A column of yes and no is no column of figures.
        figures = is_numeric_dtype(frame[name]) and frame[name].dtype != bool
        table.add_column(escape(head), justify="right" if figures else "left", overflow="fold")
    for line in frame.to_dict("records"):
        shown = line | ({"finding": displays.get(line["finding"], line["finding"])} if "finding" in line else {})
        table.add_row(*(_cell(cell) for cell in shown.values()))
    return table


def _cell(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:z.3f}"
    return "" if cell is None else escape(str(cell))
