"""Commands that train in several processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def leading_process(devices: int) -> Iterator[None]:
    """Run the body in the leading one of `devices` processes; where torchrun has not started them, start them.

    Raises
    ------
    typer.Exit
        In a process that only started the others or trained along, when all is done: its command has nothing to show.
    """
    from training.runtime.process_group import process_group, relaunch

    status = relaunch(devices, sys.argv[1:])
    if status is not None:
        raise typer.Exit(status)
    with process_group(devices) as leads:
        if not leads:
            raise typer.Exit(0)
        yield
