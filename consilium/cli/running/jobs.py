"""`consilium jobs`: worklists that a running service answers while nobody waits."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from consilium.cli.diagnose import Token
from consilium.cli.shared.console import AsJson, json_text, show, show_json
from consilium.domain.errors import InputError, ServiceProblem
from consilium.formats.text_files import read_text
from consilium.modalities.registry import file_inputs

if TYPE_CHECKING:
    from consilium.api.client import Client
    from consilium.api.schemas import DiagnosisAnswer, JobAnswer, JobKind

Url = Annotated[str, typer.Option(help="Where the service answers.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, as `consilium jobs submit` shows it.")]
_RULE = "must be a JSON list of studies, each with images and what a request holds"


def add_to(app: typer.Typer) -> None:
    jobs = typer.Typer(
        no_args_is_help=True, help="Worklists that a running service answers while nobody waits, to be fetched later."
    )
    at = "--url https://consilium.hospital.example"
    job = "7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1"
    jobs.command(epilog=f"Example: consilium jobs submit worklist.json {at}")(submit)
    jobs.command("show", epilog=f"Example: consilium jobs show {job} {at}")(show_job)
    jobs.command(epilog=f"Example: consilium jobs results {job} {at}")(results)
    jobs.command(epilog=f"Example: consilium jobs cancel {job} {at}")(cancel)
    jobs.command(epilog=f"Example: consilium jobs discard {job} {at}")(discard)
    app.add_typer(jobs, name="jobs")


def submit(
    worklist: Annotated[
        Path,
        typer.Argument(
            help='JSON: [{"images": ["film.dcm"], "notes": [...], "caller_reference": "order-17"}, ...]; paths count '
            "from the file's own folder."
        ),
    ],
    url: Url,
    kind: Annotated[str, typer.Option(help="What is asked of each study: diagnose or explain.")] = "diagnose",
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Hand a worklist over, and say under which id it can be fetched."""
    studies = _studies(worklist)
    with _client(url, token) as client:
        _tell(client.submit(studies, cast("JobKind", kind)), as_json)


def show_job(job_id: JobId, url: Url, token: Token = None, as_json: AsJson = False) -> None:
    """Say how far a job is."""
    with _client(url, token) as client:
        _tell(client.job(job_id), as_json)


def results(job_id: JobId, url: Url, token: Token = None) -> None:
    """Write a line of JSON per study, in the worklist's order: its answer, or the problem that kept it from having one.

    A job that has not ended is asked again for a minute.
    """
    with _client(url, token) as client:
        results = client.job_results(job_id)
    for study, one in enumerate(results):
        sys.stdout.write(json_text({"study": study} | _as_json(one)) + "\n")


def cancel(job_id: JobId, url: Url, token: Token = None, as_json: AsJson = False) -> None:
    """End a job; what was answered until then can be fetched."""
    with _client(url, token) as client:
        _tell(client.cancel(job_id), as_json)


def discard(job_id: JobId, url: Url, token: Token = None) -> None:
    """Delete a job that has ended, and its answers, before they expire. The audit log keeps its entries."""
    with _client(url, token) as client:
        client.discard(job_id)
    show(f"{job_id}: deleted")


@contextmanager
def _client(url: str, token: str | None) -> Iterator[Client]:
    from consilium.api.client import Client

    with Client(url, token=token) as client:
        yield client


def _studies(worklist: Path) -> list[dict[str, Any]]:
    try:
        studies = json.loads(read_text(worklist, "WORKLIST"))
    except (ValueError, RecursionError):
        raise InputError("WORKLIST", worklist.name, _RULE) from None
    if not isinstance(studies, list) or not all(isinstance(study, dict) for study in studies):
        raise InputError("WORKLIST", worklist.name, _RULE)
    return [study | _files(study, worklist.parent) for study in studies]


def _files(study: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The paths as the worklist's folder makes them; what is no list of paths is left to the client, which says so."""
    given = {name: study[name] for name in file_inputs() if isinstance(study.get(name), list)}
    return {name: [folder / file if isinstance(file, str) else file for file in files] for name, files in given.items()}


def _tell(job: JobAnswer, as_json: bool) -> None:
    if as_json:
        show_json(job.model_dump(mode="json"))
        return
    count = f"{job.answered} answered and {job.refused} refused of {job.studies}"
    show(f"{job.job_id}  {job.state}: {count}; kept until {job.expires:%Y-%m-%d %H:%M} UTC")


def _as_json(one: DiagnosisAnswer | ServiceProblem) -> dict[str, object]:
    if not isinstance(one, ServiceProblem):
        return {"answer": one.model_dump(mode="json")}
    parts = {name: getattr(one, name) for name in ("status", "detail", "field", "value", "rule")}
    return {"problem": {name: part for name, part in parts.items() if part is not None}}
