"""`consilium gateway work-items`: what the gateway claimed of worklists, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consilium.cli.gateway.settings_option import DEFAULT, Limit, Settings, gateway_store
from consilium.cli.shared.console import AsJson, show, show_json, table_of

if TYPE_CHECKING:
    from hospital.store.claims import Claim


def add_to(gateway: typer.Typer) -> None:
    gateway.command("work-items", epilog="Example: consilium gateway work-items --all")(work_items)


def work_items(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are ended; else those under way.")] = False,
    limit: Limit = 100,
    settings: Settings = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the work items that were claimed of worklists, the latest first."""
    from hospital.store.claims import OPEN_CLAIMS

    stages = () if everything else OPEN_CLAIMS
    with gateway_store(settings) as store:
        lines = [_line(one) for one in store.claims.listed(stages=stages, limit=limit)]
    if as_json:
        show_json(lines)
    else:
        show(table_of("work items", lines) if lines else "no work items")


def _line(one: Claim) -> dict[str, Any]:
    return {
        "worklist": one.worklist,
        "item": one.item,
        "stage": one.stage.value,
        "progress": one.progress,
        "began": f"{one.began:%Y-%m-%d %H:%M:%S}",
        "studies": ", ".join(one.studies),
        "problem": one.problem,
    }
