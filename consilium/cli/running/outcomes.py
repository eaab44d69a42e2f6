"""`consilium outcomes`: what findings turned out to be, beside the answers that the service gave."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.running.audit_log import opened_store
from consilium.cli.shared.console import AsJson, show, show_json

File = Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, one outcome a row.")]


def add_to(app: typer.Typer) -> None:
    outcomes = typer.Typer(
        no_args_is_help=True,
        help="What findings turned out to be, for monitoring. The audit log keeps it beside the answers.",
    )
    outcomes.command("import", epilog="Example: consilium outcomes import confirmed-2026-11.csv")(import_file)
    app.add_typer(outcomes, name="outcomes")


def import_file(file: File, as_json: AsJson = False) -> None:
    """Import the outcomes of FILE, all of them or none.

    Columns: `result_id`, or `accession` (and `issuer`, where the images name it); `finding`; `truth` (present, absent
    or unknown); `time`, when it became known; and, if it is known, `influenced` (yes: whoever judged it had seen the
    model's answer).

    What was imported before is passed over. A correction has a later time.
    """
    from service.audit_log.outcomes import import_outcomes

    with opened_store() as store:
        done = import_outcomes(store, file)
    if as_json:
        show_json(asdict(done))
        return
    show(f"imported {done.outcomes} outcome(s) of {done.answers} answer(s); {done.already_there} were there before")
