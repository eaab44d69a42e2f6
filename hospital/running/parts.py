"""A part of the gateway: what listens for one protocol, started after the store and stopped before it."""

from __future__ import annotations

from typing import Protocol

from hospital.running.gateway_metrics import CountedEvents


class Part(Protocol):
    """Something that listens, and writes into the store."""

    @property
    def listening(self) -> str:
        """Where it listens, for the log: ``hl7 port 127.0.0.1:2575``."""
        ...

    async def start(self) -> None:
        """Listen. Raises `InputError` where its address is in use."""
        ...

    async def stop(self) -> None:
        """Take nothing new, and finish what was begun."""
        ...

    def count(self, events: CountedEvents) -> None:
        """Show its counts among the metrics."""
        ...
