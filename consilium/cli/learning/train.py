"""`consilium train` and `consilium evaluate`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, log_to_terminal, make_room, progress_bar, show, show_json
from consilium.cli.shared.processes import leading_process
from consilium.domain.errors import InputError
from consilium.formats.decimals import parse_decimal

CohortFolder = Annotated[Path, typer.Option("--cohort", help="Folder of the cohort.")]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium train phantom-demo --cohort var/phantom --set training.epochs=5")(train)
    app.command(
        epilog="Example: consilium evaluate models:/consilium-phantom-demo@champion --cohort var/another-phantom"
    )(evaluate)


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a YAML file.")],
    cohort: CohortFolder,
    task: Annotated[str | None, typer.Option(help="What to learn, where the cohort has several tasks.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Also make it the champion, which serves; no gate is run.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training of the same.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a recipe on a cohort, evaluate it, and register the model as challenger.

    Everything is recorded with MLflow. After an interrupt, at whatever moment, the same command with --resume goes on.
    """
    log_to_terminal()
    from training.recipes import find_recipe

    chosen = find_recipe(recipe, settings or [])
    if task is not None and task != chosen.cohort.options.get("task"):
        # Another task has other findings, so it is another registered model.
        changes = [f"cohort.task={task}", f"name={chosen.name}-{task}"]
        chosen = find_recipe(recipe, [*(settings or []), *changes])
    from consilium.artifacts.mlflow_store import tracking_uri
    from training.pipeline.train import train as train_recipe

    with leading_process(chosen.training.devices):
        trained = train_recipe(chosen, cohort, promote=promote, resume=resume)
    if as_json:
        document = {"model": trained.uri, "run_id": trained.run_id, "folder": str(trained.folder)}
        show_json(document | {"evaluation": trained.evaluation.to_json()})
        return
    from training.figures.evaluation_terminal import terminal_tables

    show(*terminal_tables(trained.evaluation))
    show(
        f"registered: {trained.uri}, now {'champion' if promote else 'challenger'}",
        f"its record: mlflow ui --backend-store-uri {tracking_uri()}",
        f"serve it:   consilium serve {trained.uri}",
    )


def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    cohort: CohortFolder,
    kind: Annotated[str | None, typer.Option(help="Kind of the cohort; the one trained on unless given.")] = None,
    task: Annotated[str, typer.Option(help="With --kind: task of the cohort.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for tables (CSV), evaluation.json and plots.")] = None,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(metavar="FINDING=SHARE", help="How frequent a finding is there; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on studies that it has not learned from.

    Of the very cohort that it was trained on, and of one that fixes its splits, that is the test split; of another
    one, every study. With --prevalence, the model is evaluated adjusted to it and as it is.
    """
    log_to_terminal()
    given = _prevalences(prevalence or [])
    make_room(out, folder=True)
    from consilium.artifacts.model_registry import resolve
    from consilium.configuration.recipe import CohortRecipe
    from training.evaluation.evaluate import require_no_leak
    from training.figures.evaluation_files import save_evaluation
    from training.figures.evaluation_terminal import terminal_tables
    from training.pipeline.evaluate_registered import evaluate_model

    chosen = None
    if kind is not None:
        options = {"task": task} if task else {}
        chosen = CohortRecipe.model_validate({"kind": kind, **options})
    with progress_bar("files") as done:
        evaluation = evaluate_model(model, cohort, cohort=chosen, prevalence=given, advance=counted(done))
    if out is not None:
        save_evaluation(evaluation, out)
    identity = resolve(model).identity
    if as_json:
        show_json({"model": identity.to_json(), "evaluation": evaluation.to_json()})
    else:
        show(*terminal_tables(evaluation))
        show(f"{identity.name} version {identity.version} on {len(evaluation.study_ids)} studies of {cohort}")
    require_no_leak(evaluation)


def _prevalences(given: list[str]) -> dict[str, float]:
    found = {}
    for one in given:
        finding, _, share = one.partition("=")
        number = parse_decimal(share)
        if number is None or number.comma:
            raise InputError("prevalence", one, "must be FINDING=SHARE, such as pneumonia=0.2")
        found[finding] = number.value
    return found


def counted(done: Callable[[int], None]) -> Callable[[], None]:
    """Something to call after each item, in place of with their number."""
    count = itertools.count(1)
    return lambda: done(next(count))
