"""`consilium retrain`: the newest version of a cohort, learned again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, log_to_terminal, show, show_json
from consilium.cli.shared.processes import leading_process


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium retrain mine.yaml --cohort store --cohort june --hours 8")(retrain)


def retrain(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a YAML file.")],
    cohort: Annotated[
        list[Path], typer.Option(help="A store of cohort versions, then folders to add to it first; repeatable.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
    ] = None,
    without_influenced: Annotated[
        bool, typer.Option("--without-influenced", help="Leave out labels given after seeing a model's answer.")
    ] = False,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Stop after so long as by an interrupt; the same command goes on.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a recipe on the newest version of a cohort, from scratch and from the champion, and register the better.

    Both are compared on the test studies. One retraining of a recipe at a time; after an interrupt, a kill or the end
    of its time the same command goes on. Nothing is promoted.
    """
    log_to_terminal()
    from training.recipes import find_recipe

    changes = ["cohort.influenced=leave_out"] if without_influenced else []
    chosen = find_recipe(recipe, [*(settings or []), *changes])
    from training.lifecycle.retrain import retrain as train_again

    with leading_process(chosen.training.devices):
        made = train_again(chosen, cohort[0], cohort[1:], hours=hours)
    if as_json:
        show_json(made.to_json())
        return
    show(f"registered: {made.uri}, {made.started}, now challenger")
    if made.difference is not None:
        gained = f"AUROC {made.difference:+.3f}, standard error {made.standard_error:.3f}"
        show(f"from the champion less from scratch: {gained}")
    else:
        show(f"from scratch alone: {made.why_not}")
    show(f"measure it:  consilium gate {made.uri}")
