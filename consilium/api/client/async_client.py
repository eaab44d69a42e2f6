"""`AsyncClient`: the calls of `Client`, awaited."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar, cast

import httpx

from consilium.api.client.endpoints import Calls
from consilium.api.client.multipart import read_job, read_studies, read_study
from consilium.api.client.retry import Exchange, Outcome, Pause, Step
from consilium.api.schemas import (
    DiagnoseRequest,
    DiagnosisAnswer,
    DraftAnswer,
    DraftRequest,
    ExplainRequest,
    ExplanationAnswer,
    FeedbackAnswer,
    JobAnswer,
    JobKind,
    ModelHistoryAnswer,
    ModelInformation,
    OperationsAnswer,
    ReadAnswer,
    ResultAnswer,
    SearchAnswer,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    StudyAnswer,
    StudyDetail,
    StudyList,
)
from consilium.domain.errors import ServiceProblem

Answer = TypeVar("Answer")


class AsyncClient(Calls[httpx.AsyncClient, httpx.AsyncBaseTransport]):
    """`Client` for asyncio; an asynchronous context manager, or closed by `aclose`. Its parameters: `Calls`."""

    @staticmethod
    def _connection(**options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(**options)

    async def diagnose(self, request: DiagnoseRequest | None = None, **sent: Any) -> DiagnosisAnswer:
        """See `Client.diagnose`."""
        return await self._run(self._diagnose(*await asyncio.to_thread(read_study, DiagnoseRequest, request, sent)))

    async def diagnose_batch(self, studies: Sequence[Mapping[str, Any]]) -> list[DiagnosisAnswer | ServiceProblem]:
        """See `Client.diagnose_batch`."""
        return await self._run(self._diagnose_batch(await asyncio.to_thread(read_studies, studies)))

    async def explain(self, request: ExplainRequest | None = None, **sent: Any) -> ExplanationAnswer:
        """See `Client.explain`."""
        return await self._run(self._explain(*await asyncio.to_thread(read_study, ExplainRequest, request, sent)))

    async def draft(self, request: DraftRequest | None = None, **sent: Any) -> DraftAnswer:
        """See `Client.draft`."""
        return await self._run(self._draft(*await asyncio.to_thread(read_study, DraftRequest, request, sent)))

    async def similar(self, request: SimilarRequest | None = None, **sent: Any) -> SimilarAnswer:
        """See `Client.similar`."""
        return await self._run(self._similar(*await asyncio.to_thread(read_study, SimilarRequest, request, sent)))

    async def search(self, request: SearchRequest | None = None, **sent: Any) -> SearchAnswer:
        """See `Client.search`."""
        return await self._run(self._search(*await asyncio.to_thread(read_study, SearchRequest, request, sent)))

    async def submit(
        self,
        studies: Sequence[Mapping[str, Any]],
        kind: JobKind = "diagnose",
        *,
        idempotency_key: str | None = None,
        reading_group: str | None = None,
    ) -> JobAnswer:
        """See `Client.submit`."""
        read = await asyncio.to_thread(read_job, studies, kind)
        return await self._run(self._submit(read, kind, idempotency_key, reading_group))

    async def job(self, job_id: uuid.UUID | str) -> JobAnswer:
        """See `Client.job`."""
        return await self._run(self._job(job_id))

    async def job_results(self, job_id: uuid.UUID | str) -> list[DiagnosisAnswer | ServiceProblem]:
        """See `Client.job_results`."""
        return await self._run(self._job_results(job_id))

    async def cancel(self, job_id: uuid.UUID | str) -> JobAnswer:
        """See `Client.cancel`."""
        return await self._run(self._cancel(job_id))

    async def discard(self, job_id: uuid.UUID | str) -> None:
        """See `Client.discard`."""
        await self._run(self._discard(job_id))

    async def submit_study(
        self,
        request: ExplainRequest | None = None,
        *,
        idempotency_key: str | None = None,
        reading_group: str | None = None,
        beside: str | None = None,
        **sent: Any,
    ) -> StudyAnswer:
        """See `Client.submit_study`."""
        read = await asyncio.to_thread(read_study, ExplainRequest, request, sent)
        return await self._run(self._submit_study(read, idempotency_key, reading_group, beside))

    async def study(self, study_id: uuid.UUID | str) -> StudyDetail:
        """See `Client.study`."""
        return await self._run(self._study(study_id))

    async def studies(self, **asked: Any) -> StudyList:
        """See `Client.studies`."""
        return await self._run(self._studies(asked))

    async def study_words(self, study_id: uuid.UUID | str, number: int = 0, kind: str = "images") -> bytes:
        """See `Client.study_words`."""
        return await self._run(self._study_words(study_id, number, kind))

    async def study_answer(self, study_id: uuid.UUID | str) -> ExplanationAnswer:
        """See `Client.study_answer`."""
        return await self._run(self._study_answer(study_id))

    async def read(self, study_id: uuid.UUID | str, findings: Mapping[str, str], kind: str = "first") -> ReadAnswer:
        """See `Client.read`."""
        return await self._run(self._read(study_id, findings, kind))

    async def delete_study(self, study_id: uuid.UUID | str) -> None:
        """See `Client.delete_study`."""
        await self._run(self._delete_study(study_id))

    async def reads(self) -> list[ReadAnswer]:
        """See `Client.reads`."""
        return await self._run(self._reads())

    async def operations(self) -> OperationsAnswer:
        """See `Client.operations`."""
        return await self._run(self._operations())

    async def model_history(self) -> ModelHistoryAnswer:
        """See `Client.model_history`."""
        return await self._run(self._model_history())

    async def model(self) -> ModelInformation:
        """See `Client.model`."""
        return await self._run(self._model())

    async def card(self) -> str | None:
        """See `Client.card`."""
        return await self._run(self._card())

    async def result(self, result_id: uuid.UUID | str) -> ResultAnswer:
        """See `Client.result`."""
        return await self._run(self._result(result_id))

    async def feedback(
        self,
        result_id: uuid.UUID | str,
        findings: Mapping[str, str],
        *,
        influenced: bool | None = None,
        time: datetime | str | None = None,
    ) -> FeedbackAnswer:
        """See `Client.feedback`."""
        return await self._run(self._feedback(result_id, findings, influenced, time))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(self._ready())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, calls: Exchange[Answer]) -> Answer:
        outcome: Outcome = None
        while True:
            try:
                step = calls.send(outcome)
            except StopIteration as end:
                return cast(Answer, end.value)
            outcome = await self._outcome(step)

    async def _outcome(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._client.request(**self._arguments(step))
        except httpx.TransportError as error:
            return error
