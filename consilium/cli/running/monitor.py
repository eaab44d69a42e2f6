"""`consilium monitor`: whether what a model in service sees and answers has changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilium.cli.running.audit_log import audit_database
from consilium.cli.shared.console import AsJson, log_to_terminal, make_room, show, show_json
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from consilium.monitoring.monitored_answer import MonitoredAnswer

ALARM = 3
"""Exit code of a run after which an alarm stands."""

Model = Annotated[
    str, typer.Option(envvar="CONSILIUM_MODEL", help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of report and alarms; CONSILIUM_HOME/monitor/NAME unless given.")
]


def add_to(app: typer.Typer) -> None:
    monitor = typer.Typer(no_args_is_help=True, help="Whether what a model in service sees and answers has changed.")
    monitor.command(epilog="Example: consilium monitor run --model models:/consilium-mine@champion")(run)
    monitor.command(epilog="Example: consilium monitor accept --reason 'new scanner since May, checked'")(accept)
    app.add_typer(monitor, name="monitor")


def run(
    model: Model,
    since: Annotated[
        str | None,
        typer.Option(help="Begin of the recent answers, as 2026-11-01; 30 days before --until unless given."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Answers before this time (UTC); now unless given.")] = None,
    out: Out = None,
    block_days: Annotated[
        int, typer.Option(min=1, max=28, help="Answers count once so many days are over; 7 hides weekends.")
    ] = 1,
    record: Annotated[bool, typer.Option(help="Make an MLflow run of it.")] = True,
    as_json: AsJson = False,
) -> None:
    """Test a model's stored answers for change: report.html, latest.json and an MLflow run.

    Ends with code 0 where no alarm stands, 3 where one does, 2 for bad input, 1 for what else fails. Where nothing
    changes, any alarm within a year has a chance of at most 5 %, however often it is run.
    """
    log_to_terminal()
    end = datetime.now(UTC).timestamp() if until is None else _read_time("--until", until)
    begin = None if since is None else _read_time("--since", since)
    if begin is not None and begin >= end:
        raise InputError("--since", since or "", "must be before --until")
    folder = _folder(model, out)
    make_room(folder, folder=True)
    from training.monitoring.alarms import AlarmRule
    from training.monitoring.output.monitor_report import REPORT, as_document, quiet
    from training.monitoring.output.wording import alarm_sentence
    from training.monitoring.run_monitor import MonitorPlan, run_monitor

    plan = MonitorPlan(model, folder, end, begin, AlarmRule(block_days=block_days), record)
    result = run_monitor(plan, _stored_answers)
    if as_json:
        show_json(as_document(result))
    else:
        sentences = [alarm_sentence(one, result.model.findings) for one in result.state.alarms]
        show(*(sentences or [quiet(result)]), f"report: {folder / REPORT}")
    if result.state.alarms:
        raise typer.Exit(ALARM)


def accept(
    model: Model,
    reason: Annotated[str, typer.Option(help="Why the change is as it should be; kept with the time.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Accept the alarms that stand: from the next day on, answers are compared with those given since."""
    from training.monitoring.run_monitor import accept_alarms

    folder = _folder(model, out)
    state = accept_alarms(model, folder, reason, datetime.now(UTC).timestamp())
    accepted = list(state.accepted[-1].alarms)
    if as_json:
        show_json({"accepted": accepted, "reason": reason})
    else:
        show(*(f"accepted: {name}" for name in accepted))


def _folder(model: str, out: Path | None) -> Path:
    from consilium.artifacts.model_registry import resolve
    from consilium.system.environment import home_folder

    return home_folder() / "monitor" / resolve(model).identity.name if out is None else out


def _stored_answers(name: str, version: str, since: datetime | None, until: datetime) -> Iterator[MonitoredAnswer]:
    from service.audit_log.monitored import monitored_answers

    with audit_database() as database:
        yield from monitored_answers(database, name, version=version, since=since, until=until)


def _read_time(option: str, text: str) -> float:
    """Seconds since 1970 of an ISO date or time, UTC where it names no offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(option, text, "must be a date or time, as 2026-11-30 or 2026-11-30T06:00+01:00") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
