"""A service's processes, and a service that is started again after it was killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from service.app.launch import RunningService


def kill(running: RunningService) -> None:
    """End all of them at once, with no chance to put anything in order."""
    supervisor = psutil.Process(running.pid)
    for process in [supervisor, *supervisor.children(recursive=True)]:
        process.kill()


@dataclass
class KillableService:
    """A service at one address, whatever process answers there."""

    model: Path
    settings: dict[str, Any]
    port: int
    running: RunningService = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return self.running.url

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.running = RunningService(self.model, self.settings, port=self.port, ready_within_s=600).__enter__()

    def kill(self) -> None:
        """End all of its processes at once."""
        kill(self.running)
        self.stop()

    def stop(self) -> None:
        self.running.__exit__(None, None, None)


@contextmanager
def killable_service(model: Path, settings: dict[str, Any], port: int) -> Iterator[KillableService]:
    service = KillableService(model, settings, port)
    service.start()
    try:
        yield service
    finally:
        service.stop()
