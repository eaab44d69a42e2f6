"""`consilium audit-log`: what the service answered, asked for, kept and copied."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from consilium.cli.shared.console import AsJson, json_text, show, show_json
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from consilium.api.schemas import ResultAnswer
    from service.audit_log.database import Database
    from service.audit_log.store import Criterion, Store

_STATEMENT_S = 3600.0
"""How long the database may look for answers: nobody waits for this command as callers wait for the service."""
_WHOM = "or - to read it from standard input, where no list of processes shows it"
File = Annotated[Path, typer.Argument(metavar="FILE")]


def add_to(app: typer.Typer) -> None:
    log = typer.Typer(
        no_args_is_help=True,
        help="The audit log of every answer that the service gave. It lies where CONSILIUM_AUDIT_LOG_URL says "
        "(CONSILIUM_HOME/audit-log.db unless set), its keys where CONSILIUM_AUDIT_LOG_KEYS says.",
    )
    log.command("show", epilog="Example: consilium audit-log show 7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1")(show_result)
    log.command(epilog="Example: consilium audit-log recall --model consilium-demo --version 3 --json")(recall)
    log.command(epilog="Example: consilium audit-log purge --older-than 365d")(purge)
    log.command(epilog="Example: consilium audit-log backup /backup/audit-log-2026-11-21.db")(backup)
    log.command(epilog="Example: consilium audit-log restore /backup/audit-log-2026-11-21.db")(restore)
    log.command(epilog="Example: consilium audit-log new-key")(new_key)
    app.add_typer(log, name="audit-log")


def show_result(
    result_id: Annotated[str, typer.Argument(metavar="ID", help="Result id, as the answer carries it.")],
    as_json: AsJson = False,
) -> None:
    """Show what was recorded of one answer, and what was confirmed of it."""
    from uuid import UUID

    try:
        wanted = UUID(result_id)
    except ValueError:
        raise InputError("ID", result_id, "must be a UUID") from None
    with opened_store() as store:
        found = store.result(wanted)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    show(
        f"{found.result_id}  {found.time:%Y-%m-%d %H:%M:%S} UTC  {found.endpoint}, asked by {found.caller}",
        f"{_model(found)} ({found.role}), manifest {found.model.manifest_digest}",
        f"request {found.request_id}",
        _findings(found),
        *(f"referred: {reason}" for reason in found.refer_reasons),
        *(f"{place}: {digest}" for place, digest in found.input_digests.items()),
        *(f"{name} took {value:g} ms" for name, value in found.latencies_ms.items()),
        *(f"{one.time:%Y-%m-%d %H:%M} {one.finding} {one.state}, by {one.caller}" for one in found.feedback),
    )


def recall(
    model: Annotated[str | None, typer.Option(help="Answers of this model.")] = None,
    version: Annotated[str | None, typer.Option(help="Of --model: this version alone.")] = None,
    patient: Annotated[str | None, typer.Option(help=f"Answers about this DICOM Patient ID, {_WHOM}.")] = None,
    study: Annotated[str | None, typer.Option(help=f"Answers about this Study Instance UID, {_WHOM}.")] = None,
    reference: Annotated[str | None, typer.Option(help=f"Answers with this caller's reference, {_WHOM}.")] = None,
    wrong: Annotated[
        bool, typer.Option("--wrong", help="Of these, only answers with a call that was confirmed to be wrong.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every answer of a model, or about a patient or study; pseudonyms of all keys are looked for."""
    criterion = _criterion(model, version, patient, study, reference)
    if as_json:
        _write_json(criterion, wrong)
        return
    with opened_store() as store:
        found = [_line(one) for one in store.recall(criterion) if one.wrong_calls or not wrong]
    show(*found, f"{len(found)} answer(s)")


def purge(
    older_than: Annotated[str, typer.Option(help="Age of the answers to delete: 365d, 8w, 12h.")],
    as_json: AsJson = False,
) -> None:
    """Delete old answers with their feedback, for good."""
    from service.audit_log import retention

    age = retention.read_age("--older-than", older_than)
    with audit_database() as database:
        purged = retention.purge(database, age)
    if as_json:
        show_json(asdict(purged))
    else:
        show(f"deleted {purged.results} answer(s), {purged.feedback} feedback, {purged.replays} expired replay(s)")


def backup(file: File, as_json: AsJson = False) -> None:
    """Write a whole copy of an SQLite audit log to FILE, while the service goes on. PostgreSQL has pg_dump."""
    from service.audit_log import retention

    with audit_database() as database:
        retention.backup(database, file)
    _tell_copied("backup", file, as_json=as_json)


def restore(file: File, as_json: AsJson = False) -> None:
    """Make an SQLite audit log of a backup. There must be none, and the service must not run."""
    from service.audit_log import retention

    with audit_database(there=False) as database:
        try:
            retention.restore(database, file)
        except retention.BrokenBackup as error:
            raise InputError("FILE", str(file), f"must be a whole backup of the audit log ({error.reason})") from None
        _tell_copied("audit_log", database.path, as_json=as_json)


