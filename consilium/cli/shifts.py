"""`consilium shifts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.output import AsJson, lines_of, log_to_terminal, make_room, show, show_json, table_of


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium shifts models:/consilium-phantom-demo@champion --studies 1000 --size 128")(
        shifts
    )


def shifts(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    studies: Annotated[int, typer.Option(help="Phantom studies of each shift.")] = 1000,
    size: Annotated[int, typer.Option(help="Rows and columns of their images.")] = 128,
    seed: Annotated[int, typer.Option(help="Another than that of the cohort trained on.")] = 1009,
    out: Annotated[Path | None, typer.Option(help="File for the table (CSV).")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a model of phantoms away from home: other prevalence, device, missing records, unheard phrases.

    Every shift is a cohort of its own with its own best possible answer; the row `none` is a fresh cohort from home.
    After an interrupt the same command goes on with the cohorts that are there.
    """
    log_to_terminal()
    from training.shifts import measure_shifts

    make_room(out)
    table = measure_shifts(model, studies=studies, size=size, seed=seed)
    if out is not None:
        table.to_csv(out, index=False)
    lines = lines_of(table)
    if as_json:
        show_json({"model": model, "studies": studies, "shifts": lines})
    else:
        show(table_of("Away from home, means over findings", lines))
