"""`consilium phantom`, `check` and `caches`: cohorts made and looked at, and what was kept of reading them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from consilium.cli.shared.console import AsJson, progress_bar, show, show_json
from consilium.domain.errors import CohortError, InputError

if TYPE_CHECKING:
    from training.data.cache_folders import CacheFolder


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium phantom var/phantom --studies 4000 --seed 1 --size 128")(phantom)
    app.command(epilog="Example: consilium check var/phantom")(check)
    caches = typer.Typer(no_args_is_help=True, callback=_caches)
    caches.command("list", epilog="Example: consilium caches list --json")(list_caches)
    caches.command("prune", epilog="Example: consilium caches prune --unused-days 30 --most-gib 20 --dry-run")(prune)
    app.add_typer(caches, name="caches")


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
    scheme: Annotated[
        str,
        typer.Option(help="ordinary; interaction: what one modality shows depends on what another one does."),
    ] = "ordinary",
    outcomes: Annotated[
        bool, typer.Option("--outcomes", help="With a grade of severity and the time to death beside the findings.")
    ] = False,
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
                scheme=scheme,
                outcomes=outcomes,
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
    files = sum(len(record.every_file) for record in loaded.records)
    with progress_bar("files", files) as done:
        report = check_cohort(loaded, audited=audit, seed=seed, progress=done)
    if as_json:
        show_json(report.to_json())
    else:
        show(*report.terminal_tables())
    if report.problems:
        raise typer.Exit(2)


def _caches() -> None:
    """What CONSILIUM_HOME keeps of cohorts' files and of frozen encoders' features, so that nothing is made twice."""


def list_caches(as_json: AsJson = False) -> None:
    """List the caches: what each holds, how large it is, when it was last used, and whether a process has it open."""
    from training.data import cache_folders as caches

    found = caches.list_caches()
    if as_json:
        show_json([one.to_json() for one in found])
        return
    total = sum(one.size for one in found)
    show(_cache_table(found), f"{total / 1e6:.1f} MB in {caches.file_cache_folder().parent}")


def prune(
    unused_days: Annotated[float | None, typer.Option(min=0, help="Remove what was not used for so many days.")] = None,
    most_gib: Annotated[
        float | None, typer.Option(min=0, help="Remove what was used least recently until no more GiB are left.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove caches from CONSILIUM_HOME, and always what this version cannot read or an interrupted removal left.

    What a running training has open stays. What is needed later is made again.
    """
    from training.data import cache_folders as caches

    found = caches.list_caches()
    age = None if unused_days is None else timedelta(days=unused_days)
    chosen = caches.choose(found, age, None if most_gib is None else int(most_gib * 2**30))
    removed = chosen if dry_run else caches.remove(chosen)
    freed = sum(one.size for one in removed)
    if as_json:
        listed = [one.to_json() | {"removed": one in removed} for one in found]
        show_json({"dry_run": dry_run, "freed_bytes": freed, "caches": listed})
        return
    done = "would free" if dry_run else "freed"
    show(_cache_table(found, removed), f"{done} {freed / 1e6:.1f} MB in {caches.file_cache_folder().parent}")


def _cache_table(found: Sequence[CacheFolder], removed: Sequence[CacheFolder] = ()) -> Table:
    table = Table("cache", "of", "folder", "arrays", "MB", "last used (UTC)", "kept")
    for one in found:
        kept = "no" if one in removed else "in use" if one.in_use else ""
        arrays = "unreadable" if one.arrays is None else str(one.arrays)
        name = one.folder.name[:12]
        table.add_row(one.kind, one.modality, name, arrays, f"{one.size / 1e6:.1f}", f"{one.used:%Y-%m-%d %H:%M}", kept)
    return table
