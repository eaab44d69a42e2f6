"""`consilium phantom` and `consilium check`: cohorts made and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, progress_bar, show, show_json
from consilium.domain.errors import CohortError, InputError


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium phantom var/phantom --studies 4000 --seed 1 --size 128")(phantom)
    app.command(epilog="Example: consilium check var/phantom")(check)


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist, or be empty.")],
    studies: Annotated[int, typer.Option(help="How many.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")],
    size: Annotated[int, typer.Option(help="Rows and columns of the images.")] = 512,
    shortcut: Annotated[
        float | None, typer.Option(help="Plant a shortcut of this strength, 0 to 1, for testing audits.")
    ] = None,
    studies_per_patient: Annotated[int, typer.Option(help="Studies of each patient, of one state.")] = 1,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            help="Depart from home: device, phrases, prevalence:NAME=ODDS, missing-value:VARIABLE=RATE or "
            "missing-modality:NAME=RATE; repeatable."
        ),
    ] = None,
    splits: Annotated[
        str | None, typer.Option(help="Studies to train, validate, calibrate and test on: 5000,500,2000,5000.")
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="What the records hold: image,text; images, notes and values unless given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core unless given.")] = None,
) -> None:
    """Write a phantom cohort: made-up patients whose best possible diagnosis is known.

    Images, notes, observations and labels lie as every cohort of the kind `manifest` does; the truth lies beside them
    in truth/, where no training looks.
    """
    from training.cohorts.phantom.named_shifts import parse_shift
    from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
    from training.cohorts.phantom.write import DEFAULT_SPLITS, write_phantom

    shares = DEFAULT_SPLITS if splits is None else _shares(splits, studies)
    departs = parse_shift(shift or [])
    try:
        with progress_bar("studies", studies) as done:
            write_phantom(
                out,
                studies,
                seed,
                size,
                workers=workers,
                shortcut=shortcut,
                splits=shares,
                shift=departs,
                studies_per_patient=studies_per_patient,
                modalities=DEFAULT_MODALITIES if modalities is None else modalities.replace(" ", "").split(","),
                progress=done,
            )
    except OSError as error:
        raise InputError("out", str(out), f"must be a folder that can be written ({error.strerror})") from None
    show(f"{studies} studies in {out}; train on them with: consilium train phantom-demo --cohort {out}")


def _shares(text: str, studies: int) -> dict[str, float]:
    """Shares of the splits out of their sizes."""
    from training.cohorts.cohort import SPLITS

    sizes = [int(part) if part.isascii() and part.isdecimal() else -1 for part in text.replace(" ", "").split(",")]
    if len(sizes) != len(SPLITS) or min(sizes) < 0 or sum(sizes) != studies:
        rule = f"must be {len(SPLITS)} numbers, of {', '.join(SPLITS)} studies, that add up to --studies ({studies})"
        raise InputError("splits", text, rule)
    return {name: size / studies for name, size in zip(SPLITS, sizes, strict=True)}


def check(
    cohort: Annotated[Path, typer.Argument(help="Folder of the cohort.")],
    kind: Annotated[
        str | None, typer.Option(help="Kind of the cohort: manifest, phantom, ...; seen from the folder unless given.")
    ] = None,
    task: Annotated[str, typer.Option(help="Where the cohort has several tasks.")] = "",
    audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Look for what is too good to be true; takes some minutes.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the audit's folds and bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Read a whole cohort, decode every image, and say what is there, what is missing and what is wrong.

    The audit ends in a verdict: sound, suspect or unusable, with the reasons. Ends with code 2 where something is wrong
    with the files; a suspect cohort is no error.
    """
    from training.cohorts import load_cohort, recognise_kind
    from training.inspection.inspect import check_cohort

    try:
        options = {"task": task} if task else {}
        loaded = load_cohort(kind or recognise_kind(cohort).name, cohort, options)
    except CohortError as error:
        if not as_json:
            raise
        show_json({"problems": [str(problem) for problem in error.problems]})
        raise typer.Exit(2) from None
    images = sum(len(record.images) for record in loaded.records)
    with progress_bar("images", images) as done:
        report = check_cohort(loaded, audited=audit, seed=seed, progress=done)
    if as_json:
        show_json(report.to_json())
    else:
        show(*report.terminal_tables())
    if report.problems:
        raise typer.Exit(2)
