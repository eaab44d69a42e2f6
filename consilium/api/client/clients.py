"""`Client`: every call of the service, blocking."""

from __future__ import annotations

import time
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


class Client(Calls[httpx.Client, httpx.BaseTransport]):
    """A blocking client; a context manager, or closed by `close`. Threads may share it. Its parameters: `Calls`."""

    @staticmethod
    def _connection(**options: Any) -> httpx.Client:
        return httpx.Client(**options)

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

    def draft(self, request: DraftRequest | None = None, **sent: Any) -> DraftAnswer:
        """As `diagnose`, with a draft of a report; by keyword also ``language`` and ``level``."""
        return self._run(self._draft(*read_study(DraftRequest, request, sent)))

    def similar(self, request: SimilarRequest | None = None, **sent: Any) -> SimilarAnswer:
        """As `diagnose`, and the training cases that are most like this one; by keyword also ``count``.

        A model that holds no training cases gives a `ServiceProblem` with status 404.
        """
        return self._run(self._similar(*read_study(SimilarRequest, request, sent)))

    def search(self, request: SearchRequest | None = None, **sent: Any) -> SearchAnswer:
        """The cases and sentences of the service's search index that are most like a study, whatever is given of it.

        By keyword also ``count``, ``labels`` (a finding's name to ``present`` or ``absent``) and ``having`` (names of
        modalities), which say among which cases. A service without an index gives a `ServiceProblem` with status 404.
        """
        return self._run(self._search(*read_study(SearchRequest, request, sent)))

    def submit(
        self,
        studies: Sequence[Mapping[str, Any]],
        kind: JobKind = "diagnose",
        *,
        idempotency_key: str | None = None,
        reading_group: str | None = None,
    ) -> JobAnswer:
        """Hand several studies over, to be answered while nobody waits.

        Parameters
        ----------
        studies : sequence of mappings
            As `diagnose_batch` takes them; of an ``explain`` job also ``findings`` and ``level``.
        kind : str
            ``diagnose`` or ``explain``.
        idempotency_key : str, optional
            The caller's own name of this request, 1 to 255 printable ASCII characters: sent again with it, also by
            another process, the same studies are the same job. A random one unless given.
        reading_group : str, optional
            Readers in this group see the studies of an ``explain`` job once they are answered.

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
        return self._run(self._submit(read_job(studies, kind), kind, idempotency_key, reading_group))

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

    def submit_study(
        self,
        request: ExplainRequest | None = None,
        *,
        idempotency_key: str | None = None,
        reading_group: str | None = None,
        beside: str | None = None,
        **sent: Any,
    ) -> StudyAnswer:
        """Store a study for its readers, to be explained while nobody waits; as `explain` takes it.

        Ask `study` with its ``study_id`` how far it is. A service that stores none gives a `ServiceProblem` with
        status 404.

        Parameters
        ----------
        idempotency_key : str, optional
            As in `submit`.
        reading_group : str, optional
            Whose readers see it; the caller's first group unless given.
        beside : str, optional
            Of a prior: Study Instance UID of the study that it is shown with. It is on no worklist and gets no answer.
        """
        read = read_study(ExplainRequest, request, sent)
        return self._run(self._submit_study(read, idempotency_key, reading_group, beside))

    def study(self, study_id: uuid.UUID | str) -> StudyDetail:
        """A stored study, its words and the answer aside."""
        return self._run(self._study(study_id))

    def studies(self, **asked: Any) -> StudyList:
        """A page of the stored studies that this caller may read.

        By keyword ``search`` (a part of the patient's label), ``state``, ``sort``, ``limit``, and ``after``, which is
        ``next`` of the page before.
        """
        return self._run(self._studies(asked))

    def study_words(self, study_id: uuid.UUID | str, number: int = 0, kind: str = "images") -> bytes:
        """The words of one file, little endian, row by row; `study` says how they are shown. It is recorded."""
        return self._run(self._study_words(study_id, number, kind))

    def study_answer(self, study_id: uuid.UUID | str) -> ExplanationAnswer:
        """The answer to a stored study; that it was seen is recorded.

        While the service hides it from this caller, a `ServiceProblem` with status 409.
        """
        return self._run(self._study_answer(study_id))

    def read(self, study_id: uuid.UUID | str, findings: Mapping[str, str], kind: str = "first") -> ReadAnswer:
        """Record what a reader decided: ``present``, ``absent`` or ``unknown``.

        Not sent again where it may have arrived.
        """
        return self._run(self._read(study_id, findings, kind))

    def delete_study(self, study_id: uuid.UUID | str) -> None:
        """Delete a stored study; its reads, flags and views stay."""
        self._run(self._delete_study(study_id))

    def reads(self) -> list[ReadAnswer]:
        """The reads of all readers, oldest first; needs the scope ``admin``."""
        return self._run(self._reads())

    def operations(self) -> OperationsAnswer:
        """Figures for those who run the service; needs the scope ``admin``."""
        return self._run(self._operations())

    def model_history(self) -> ModelHistoryAnswer:
        """Which models the service loaded and refused, and how the serving one's probabilities met outcomes."""
        return self._run(self._model_history())

    def model(self) -> ModelInformation:
        """Which model answers, what it reads, and what a request may hold."""
        return self._run(self._model())

    def card(self) -> str | None:
        """The model's card, an HTML page; None where it has none."""
        return self._run(self._card())

    def result(self, result_id: uuid.UUID | str) -> ResultAnswer:
        """What was recorded of an earlier answer."""
        return self._run(self._result(result_id))

    def feedback(
        self,
        result_id: uuid.UUID | str,
        findings: Mapping[str, str],
        *,
        influenced: bool | None = None,
        time: datetime | str | None = None,
    ) -> FeedbackAnswer:
        """Keep what was confirmed after an earlier answer. Not sent again where it may have arrived.

        Parameters
        ----------
        findings : mapping of finding's name to str
            ``present``, ``absent`` or ``unknown``.
        influenced : bool, optional
            Whoever confirmed it had seen the model's answer before.
        time : datetime or str, optional
            When it became known; now unless given.
        """
        return self._run(self._feedback(result_id, findings, influenced, time))

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
