"""`consilium gateway outbox`: what waits to be delivered, and what a destination refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consilium.cli.gateway.settings_option import DEFAULT, Limit, Settings, gateway_store
from consilium.cli.shared.console import AsJson, show, show_json, table_of

if TYPE_CHECKING:
    from hospital.store.state import QueuedDelivery

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Of the delivery, as `outbox list` shows it.")]


def add_to(gateway: typer.Typer) -> None:
    outbox = typer.Typer(no_args_is_help=True, help="What the gateway delivers.")
    outbox.command("list", epilog="Example: consilium gateway outbox list --destination archive --all")(list_outbox)
    outbox.command(epilog="Example: consilium gateway outbox retry 17")(retry)
    outbox.command(epilog="Example: consilium gateway outbox drop 17")(drop)
    gateway.add_typer(outbox, name="outbox")


def list_outbox(
    destination: Annotated[str | None, typer.Option(help="Of this destination alone.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what was sent, dropped or superseded; else what waits or is dead.")
    ] = False,
    limit: Limit = 100,
    settings: Settings = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List deliveries, the latest first."""
    from hospital.store.state import DeliveryStage

    stages = () if everything else (DeliveryStage.WAITING, DeliveryStage.DEAD)
    with gateway_store(settings) as store:
        lines = [_line(one) for one in store.outbox.listed(destination=destination, stages=stages, limit=limit)]
    if as_json:
        show_json(lines)
    else:
        show(table_of("deliveries", lines) if lines else "no deliveries")


def retry(number: Number, settings: Settings = DEFAULT) -> None:
    """Send a delivery again that waits or that its destination refused."""
    with gateway_store(settings) as store:
        queued = store.outbox.retry(number)
    show(f"delivery {number}: is sent again to {queued.delivery.destination}")


def drop(number: Number, settings: Settings = DEFAULT) -> None:
    """Give a delivery up that waits or that its destination refused. Its content is deleted."""
    with gateway_store(settings) as store:
        queued = store.outbox.drop(number)
    show(f"delivery {number}: is not sent to {queued.delivery.destination}")


def _line(one: QueuedDelivery) -> dict[str, Any]:
    return {
        "number": one.number,
        "destination": one.delivery.destination,
        "kind": one.delivery.kind,
        "stage": one.stage.value,
        "attempts": one.attempts,
        "due": f"{one.due:%Y-%m-%d %H:%M:%S}",
        "study": one.delivery.study,
        "problem": one.problem,
    }
