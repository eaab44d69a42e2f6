"""The search for priors, as gateway.yaml describes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hospital.audit.audit_trail import AuditTrail
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.running.dicom_parts import DicomParts
from hospital.running.gateway_metrics import CountedEvents
from hospital.running.sources.prior_finder import PriorFinder
from hospital.store.gateway_store import Store
from hospital.store.received import StoreUnavailable
from hospital.studies.asking.explanation_jobs import ExplanationJobs
from hospital.studies.rules.routing import Route

logger = logging.getLogger("consilium.gateway")

_LOOK_EVERY_S, _SELDOM_S = 1.0, 30.0


@dataclass
class PriorPart:
    """Fetches the priors of one study after the other; `hospital.running.parts.Part`."""

    store: Store
    finder: PriorFinder
    names: Sequence[str]
    look_every_s: float = _LOOK_EVERY_S
    _task: asyncio.Task[None] | None = None

    @property
    def listening(self) -> str:
        return f"priors, from {', '.join(self.names)}" if self.names else "priors, to take back what is shown"

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="priors")

    async def stop(self) -> None:
        """What was not found yet is looked for after the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def count(self, events: CountedEvents) -> None:
        description = "Priors by what became of them, and searches that were given up"
        events.add("consilium_gateway_priors", description, ("outcome",), self.finder.counts)

    async def turn(self) -> bool:
        """Take the search that has been due for longest a step further; whether there was one."""
        search = await asyncio.to_thread(self.store.priors.next)
        if search is None:
            return False
        await self.finder.step(search)
        return True

    async def _run(self) -> None:
        while True:
            worked = False
            try:
                worked = await self.turn()
            except StoreUnavailable:
                logger.warning("the store cannot be reached; the search for priors waits")
            if not worked:
                await asyncio.sleep(self.look_every_s)


def prior_parts(
    settings: GatewaySettings,
    store: Store,
    dicom: DicomParts,
    routes: Sequence[Route],
    services: Mapping[str, ExplanationJobs],
    trail: AuditTrail | None = None,
) -> list[PriorPart]:
    """The part; where no route asks for priors any more, what was shown may still have to be taken back.

    Raises
    ------
    InputError
        A token or certificate cannot be read.
    """
    asking = [route.priors for route in settings.routes.values() if route.priors is not None]
    names = list(dict.fromkeys(name for priors in asking for name in priors.sources))
    sources = {name: dicom.prior_source(name) for name in names}
    finder = PriorFinder(store, routes, sources, services, *([] if trail is None else [trail.searched]))
    return [PriorPart(store, finder, names, _LOOK_EVERY_S if names else _SELDOM_S)]
