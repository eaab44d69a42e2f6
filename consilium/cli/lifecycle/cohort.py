"""`consilium cohort`: versions of a cohort that grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilium.cli.learning.train import counted
from consilium.cli.shared.console import AsJson, log_to_terminal, progress_bar, show, show_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.cohorts.versions.version_record import CohortVersion

Store = Annotated[Path, typer.Argument(help="Folder of the versions.")]
Folder = Annotated[Path, typer.Argument(help="Cohort of the kind manifest, or another store or version.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the version.")]
Seed = Annotated[int, typer.Option(min=0, help="By which splits are drawn.")]


def add_to(app: typer.Typer) -> None:
    cohort = typer.Typer(no_args_is_help=True, help="Versions of a cohort, made once and never changed.")
    cohort.command(epilog="Example: consilium cohort freeze store may --name chest")(freeze)
    cohort.command(epilog="Example: consilium cohort add store june --reason 'reads of June'")(add)
    cohort.command(epilog="Example: consilium cohort merge store north south")(merge)
    cohort.command(epilog="Example: consilium cohort withdraw store P000017 --reason 'letter of 3 June'")(withdraw)
    cohort.command(name="show", epilog="Example: consilium cohort show store --files")(show_store)
    app.add_typer(cohort, name="cohort")


@contextmanager
def _advance() -> Iterator[Callable[[], None]]:
    log_to_terminal()
    with progress_bar("files") as done:
        yield counted(done)


def freeze(
    store: Store,
    folder: Folder,
    name: Annotated[str | None, typer.Option(help="Of the cohort; its own unless given.")] = None,
    seed: Seed = 0,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make the first version of a new store, with the splits fixed: test patients stay test patients from here on."""
    from training.lifecycle.cohorts import cohort_store

    with _advance() as advance:
        version = cohort_store.freeze(store, folder, name=name, seed=seed, why=reason, advance=advance)
    _tell(version, as_json)


def add(store: Store, folder: Folder, seed: Seed = 0, reason: Reason = "", as_json: AsJson = False) -> None:
    """Make the next version: the newest one with the studies of a folder.

    What is there already changes nothing but labels. A study that repeats a record of another patient is left out.
    """
    _added(store, [folder], seed, reason, as_json)


def merge(
    store: Store,
    folders: Annotated[list[Path], typer.Argument(help="Cohorts, stores or versions, in order.")],
    seed: Seed = 0,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make one next version with the studies of several folders, stores or versions.

    A patient of several keeps the split that the first of them has.
    """
    _added(store, folders, seed, reason, as_json)


def _added(store: Path, folders: list[Path], seed: int, reason: str, as_json: bool) -> None:
    from training.lifecycle.cohorts import cohort_store

    with _advance() as advance:
        version = cohort_store.add(store, folders, seed=seed, why=reason, advance=advance)
    _tell(version, as_json)


def withdraw(
    store: Store,
    patients: Annotated[list[str], typer.Argument(help="Pseudonyms.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Make the next version without patients, and delete the versions that held them.

    Only the records of these stay. Copies elsewhere (caches below CONSILIUM_HOME, models, backups) are not touched.
    """
    log_to_terminal()
    from training.lifecycle.cohorts import cohort_store

    _tell(cohort_store.withdraw(store, patients, why=reason), as_json)


def show_store(
    store: Store,
    files: Annotated[bool, typer.Option("--files", help="Read every file, and compare it with its digest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every version, and check that each is what its record says and that who has withdrawn is gone.

    Ends with code 1 where that is not so.
    """
    from training.lifecycle.cohorts.store_check import check_store

    with _advance() as advance:
        report = check_store(store, files=files, advance=advance)
    if as_json:
        show_json(report.to_json())
    else:
        show(*report.terminal_tables())
    if report.problems:
        raise typer.Exit(1)


def _tell(version: CohortVersion | None, as_json: bool) -> None:
    if as_json:
        show_json(None if version is None else version.to_json())
    elif version is None:
        show("nothing new; no version was made")
    else:
        changes = ", ".join(f"{number} {what}" for what, number in version.changes.items())
        show(f"version {version.number}, {version.digest[:12]}: {version.studies} studies ({changes})")
