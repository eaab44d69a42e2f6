"""`consilium gateway messages`: HL7 messages as they came, and reading one again after gateway.yaml was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consilium.cli.gateway.settings_option import DEFAULT, Limit, Settings, gateway_store
from consilium.cli.shared.console import AsJson, show, show_json, table_of

if TYPE_CHECKING:
    from hospital.store.records import StoredMessage

Numbers = Annotated[list[int], typer.Argument(metavar="NUMBER...", help="Of messages, as `messages list` shows them.")]


def add_to(gateway: typer.Typer) -> None:
    messages = typer.Typer(no_args_is_help=True, help="Messages that the gateway received, kept as they came.")
    messages.command("list", epilog="Example: consilium gateway messages list --problems")(list_messages)
    messages.command(epilog="Example: consilium gateway messages replay 17 18")(replay)
    gateway.add_typer(messages, name="messages")


def list_messages(
    problems: Annotated[bool, typer.Option("--problems", help="Those alone that were not understood.")] = False,
    limit: Limit = 100,
    settings: Settings = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List messages, the latest first. Their contents are not shown."""
    with gateway_store(settings) as store:
        lines = [message_line(one) for one in store.records.messages(with_problem=problems, limit=limit)]
    if as_json:
        show_json(lines)
    else:
        show(table_of("messages", lines) if lines else "no messages")


def replay(numbers: Numbers, settings: Settings = DEFAULT, as_json: AsJson = False) -> None:
    """Read messages again with the tables, issuers and places that the settings have now.

    What they give takes the place of what they gave before, and the studies that it concerns are looked at again.
    """
    from hospital.configuration.settings_file import read_settings
    from hospital.running.commands.message_replay import replay_message

    given = read_settings(settings)
    with gateway_store(settings) as store:
        lines = []
        for number in numbers:
            outcome = replay_message(given, store, number)
            lines.append({"number": number, "records": outcome.records, "problem": outcome.problem})
    if as_json:
        show_json(lines)
    else:
        show(table_of("messages", lines))


def message_line(one: StoredMessage) -> dict[str, Any]:
    """A message without its content."""
    raw = one.message
    return {
        "number": one.number,
        "protocol": raw.protocol,
        "source": raw.source,
        "received": f"{raw.received:%Y-%m-%d %H:%M:%S}",
        "problem": raw.problem,
    }
