"""`consilium compare-fusions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.output import AsJson, log_to_terminal, make_room, show, show_json
from consilium.cli.train import CohortFolder


def add_to(app: typer.Typer) -> None:
    app.command(
        name="compare-fusions",
        epilog="Example: consilium compare-fusions phantom-demo --cohort var/phantom --out var/fusions --end-to-end 2",
    )(compare)


def compare(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a YAML file; its fusion is not used.")],
    cohort: CohortFolder,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every contender.")] = 3,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs of a fusion on kept tokens; the recipe's unless given.")
    ] = None,
    end_to_end: Annotated[int, typer.Option(min=0, help="Also train so many of the best fusions end to end.")] = 0,
    end_to_end_seeds: Annotated[int, typer.Option(min=1, help="How often, and how often the peer.")] = 1,
    peer: Annotated[bool, typer.Option("--peer", help="Also train MONAI's Transchex on images and notes.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables (CSV), comparison.json and comparison.png.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted comparison, or add to a finished one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train every fusion on the same encoders' tokens and judge them beside rules, an ensemble and peers.

    Encoders are trained once for each seed. After an interrupt the same command with --resume goes on.
    """
    log_to_terminal()
    from training.recipes import find_recipe

    make_room(out, folder=True)
    chosen = find_recipe(recipe, settings or [])
    from training.compare_fusions import Plan, compare_fusions, terminal_tables

    plan = Plan(seeds, epochs, end_to_end, end_to_end_seeds, peer)
    comparison = compare_fusions(chosen, cohort, plan, resume=resume)
    if out is not None:
        comparison.save(out)
    if as_json:
        show_json(comparison.to_json())
    else:
        show(*terminal_tables(comparison))
