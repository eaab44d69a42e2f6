"""How a model card is written: its tables out of the run's, Markdown, and one self-contained HTML page.

All text but the card's own sentences may come from a recipe or a cohort, so nothing of it is trusted: in Markdown every
character that could be markup is escaped, in HTML the template engine escapes.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from consilium.domain.findings import FindingSet
from consilium.modalities.registry import modality_names
from consilium.network.diagnosis_model import FUSED
from consilium.output.labels import part_in_words
from training.evaluation.comparisons import MACRO
from training.evaluation.rows import Row, RowKind, fused

_DOTS_PER_INCH = 110
_UNKNOWN = "–"
_MINUS = "−"
_TIED = "\N{NO-BREAK SPACE}"
_NOTHING = 1e-12
"""What is nearer to 0 is what floating point left of a difference."""

_COLUMN_TITLES = {
    "absent": "nothing left to read",
    "against": "compared with",
    "answered": "share answered",
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "auroc_difference": "AUROC difference",
    "auroc_within": "AUROC within folds",
    "auroc_share": "share of possible AUROC",
    "band_high": "band to",
    "band_low": "band from",
    "best": "highest in",
    "both": "sets of both",
    "brier": "Brier score",
    "distance": "how far",
    "ece": "calibration error",
    "empty": "empty sets",
    "error": "errors among them",
    "error_referred": "errors among the referred",
    "f1": "F1",
    "flagged": "called out of distribution",
    "fpr95": "false alarms where 95 % are noticed",
    "gain": "gain over all or none",
    "information_share": "share of possible information",
    "low": "AUROC at least",
    "lower_bound": "at least, over all tests",
    "metric": "figure",
    "n": "studies",
    "nll": "NLL",
    "nll_difference": "NLL difference",
    "oracle_auroc": "possible AUROC",
    "oracle_nll": "possible NLL",
    "policy": "answers",
    "positives": "with the finding",
    "precision": "positive predictive value",
    "row": "answer from",
    "silent": "studies without any answer",
    "subset": "read",
    "threshold": "called from",
    "worst": "lowest in",
}
_NAMED_COLUMNS = frozenset({"kind", "method", "shift", "distance"})
"""Columns whose cells are names of ours, not a cohort's."""
_POLICIES = {
    "everything": "every study",
    "rule": "what no part refers",
    "both": "findings with one answer",
    "out_of_distribution": "nothing out of distribution",
    "required": "nothing required absent",
    "image_quality": "no faulty image",
    "contradictions": "files that fit the record",
    "unknown_origin": "files of a known kind",
}

_MARKUP = re.compile(r"[\\`*\[\]<>|#~&$]|(?<!\w)_|_(?!\w)")
_LIST_MARK = re.compile(r"^(\d*)([-+=.)])(?=[\s=-]|$)")


@dataclass(frozen=True, slots=True)
class CardTable:
    """A table of the card, its cells already written out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the card, `png` as base64."""

    caption: str
    png: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the card: sentences, a list of points, tables, pictures."""

    title: str
    text: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[CardTable, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.text or self.points or self.tables or self.pictures)


@dataclass(frozen=True, slots=True)
class Words:
    """What a reader calls the names in the run's tables."""

    findings: FindingSet

    def place(self, name: str) -> int:
        """Of a finding among all of them; what is none comes last."""
        names = self.findings.names
        return names.index(name) if name in names else len(names)

    def column(self, name: str) -> str:
        return _COLUMN_TITLES.get(name, name.replace("_", " "))

    def cell(self, column: str, value: str) -> str:
        """The text of a cell; names that are not ours stay as they are."""
        if column in _NAMED_COLUMNS:
            return value.replace("_", " ")
        if column == "part" and value in {FUSED, *modality_names()}:
            return part_in_words(value)
        rules: dict[str, Callable[[str], str]] = {
            "finding": self._finding,
            "subset": lambda subset: fused(subset).title,
            "metric": self.column,
            "policy": lambda policy: _POLICIES.get(policy, policy),
        }
        return rules[column](value) if column in rules else value

    def _finding(self, name: str) -> str:
        known = {finding.name: finding.display for finding in self.findings} | {MACRO: "mean over findings"}
        return known.get(name, name)


def _answer_title(row: Row) -> str:
    return f"baseline {row.name}" if row.kind is RowKind.BASELINE else row.title


