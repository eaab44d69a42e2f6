"""`consilium gateway run` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, show, show_json, table_of

Given = Annotated[Path, typer.Argument(metavar="FILE", help="The gateway's settings.")]


def add_to(gateway: typer.Typer) -> None:
    gateway.command(epilog="Example: consilium gateway run gateway.yaml")(run)
    gateway.command(epilog="Example: consilium gateway check gateway.yaml --image chest.dcm")(check)


def run(file: Given) -> None:
    """Run the gateway until it is stopped (SIGTERM or Ctrl-C)."""
    from hospital.configuration.settings_file import read_settings
    from hospital.running.commands.process import run_gateway

    run_gateway(read_settings(file))


def check(
    file: Given,
    image: Annotated[
        Path | None, typer.Option(metavar="DICOM", help="Show which route a study with this image would take.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="PEER", help="Of --image: which peer sends it; else the first.")
    ] = None,
    peers: Annotated[bool, typer.Option(help="Ask every system whether it answers.")] = True,
    as_json: AsJson = False,
) -> None:
    """Check the settings: every key, every secret, whether each system answers, and which route an image takes."""
    from hospital.configuration.settings_file import read_settings
    from hospital.running.commands.settings_check import check_settings

    outcome = check_settings(read_settings(file), image, source, ask=peers)
    if as_json:
        show_json(outcome.as_json())
    else:
        read = "the settings can be read" if outcome.unanswered else "the settings are right"
        show(f"{file}: {read}")
        if outcome.answers:
            show(table_of("systems", [one.as_json() for one in outcome.answers]))
        if outcome.route is not None:
            show(outcome.route)
    if outcome.unanswered:
        if not as_json:
            count = f"{len(outcome.unanswered)} of {len(outcome.answers)} systems"
            show(f"{file}: {count} did not answer as they should: {', '.join(outcome.unanswered)}")
        raise typer.Exit(1)