def new_key(as_json: AsJson = False) -> None:
    """Add a key, which signs from the service's next start on; older ones stay, so that recall finds what they signed.

    Of services that share an audit log, each must have the new file before any of them starts with it.
    """
    from service.audit_log.pseudonyms import add_key
    from service.settings import load_audit_log_settings

    path = load_audit_log_settings().audit_log_keys
    keys = add_key(path)
    if as_json:
        show_json({"file": str(path), "newest": keys.newest.id, "keys": [key.id for key in keys]})
    else:
        show(f"{path}: key {keys.newest.id} signs from the next start on; {len(list(keys))} in all")


@contextmanager
def audit_database(*, there: bool = True) -> Iterator[Database]:
    from service.audit_log.database import SETTING, Database, read_url
    from service.settings import load_audit_log_settings

    settings = load_audit_log_settings()
    url = read_url(settings.audit_log_url.get_secret_value())
    database = Database(url, settings.audit_log_timeout_s, _STATEMENT_S)
    if there and database.path is not None and not database.path.exists():
        raise InputError(
            SETTING, str(database.path), "must be an audit log: there is none yet, `consilium serve` makes it"
        )
    try:
        yield database
    finally:
        database.close()


@contextmanager
def opened_store() -> Iterator[Store]:
    """The audit log that the settings name, which must be there."""
    from service.audit_log.pseudonyms import read_keys
    from service.audit_log.store import Store
    from service.settings import load_audit_log_settings

    with audit_database() as database:
        yield Store(database, read_keys(load_audit_log_settings().audit_log_keys))


def _criterion(
    model: str | None, version: str | None, patient: str | None, study: str | None, reference: str | None
) -> Criterion:
    from consilium.domain.study import identifier_digest
    from service.audit_log.pseudonyms import Kind
    from service.audit_log.store import OfModel, OfPseudonym

    given = {"--model": model, "--patient": patient, "--study": study, "--reference": reference}
    named = {option: value for option, value in given.items() if value is not None}
    if len(named) != 1:
        raise InputError(
            "recall", ", ".join(named) or "nothing", "must name one of --model, --patient, --study, --reference"
        )
    ((option, value),) = named.items()
    if version is not None and option != "--model":
        raise InputError("--version", version, "must come with --model")
    if option == "--model":
        return OfModel(value, version)
    value = (sys.stdin.readline() if value == "-" else value).strip()
    if not value:
        raise InputError(option, "nothing", "must not be empty")
    if option == "--reference":
        return OfPseudonym(Kind.REFERENCE, value)
    return OfPseudonym(Kind.PATIENT if option == "--patient" else Kind.STUDY, str(identifier_digest(value)))


def _write_json(criterion: Criterion, wrong: bool) -> None:
    """One JSON list, a line an answer, written while it is read: a version may have given millions."""
    with opened_store() as store:
        sys.stdout.write("[")
        wanted = (one for one in store.recall(criterion) if one.wrong_calls or not wrong)
        for number, one in enumerate(wanted):
            sys.stdout.write(f"{',' if number else ''}\n{json_text(one.model_dump(mode='json'))}")
        sys.stdout.write("\n]\n")


def _model(answer: ResultAnswer) -> str:
    return f"{answer.model.name} version {answer.model.version}"


def _line(answer: ResultAnswer) -> str:
    """One answer on one line, for `grep` and whoever counts: a table of so many columns would break in a terminal."""
    called = ", ".join(finding.finding for finding in answer.findings if finding.call) or "nothing"
    confirmed = ", ".join(f"{line.finding} {line.state}" for line in answer.feedback)
    parts = [
        f"{answer.result_id}  {answer.time:%Y-%m-%d %H:%M:%S} UTC  {_model(answer)}, asked by {answer.caller}",
        f"called {called}",
        *(["referred"] if answer.refer_reasons else []),
        *([f"confirmed {confirmed}"] if confirmed else []),
        *([f"wrong on {', '.join(answer.wrong_calls)}"] if answer.wrong_calls else []),
    ]
    return "; ".join(parts)


def _findings(answer: ResultAnswer) -> Table:
    table = Table("finding", "probability", "interval", "called", "prediction set")
    for one in answer.findings:
        low, high = one.interval
        table.add_row(
            escape(one.finding),
            f"{one.probability:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{'yes' if one.call else 'no'}, at {one.threshold:.3f}",
            ", ".join(one.prediction_set) or "-",
        )
    return table


def _tell_copied(what: str, path: Path | None, *, as_json: bool) -> None:
    if as_json:
        show_json({what: str(path)})
    else:
        show(f"{what}: {path}")
