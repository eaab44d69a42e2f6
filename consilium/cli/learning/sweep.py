"""`consilium sweep` and `consilium compare`: which values, and which model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.learning.train import CohortFolder, counted
from consilium.cli.shared.console import (
    AsJson,
    lines_of,
    log_to_terminal,
    make_room,
    progress_bar,
    show,
    show_json,
    table_of,
)
from consilium.cli.shared.processes import leading_process


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium sweep recipe.yaml --cohort var/phantom --trials 20 --out best.yaml")(sweep)
    app.command(
        epilog="Example: consilium compare models:/consilium-phantom-demo@challenger "
        "models:/consilium-phantom-demo@champion --cohort var/phantom"
    )(compare)


def sweep(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a YAML file, with sweep.ranges.")],
    cohort: CohortFolder,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials altogether; the recipe's own unless given.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the best recipe (YAML).")] = None,
    as_json: AsJson = False,
) -> None:
    """Search a recipe's declared ranges for the lowest validation loss; the test split takes no part.

    Every trial is an MLflow run below the sweep's own. After an interrupt, at whatever moment, the same command goes
    on; with more --trials a finished sweep does too.
    """
    log_to_terminal()
    from training.recipes import find_recipe

    make_room(out)
    chosen = find_recipe(recipe, settings or [])
    from training.pipeline.sweep import sweep as search

    with leading_process(chosen.training.devices):
        found = search(chosen, cohort, trials=trials)
    if out is not None:
        out.write_text(found.best.to_yaml(), encoding="utf-8")
    lines = lines_of(found.trials)
    if as_json:
        show_json({"run_id": found.run_id, "best": found.settings, "trials": lines})
        return
    show(table_of("Trials, best first", lines))
    best = " ".join(f"--set {key}={value}" for key, value in found.settings.items())
    show(f"train it: consilium train {out or recipe} --cohort {cohort} {'' if out else best}".rstrip())


def compare(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    against: Annotated[str, typer.Argument(help="The model that it is set against.")],
    cohort: CohortFolder,
    margin: Annotated[float, typer.Option(help="AUROC it may be worse by and still count as not inferior.")] = 0.05,
    bootstrap: Annotated[int, typer.Option(min=20, help="Replicates over patients.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the replicates.")] = 7,
    out: Annotated[Path | None, typer.Option(help="File for the table (CSV).")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two models finding by finding, on studies that neither has learned from.

    The differences are paired: same studies, same replicates over patients. Of a cross-validated model on its own
    cohort the answers are those out of fold.
    """
    log_to_terminal()
    from training.pipeline.compare_models import compare_models

    make_room(out)
    with progress_bar("files") as done:
        table = compare_models(
            model, against, cohort, margin=margin, bootstrap=bootstrap, seed=seed, advance=counted(done)
        )
    if out is not None:
        table.to_csv(out, index=False)
    lines = lines_of(table)
    if as_json:
        show_json({"model": model, "against": against, "margin": margin, "findings": lines})
    else:
        show(table_of(f"{model} minus {against}", lines))
