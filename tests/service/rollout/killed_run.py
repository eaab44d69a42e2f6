"""`consilium rollout run` in a process that is killed before one of its changes of the registry."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

# For whoever forks from a process that has imported this module.
import consilium.cli.running.rollout  # noqa: F401
import service.audit_log.store
import service.rollout.walk
import service.settings  # noqa: F401
from consilium.artifacts.registry_tables import RegistryTables
from consilium.cli import main

CHANGES = ("set_tag", "set_alias", "delete_alias")
"""What a rollout does to the registry; it keeps nothing anywhere else."""


def rollout_run(model: str, version: str, plan: str, killed_before: int, environment: dict[str, str]) -> None:
    """Run the command; change number `killed_before` of the registry is the end of this process."""
    os.environ.update(environment)
    made = 0

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def once_more(*given: object) -> None:
            nonlocal made
            made += 1
            if made == killed_before:
                os.kill(os.getpid(), signal.SIGKILL)
            change(*given)

        return once_more

    for name in CHANGES:
        setattr(RegistryTables, name, counted(getattr(RegistryTables, name)))
    raise SystemExit(main(["rollout", "run", model, version, "--plan", plan]))
