"""What the commands write: answers to standard output, progress and logs to standard error."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from consilium.domain.errors import InputError
from consilium.output.labels import column_head

AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output, and nothing else.")]


_UNBROKEN = 10_000
"""Columns of what is written to a file or a pipe: whoever reads it there must find every cell whole, on one line."""


def show(*parts: RenderableType) -> None:
    """Write tables and lines to standard output; a line is taken as it is, and never broken."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    for part in parts:
        plain = isinstance(part, str)
        console.print(part, markup=not plain, soft_wrap=plain)


def table_of(title: str, lines: Sequence[Mapping[str, object]]) -> Table:
    """A table of `lines`, which share their keys; a figure with ``_low`` and ``_high`` beside it shows its interval."""
    columns = [key for key in lines[0] if not key.endswith(("_low", "_high"))] if lines else []
    table = Table(*map(column_head, columns), title=title, title_justify="left")
    for line in lines:
        table.add_row(*(_cell(line, column) for column in columns))
    return table


def lines_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a data frame; what could not be measured is None."""
    rows = table.to_dict("records")
    return [
        {
            str(key): None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]


def _cell(line: Mapping[str, object], column: str) -> str:
    value, low, high = (line.get(f"{column}{ending}") for ending in ("", "_low", "_high"))
    if value is None:
        return ""
    if not isinstance(value, float):
        return escape(str(value))
    return f"{value:z.3f} [{low:z.3f}, {high:z.3f}]" if low is not None and high is not None else _number(value)


def _number(value: float) -> str:
    """Three decimals, in which figures of one column can be compared; three digits where those would show nothing."""
    return f"{value:.3g}" if 0 < abs(value) < 0.0005 else f"{value:z.3f}"


def show_json(document: object) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json_text(document, indent=1) + "\n")


def json_text(document: object, *, indent: int | None = None) -> str:
    """JSON in characters that standard output can show; what it cannot is escaped, as JSON allows."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent, allow_nan=False)
    return text


def show_what_can_be_shown() -> None:
    """Let standard output replace a character that its encoding lacks: what a command did must not fail by it."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def make_room(path: Path | None, *, folder: bool = False, option: str = "--out") -> None:
    """Make the folder that `option` needs, or raise `InputError`: before the work whose outcome goes there."""
    if path is None:
        return
    rule = f"must be a {'folder' if folder else 'file'} that can be written"
    try:
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(option, str(path), f"{rule} ({error.strerror})") from None
    if not folder and path.is_dir():
        raise InputError(option, str(path), rule)


_OURS = ("consilium", "training", "service", "hospital")


@contextmanager
def logging_restored() -> Iterator[None]:
    """Leave logging, which belongs to the whole process, as it was, whatever a command makes of it."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in (None, *_OURS)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def log_to_terminal() -> None:
    """Lines of our own packages from INFO on, of all others from WARNING on, to standard error."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():  # lines and bars share the terminal
        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False, show_time=False)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[handler], force=True
    )
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    # MLflow would write a line for every table that it makes in a new store.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Something to call with the number of items that are done: draws a bar where standard error is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
