"""`consilium gateway`: the process between the hospital's systems and the service, and what a person does with it."""

from __future__ import annotations

import typer

from consilium.cli.gateway import gateway_process, gateway_studies, message_commands, outbox_commands, work_items


def add_to(app: typer.Typer) -> None:
    gateway = typer.Typer(
        no_args_is_help=True,
        help="The gateway between PACS, laboratory and record system and the service: it receives, asks, delivers. "
        "What it does stands in one file, gateway.yaml.",
    )
    for group in (gateway_process, gateway_studies, message_commands, outbox_commands, work_items):
        group.add_to(gateway)
    app.add_typer(gateway, name="gateway")