def frame_table(
    title: str, frame: pd.DataFrame, words: Words, columns: Sequence[str] | None = None, *, most: int = 40
) -> CardTable:
    """`columns` of `frame`, every figure with its interval (``auroc_low``, ``auroc_high``) in the same cell.

    Parameters
    ----------
    columns : sequence of str, optional
        None: all. Those that `frame` lacks are left out.
    most : int
        Rows that are shown; the title says how many more there are.
    """
    ends = {f"{name}{end}" for name in frame.columns for end in ("_low", "_high")}
    shown = [str(name) for name in columns or frame.columns if name in frame.columns and name not in ends]
    lines = frame.head(most).to_dict("records")
    rows = tuple(tuple(write_cell(line, name, words) for name in shown) for line in lines)
    if len(frame) > most:
        title += f" (the first {most} of {len(frame)} rows)"
    return CardTable(title, tuple(words.column(name) for name in shown), rows)


def crossed_table(
    title: str, frame: pd.DataFrame, words: Words, *, index: Sequence[str], across: str, figure: str
) -> CardTable:
    """A row for each value of `index`, a column for each value of `across`, `figure` in the cells."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    heads: dict[str, str] = {}
    for line in frame.to_dict("records"):
        key = tuple(write_cell(line, name, words) for name in index)
        head = str(line[across])
        heads[head] = words.cell(across, head)
        rows.setdefault(key, {})[head] = write_cell(line, figure, words)
    if across == "finding":  # as everywhere else, whichever happened to be met first
        heads = {name: heads[name] for name in sorted(heads, key=words.place)}
    columns = (*(words.column(name) for name in index), *heads.values())
    return CardTable(
        title, columns, tuple((*key, *(cells.get(head, _UNKNOWN) for head in heads)) for key, cells in rows.items())
    )


def write_cell(line: Mapping[Any, Any], name: str, words: Words) -> str:
    """The cell of column `name`, with its interval where the line has one."""
    value, low, high = (line.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None or value is pd.NA:
        return _UNKNOWN
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if not isinstance(value, float | np.floating):
        return _answer_title(value) if isinstance(value, Row) else words.cell(name, str(value))
    if isinstance(low, float) and isinstance(high, float) and not any(map(math.isnan, (value, low, high))):
        # A narrow column breaks before the interval, never within it; Markdown gets spaces as any.
        return f"{_decimals(float(value))} ({_decimals(low)}{_TIED}to{_TIED}{_decimals(high)})"
    return _number(float(value))


def _decimals(value: float) -> str:
    """Three of them, with a minus sign where one is left after rounding."""
    return f"{value:z.3f}".replace("-", _MINUS)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return _UNKNOWN
    if _NOTHING < abs(value) < 0.0005:
        return f"{value:.1g}".replace("-", _MINUS, value < 0)
    if abs(value) > 1 and value.is_integer():
        return f"{value:,.0f}".replace("-", _MINUS)
    return _decimals(value)


def picture(caption: str, figure: Figure) -> Picture:
    """`figure` as it is shown; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return Picture(caption, base64.b64encode(buffer.getvalue()).decode())


# --- Markdown and HTML -----------------------------------------------------------------------------------------------


def markdown(title: str, banner: str, sections: Sequence[Section]) -> str:
    """The card as GitHub's Markdown; pictures are named, not shown."""
    parts = [f"# {_plain(title)}", f"**{_plain(banner)}**"]
    for section in sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_plain(sentence) for sentence in section.text]
        parts.append("\n".join(f"- {_plain(point)}" for point in section.points))
        for table in section.tables:
            parts.append(f"**{_plain(table.title)}**")
            lines = [_pipe(table.columns), _pipe(["---"] * len(table.columns)), *map(_pipe, table.rows)]
            parts.append("\n".join(lines))
        parts += [f"*{_plain(one.caption)}: see the page, card.html.*" for one in section.pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """`text` on one line, as text and nothing else."""
    return _LIST_MARK.sub(r"\1\\\2", _cell(text))


def _cell(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found.group()}", " ".join(text.split()))


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def page(title: str, banner: str, sections: Sequence[Section], *, warned: bool) -> str:
    """The card as one HTML page that fetches nothing and runs no script."""
    environment = Environment(
        loader=PackageLoader("training.card"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("card.html.j2")
    return template.render(title=title, banner=banner, sections=sections, warned=warned)
