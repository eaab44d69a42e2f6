"""`consilium score`: every study of an archive, answered by one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, log_to_terminal, make_room, progress_bar, show, show_json
from consilium.domain.errors import InputError


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium score /archive/2025 --model models:/consilium-mine@champion --out scores")(
        score
    )


def score(
    source: Annotated[
        str, typer.Argument(help="Folder of a cohort or of DICOM files, or the URL of a DICOMweb archive.")
    ],
    model: Annotated[str, typer.Option(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    out: Annotated[Path, typer.Option(help="Folder of Parquet files; new, or of the same scoring, which goes on.")],
    workers: Annotated[
        int, typer.Option(min=1, help="Processes. More than one run on Ray: RAY_ADDRESS's cluster, or this machine.")
    ] = 1,
    chunk: Annotated[int, typer.Option(min=1, help="Studies of one Parquet file.")] = 64,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Which studies of a DICOMweb archive: StudyDate=20250101-20251231; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    backend: Annotated[str, typer.Option(help="What runs the network: auto, eager, bf16 or openvino.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer every study of an archive into a table with one row a study, also for one that had to be refused.

    A file that is cut, broken or too large refuses its study, with field and rule in the row; reports and other DICOM
    objects that are no images are left out and counted. After an interrupt the same command goes on. A token for the
    archive is read from CONSILIUM_DICOMWEB_TOKEN.
    """
    log_to_terminal()
    make_room(out, folder=True)
    from training.archive.score_archive import plan_scoring, run_scoring

    with progress_bar("files") as seen:
        numbers = count(1)
        matching = read_matching(where or ())
        plan = plan_scoring(source, model, out, chunk=chunk, matching=matching, advance=lambda: seen(next(numbers)))
    with progress_bar("studies", len(plan.archive)) as done:
        summary = run_scoring(plan, workers=workers, device=device, backend=backend, done=done)
    if as_json:
        show_json(asdict(summary))
        return
    earlier = f", {summary.before} of them before" if summary.before else ""
    show(
        f"{summary.studies} studies{earlier}; {summary.refused} refused, with the reason in their row: {out}",
        *(f"{number} file(s) left out, {reason}" for reason, number in summary.left_out.items()),
    )


def read_matching(given: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` of each.

    Raises
    ------
    InputError
        Where one is not of that form.
    """
    matching = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (key.isalnum() and equals and value):
            raise InputError("--where", one, "must be KEY=VALUE with a DICOM keyword: StudyDate=20250101-20251231")
        matching[key] = value
    return matching
