"""`consilium gate`: whether a version may become the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, log_to_terminal, show, show_json


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog="Example: consilium gate models:/consilium-mine@challenger --cohort june --reason 'June cohort'"
    )(gate)


def gate(
    model: Annotated[str, typer.Argument(help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    gates: Annotated[
        Path | None, typer.Option(help="YAML file of what is demanded; the packaged one unless given.")
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="Cohort of the newest studies, for both models.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of that cohort; the one trained on unless given.")] = None,
    task: Annotated[str, typer.Option(help="With --kind: task of that cohort.")] = "",
    champion: Annotated[
        str | None, typer.Option(help="What it is compared with; the model's champion unless given.")
    ] = None,
    tested_on: Annotated[
        Path | None,
        typer.Option(help="Cohort or store with the test studies of both; where this machine trained it unless given."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why it is measured; kept with the MLflow run.")] = "",
    as_json: AsJson = False,
) -> None:
    """Measure a version against what it must be to serve, and note with it whether it passed.

    Ends with code 1 where it did not. `consilium models promote` asks for the newest outcome.
    """
    log_to_terminal()
    from training.lifecycle.gate_file import load_gates

    demanded = load_gates(gates)
    from consilium.configuration.recipe import CohortRecipe
    from training.lifecycle.gate import gate as measure

    options = {"task": task} if task else {}
    chosen = None if kind is None else CohortRecipe.model_validate({"kind": kind, **options})
    report = measure(model, demanded, champion=champion, newest=cohort, cohort=chosen, tested_on=tested_on, why=reason)
    if as_json:
        show_json(report.to_json())
    else:
        show(*report.terminal_tables())
    if not report.passed:
        raise typer.Exit(1)
