"""The lineage of a version as a figure: one row a node, what follows from it below and to the right."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from training.lifecycle.lineage import Node

_INDENT, _LINE, _GAP = 0.3, 0.17, 0.14
"""Inches: of each level, of a line of text, between rows."""
_WIDTH, _COLUMNS = 9.0, 118
_COLOURS = {
    "cohort version": "#dce9f7",
    "cohort": "#dce9f7",
    "run": "#e9e4f5",
    "begun from": "#e9e4f5",
    "model": "#dff0e3",
    "gate": "#fbeecd",
    "event": "#eeeeee",
    "alias": "#dff0e3",
    "answers": "#eeeeee",
}
_FAILED = "#f6d6d3"


@dataclass(frozen=True, slots=True)
class _Row:
    node: Node
    depth: int
    above: int | None
    lines: tuple[str, ...]

    @property
    def height(self) -> float:
        return _LINE * len(self.lines) + 0.12


def lineage_figure(node: Node) -> Figure:
    """`node` and all that follows, of as many inches as that needs."""
    rows = list(_rows(node, 0, None, []))
    height = sum(row.height + _GAP for row in rows) + _GAP
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    top = _GAP
    corners: list[tuple[float, float]] = []
    for row in rows:
        left = _GAP + row.depth * _INDENT
        if row.above is not None:
            _elbow(axes, corners[row.above], (left, top + row.height / 2))
        _box(axes, row, left, top)
        corners.append((left + _INDENT / 2, top + row.height))
        top += row.height + _GAP
    return figure


def _rows(node: Node, depth: int, above: int | None, seen: list[Node]) -> Iterator[_Row]:
    number = len(seen)
    seen.append(node)
    facts = " · ".join(f"{name} {value}" for name, value in node.facts.items() if value)
    columns = _COLUMNS - int(depth * _INDENT * 11)
    lines = [*textwrap.wrap(f"{node.kind}  {node.name}", columns), *textwrap.wrap(facts, columns)]
    yield _Row(node, depth, above, tuple(lines))
    for child in node.children:
        yield from _rows(child, depth + 1, number, seen)


def _elbow(axes: Axes, above: tuple[float, float], here: tuple[float, float]) -> None:
    axes.plot([above[0], above[0], here[0]], [above[1], here[1], here[1]], color="#777777", linewidth=1)


def _box(axes: Axes, row: _Row, left: float, top: float) -> None:
    failed = row.node.kind == "gate" and row.node.name != "passed"
    colour = _FAILED if failed else _COLOURS.get(row.node.kind, "#ffffff")
    style: dict[str, Any] = {"facecolor": colour, "edgecolor": "#777777", "linewidth": 0.8}
    axes.add_patch(Rectangle((left, top), _WIDTH - left - _GAP, row.height, **style))
    for number, line in enumerate(row.lines):
        first = number == 0
        axes.text(
            left + 0.1, top + 0.06 + (number + 0.5) * _LINE, line, va="center", fontsize=9 if first else 8,
            weight="bold" if first else "normal", color="black" if first else "#333333", parse_math=False,
        )  # fmt: skip
