"""A second model answers copies of the traffic; its answers are recorded, to be compared, and sent to nobody.

It works on a thread of its own, behind all others, one study at a time. What it has no time for is dropped and counted;
what it fails on, too. It never delays an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

from consilium.domain.diagnosis import Diagnosis
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.modalities.converter import NotConverted
from service.audit_log.entries import Draft
from service.observability.metrics import Metrics
from service.serving.live_model import give_way
from service.serving.served_model import Case, Model, Read, Role, diagnose

logger = logging.getLogger("consilium.service")


class Shadow:
    """Lets the shadow model answer copies of the traffic. `start` before anything else, `stop` at the end.

    Parameters
    ----------
    model : callable
        The shadow model, where there is one now.
    most_waiting : int
        How many studies may wait for it.
    record : callable
        Keeps one of its answers.
    """

    def __init__(
        self,
        model: Callable[[], Model | None],
        metrics: Metrics,
        most_waiting: int,
        record: Callable[[Draft, Study, str, Diagnosis], Awaitable[None]],
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._record = record
        self._waiting: asyncio.Queue[tuple[Draft, Read]] = asyncio.Queue(most_waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=give_way)
        self._answering: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer. Call within the event loop."""
        self._answering = asyncio.create_task(self._answer_forever())

    async def stop(self) -> None:
        """Answer no more; what waits is dropped."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def submit(self, draft: Draft, read: Read) -> None:
        """Queue the study that `read` gives, answered to callers as `draft`; dropped where too many wait."""
        if self._answering is None or self._model() is None:
            return
        try:
            self._waiting.put_nowait((replace(draft, claim=None, result_id=uuid4(), latencies_ms={}), read))
        except asyncio.QueueFull:
            self._metrics.shadow_dropped.inc()

    async def _answer_forever(self) -> None:
        while True:
            draft, read = await self._waiting.get()
            try:
                await self._answer(draft, read)
            except NotConverted:  # The model was loaded after the study was decoded.
                self._metrics.shadow_dropped.inc()
            except Exception as error:
                self._metrics.shadow_failed.inc()
                # An error of the study itself went to the caller of the serving model.
                if not isinstance(error, InputError):
                    logger.exception("the shadow model gave no answer")

    async def _answer(self, draft: Draft, read: Read) -> None:
        model = self._model()
        if model is None:
            return
        with draft.stage("diagnose"), self._metrics.stage("shadow"):
            case, diagnosis = await asyncio.get_running_loop().run_in_executor(self._thread, _diagnosed, model, read)
        await self._record(draft, case.prepared.study, case.role, diagnosis)
        self._metrics.answered(Role.SHADOW, diagnosis)


def _diagnosed(model: Model, read: Read) -> tuple[Case, Diagnosis]:
    case = Case.of(model, read, Role.SHADOW)
    return case, diagnose([case])[0]
