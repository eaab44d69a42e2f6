"""`consilium compare-fusions` and `consilium shifts`: several trainings or cohorts, one question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.learning.train import CohortFolder
from consilium.cli.shared.console import AsJson, lines_of, log_to_terminal, make_room, show, show_json, table_of
from consilium.cli.shared.processes import leading_process


def add_to(app: typer.Typer) -> None:
    app.command(
        name="compare-fusions",
        epilog="Example: consilium compare-fusions phantom-demo --cohort var/phantom --out var/fusions --end-to-end 2",
    )(compare)
    app.command(epilog="Example: consilium shifts models:/consilium-phantom-demo@champion --studies 1000 --size 128")(
        shifts
    )


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
    """Train every fusion on the same encoders' tokens and compare them with rules, an ensemble and peers.

    Encoders are trained once for each seed. After an interrupt the same command with --resume goes on.
    """
    log_to_terminal()
    from training.recipes import find_recipe

    make_room(out, folder=True)
    chosen = find_recipe(recipe, settings or [])
    from training.experiments.fusion_comparison import Plan, compare_fusions, save_comparison, terminal_tables

    plan = Plan(seeds, epochs, end_to_end, end_to_end_seeds, peer)
    with leading_process(chosen.training.devices):
        comparison = compare_fusions(chosen, cohort, plan, resume=resume)
    if out is not None:
        save_comparison(comparison, out)
    if as_json:
        show_json(comparison.to_json())
    else:
        show(*terminal_tables(comparison))


def shifts(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    studies: Annotated[int, typer.Option(help="Phantom studies of each shift.")] = 1000,
    size: Annotated[int, typer.Option(help="Rows and columns of their images.")] = 128,
    seed: Annotated[int, typer.Option(help="Another than that of the cohort trained on.")] = 1009,
    scheme: Annotated[str, typer.Option(help="Of the phantoms that the model has learned from.")] = "ordinary",
    out: Annotated[Path | None, typer.Option(help="File for the table (CSV).")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model of phantoms on shifted cohorts: other prevalence, device, missing records, unseen phrases.

    Every shift is a cohort of its own with its own best possible answer; the row `none` is a fresh cohort, unshifted.
    After an interrupt the same command goes on with the cohorts that are there.
    """
    log_to_terminal()
    from training.experiments.shifts import measure_shifts

    make_room(out)
    table = measure_shifts(model, studies=studies, size=size, seed=seed, scheme=scheme)
    if out is not None:
        table.to_csv(out, index=False)
    lines = lines_of(table)
    if as_json:
        show_json({"model": model, "studies": studies, "shifts": lines})
    else:
        show(table_of("Away from home, means over findings", lines))
