"""`Client` and `AsyncClient`: the same calls, blocking or awaited."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import httpx

from consilium.api.client.endpoints import Calls, Token
from consilium.api.client.multipart import read_job, read_studies, read_study
from consilium.api.client.retry import Exchange, Outcome, Pause, Step
from consilium.api.schemas import (
    DiagnoseRequest,
    DiagnosisAnswer,
    ExplainRequest,
    ExplanationAnswer,
    FeedbackAnswer,
    JobAnswer,
    JobKind,
    ModelInformation,
    ResultAnswer,
    SimilarAnswer,
    SimilarRequest,
)
from consilium.domain.errors import ServiceProblem

Answer = TypeVar("Answer")


class Client(Calls):
    """A blocking client; a context manager, or closed by `close`. Threads may share it.

    Parameters
    ----------
    url : str
        Where the service answers: ``https://consilium.hospital.example``, with a path where a proxy gives it one.
    token : str or callable, optional
        API key or token of an issuer; a callable is asked before every attempt.
    timeout : float
        Seconds without a byte after which an attempt is given up.
    retries : int
        Attempts after the first, where the connection broke or the service answered 429, 503 or 504.
    patience : float
        Most seconds spent waiting between attempts.
    verify : ssl.SSLContext or bool
        How the service's certificate is checked.
    transport : httpx.BaseTransport, optional
        What carries the requests; the network unless given.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        timeout: float = 120.0,
        retries: int = 4,
        patience: float = 60.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, timeout, retries, patience, verify)
        self._client = httpx.Client(**self._http, transport=transport)

    def diagnose(self, request: DiagnoseRequest | None = None, **sent: Any) -> DiagnosisAnswer:
        """A calibrated probability per finding.

        Parameters
        ----------
        request : DiagnoseRequest, optional
            The records of the study.
        **sent
            Files, as paths or bytes: ``images``, each DICOM, PNG, JPEG or TIFF. The records by keyword, unless a
            request is given: ``notes``, ``observations``, ``patient``, ``reference_time``, ``caller_reference``, and
            what other modalities declare.

        Raises
        ------
        InputError
            Where the records break a rule, or a file cannot be read; nothing was sent.
        ServiceProblem, ServiceUnreachable, UnreadableAnswer
        """
        return self._run(self._diagnose(*read_study(DiagnoseRequest, request, sent)))

    def diagnose_batch(self, studies: Sequence[Mapping[str, Any]]) -> list[DiagnosisAnswer | ServiceProblem]:
        """For each of several studies, in their order, its diagnosis or why it has none.

        All go in one body; one that is refused is refused alone. Where the connection breaks, those that were answered
        are not answered anew: the next attempt gets the same answers.

        Parameters
        ----------
        studies : sequence of mappings
            Each as the keywords of `diagnose`, ``images`` included: ``{"images": ["film.dcm"], "notes": [...]}``.

        Raises
        ------
        InputError
            Where a study breaks a rule; nothing was sent.
        ServiceProblem, ServiceUnreachable, UnreadableAnswer
            Of the whole.
        """
        return self._run(self._diagnose_batch(read_studies(studies)))

    def explain(self, request: ExplainRequest | None = None, **sent: Any) -> ExplanationAnswer:
        """As `diagnose`, with the evidence for each finding; by keyword also ``findings`` and ``level``."""
        return self._run(self._explain(*read_study(ExplainRequest, request, sent)))

    def similar(self, request: SimilarRequest | None = None, **sent: Any) -> SimilarAnswer:
        """As `diagnose`, and the training cases that are most like this one; by keyword also ``count``.

        A model that holds no training cases gives a `ServiceProblem` with status 404.
        """
        return self._run(self._similar(*read_study(SimilarRequest, request, sent)))

    def submit(self, studies: Sequence[Mapping[str, Any]], kind: JobKind = "diagnose") -> JobAnswer:
        """Hand several studies over, to be answered while nobody waits.

        Parameters
        ----------
        studies : sequence of mappings
            As `diagnose_batch` takes them; of an ``explain`` job also ``findings`` and ``level``.
        kind : str
            ``diagnose`` or ``explain``.

        Returns
        -------
        JobAnswer
            Ask `job` with its ``job_id`` how far it is.

        Raises
        ------
        InputError
            Where a study breaks a rule; nothing was sent.
        ServiceProblem, ServiceUnreachable, UnreadableAnswer
        """
        return self._run(self._submit(read_job(studies, kind), kind))

    def job(self, job_id: uuid.UUID | str) -> JobAnswer:
        """How far a job is."""
        return self._run(self._job(job_id))

    def job_results(self, job_id: uuid.UUID | str) -> list[DiagnosisAnswer | ServiceProblem]:
        """For each study of a job that has ended, in their order, its answer or why it has none.

        The answers of an ``explain`` job are `ExplanationAnswer`. A job that has not ended is asked again for as long
        as the client's patience lasts, and then a `ServiceProblem` with status 409.
        """
        return self._run(self._job_results(job_id))

    def cancel(self, job_id: uuid.UUID | str) -> JobAnswer:
        """End a job; what was answered until then can be fetched."""
        return self._run(self._cancel(job_id))

    def discard(self, job_id: uuid.UUID | str) -> None:
        """Delete a job that has ended, and its answers, before they expire. The audit log keeps its entries."""
        self._run(self._discard(job_id))

    def model(self) -> ModelInformation:
        """Which model answers, what it reads, and what a request may hold."""
        return self._run(self._model())

    def card(self) -> str | None:
        """The model's card, an HTML page; None where it has none."""
        return self._run(self._card())

    def result(self, result_id: uuid.UUID | str) -> ResultAnswer:
        """What was recorded of an earlier answer."""
        return self._run(self._result(result_id))

    def feedback(self, result_id: uuid.UUID | str, findings: Mapping[str, str]) -> FeedbackAnswer:
        """Keep what was confirmed after an earlier answer. Not sent again where it may have arrived.

        Parameters
        ----------
        findings : mapping of finding's name to str
            ``present``, ``absent`` or ``unknown``.
        """
        return self._run(self._feedback(result_id, findings))

    def ready(self) -> bool:
        """Whether the service can be reached and has a model. Never raises for it, and never waits."""
        return self._run(self._ready())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, calls: Exchange[Answer]) -> Answer:
        outcome: Outcome = None
        while True:
            try:
                step = calls.send(outcome)
            except StopIteration as end:
                return cast(Answer, end.value)
            outcome = self._outcome(step)

    def _outcome(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._client.request(**self._arguments(step))
        except httpx.TransportError as error:
            return error


class AsyncClient(Calls):
    """`Client` for asyncio; an asynchronous context manager, or closed by `aclose`."""

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        timeout: float = 120.0,
        retries: int = 4,
        patience: float = 60.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, timeout, retries, patience, verify)
        self._client = httpx.AsyncClient(**self._http, transport=transport)

    async def diagnose(self, request: DiagnoseRequest | None = None, **sent: Any) -> DiagnosisAnswer:
        """See `Client.diagnose`."""
        return await self._run(self._diagnose(*await asyncio.to_thread(read_study, DiagnoseRequest, request, sent)))

    async def diagnose_batch(self, studies: Sequence[Mapping[str, Any]]) -> list[DiagnosisAnswer | ServiceProblem]:
        """See `Client.diagnose_batch`."""
        return await self._run(self._diagnose_batch(await asyncio.to_thread(read_studies, studies)))

    async def explain(self, request: ExplainRequest | None = None, **sent: Any) -> ExplanationAnswer:
        """See `Client.explain`."""
        return await self._run(self._explain(*await asyncio.to_thread(read_study, ExplainRequest, request, sent)))

    async def similar(self, request: SimilarRequest | None = None, **sent: Any) -> SimilarAnswer:
        """See `Client.similar`."""
        return await self._run(self._similar(*await asyncio.to_thread(read_study, SimilarRequest, request, sent)))

    async def submit(self, studies: Sequence[Mapping[str, Any]], kind: JobKind = "diagnose") -> JobAnswer:
        """See `Client.submit`."""
        return await self._run(self._submit(await asyncio.to_thread(read_job, studies, kind), kind))

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

    async def model(self) -> ModelInformation:
        """See `Client.model`."""
        return await self._run(self._model())

    async def card(self) -> str | None:
        """See `Client.card`."""
        return await self._run(self._card())

    async def result(self, result_id: uuid.UUID | str) -> ResultAnswer:
        """See `Client.result`."""
        return await self._run(self._result(result_id))

    async def feedback(self, result_id: uuid.UUID | str, findings: Mapping[str, str]) -> FeedbackAnswer:
        """See `Client.feedback`."""
        return await self._run(self._feedback(result_id, findings))

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
