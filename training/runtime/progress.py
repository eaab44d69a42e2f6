"""How far a long piece of work has come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_log = logging.getLogger(__name__)


@contextmanager
def progress_of(what: str, total: int, *, drawn: bool) -> Iterator[Callable[[], None]]:
    """Something to call after each of `total` items: moves a bar, or logs a line every tenth of the way."""
    if not drawn:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            if done == total or done % max(1, total // 10) == 0:
                _log.info("%s: %d of %d", what, done, total)

        yield count
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
