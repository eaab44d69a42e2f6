"""`consilium gateway run`: the gateway in a process of its own, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from hospital.configuration.gateway_settings import GatewaySettings
from hospital.running import gateway_logs
from hospital.running.commands.assembled_gateway import assembled_gateway
from hospital.running.gateway import Gateway


def run_gateway(settings: GatewaySettings, started: Callable[[], None] = lambda: None) -> None:
    """Run until SIGTERM or SIGINT.

    Raises
    ------
    ConsiliumError
        It cannot start, or a part of it failed.
    """
    gateway_logs.configure()
    asyncio.run(_run(settings, started))


async def _run(settings: GatewaySettings, started: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    gateway: Gateway = assembled_gateway(settings)
    await gateway.run(stop, started)
