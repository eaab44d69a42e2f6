"""A service's processes."""

from __future__ import annotations

import psutil

from service.app.launch import RunningService


def kill(running: RunningService) -> None:
    """End all of them at once, with no chance to put anything in order."""
    supervisor = psutil.Process(running.pid)
    for process in [supervisor, *supervisor.children(recursive=True)]:
        process.kill()
