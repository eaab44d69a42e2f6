"""The service, asked: an explanation of one study as a job, which both sides may die amid without asking twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from consilium.api.client import AsyncClient
from consilium.api.schemas import MAX_LINES, ExplanationAnswer, JobAnswer, ProblemAnswer
from consilium.domain.errors import ConsiliumError, InputError, ServiceProblem, ServiceUnreachable, UnreadableAnswer
from consilium.domain.study import identifier_digest
from hospital.store.clock import Clock
from hospital.studies.asking.study_request import StudyRequest
from hospital.studies.rules.model_inputs import ModelInputs
from hospital.studies.rules.revision_digest import idempotency_key

MOST_REFUSED = 32
"""Records of one study that may be left out because the service refuses them."""
_KEY = "Idempotency-Key"
_MODEL_FOR = timedelta(seconds=30)
_FIRST_POLL_S, _LONGEST_POLL_S = 0.2, 2.0
_DECODED_WITHIN_S = 30.0
_REFUSALS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Statuses by which the service refuses what was sent, however often it is sent."""


class ServiceAway(ConsiliumError):
    """The service gives no answer now, or not to us: it is to be asked again later."""


class AttemptLost(ServiceAway):
    """The service gave this very request up: only under another idempotency key is it tried again."""


class StudyRefused(ConsiliumError):
    """The service refuses the study as a whole. The message names a field and a rule, never a value."""


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer to a study, and what was asked in the end: without the records that the service refused."""

    answer: ExplanationAnswer
    request: StudyRequest
    job: str


class ExplanationJobs:
    """Explanations by the service.

    Parameters
    ----------
    client : AsyncClient
    clock : Clock
    sleep : callable
        Waits for a number of seconds.
    """

    def __init__(
        self, client: AsyncClient, clock: Clock, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._reads: tuple[datetime, ModelInputs] | None = None

    async def model(self) -> ModelInputs:
        """What the model of the service reads; asked anew from time to time.

        Raises
        ------
        ServiceAway
        """
        now = self._clock()
        if self._reads is None or now - self._reads[0] >= _MODEL_FOR:
            try:
                self._reads = now, ModelInputs.of(await self._client.model())
            except (ServiceProblem, ServiceUnreachable, UnreadableAnswer) as error:
                raise _away(error) from error
        return self._reads[1]

    async def explain(
        self,
        request: StudyRequest,
        files: Callable[[StudyRequest], Awaitable[Sequence[bytes]]],
        revision: str,
        attempt: int,
        reading_group: str | None = None,
    ) -> Explained:
        """The answer to a study; what the service refuses of it by name is left out with a warning.

        Readers in `reading_group` see it on the service's reading page.

        Asked again for the same `revision` and `attempt`, the service is not given more work: the same keys name the
        same jobs, and each refusal follows from the one before.

        Raises
        ------
        ServiceAway, AttemptLost
            To be tried again, the latter with the next `attempt`.
        StudyRefused
        """
        for refused in range(MOST_REFUSED + 1):
            if not request.images:
                raise StudyRefused(_nothing_left(request))
            key = idempotency_key(revision, refused, attempt)
            result, job = await self._ask(request, await files(request), key, reading_group)
            if isinstance(result, ExplanationAnswer):
                return Explained(result, request, job)
            request = _without(request, result)
        raise StudyRefused(f"more than {MOST_REFUSED} records are refused")

    async def show_beside(self, study: str, files: Sequence[bytes], group: str, key: str) -> str:
        """Have readers in `group` see the `files` of a prior beside `study`; asked again under the same key, once.

        The id under which the service keeps it. It is decoded later: see `until_decoded`.

        Raises
        ------
        ServiceAway, StudyRefused
        """
        try:
            stored = await self._client.submit_study(
                images=list(files), beside=study, reading_group=group, idempotency_key=key
            )
        except InputError as error:
            raise StudyRefused(f"the service refuses a prior: {error.field} {error.rule}") from None
        except ServiceProblem as problem:
            raise _prior_refused(_refusal(problem)) from None
        except (ServiceUnreachable, UnreadableAnswer) as error:
            raise _away(error) from error
        return str(stored.study_id)

    async def priors_beside(self, study: str) -> list[str]:
        """The ids under which the service keeps the priors that were handed over to be shown beside `study`.

        Raises
        ------
        ServiceAway
        """
        try:
            kept = await self._client.studies(beside=str(identifier_digest(study)), limit=MAX_LINES)
        except (ServiceProblem, ServiceUnreachable, UnreadableAnswer) as error:
            raise _away(error) from error
        return [str(one.study_id) for one in kept.studies]

    async def until_decoded(self, prior: str) -> None:
        """Wait until the service has decoded a prior, by the id under which it keeps it: only then is it shown.

        Raises
        ------
        ServiceAway
            Also where it takes long.
        StudyRefused
            It cannot be decoded, or is not there any more.
        """
        waited, pause = 0.0, _FIRST_POLL_S
        while True:
            try:
                found = await self._client.study(prior)
            except ServiceProblem as problem:
                if problem.status == HTTPStatus.NOT_FOUND:
                    raise StudyRefused("the service keeps a prior no more") from None
                raise _away(problem) from problem
            except (ServiceUnreachable, UnreadableAnswer) as error:
                raise _away(error) from error
            if found.state == "stored":
                return
            if found.state == "refused":
                raise _prior_refused(found.problem)
            if waited >= _DECODED_WITHIN_S:
                raise ServiceAway("the service has not decoded a prior yet")
            await self._sleep(pause)
            waited, pause = waited + pause, min(_LONGEST_POLL_S, 1.5 * pause)

    async def take_answer_back(self, result_id: str) -> None:
        """Have no reader see what the service keeps of a study that got this answer; its reads stay there.

        Raises
        ------
        ServiceAway
        """
        try:
            kept = await self._client.studies(result_id=result_id, limit=MAX_LINES)
        except (ServiceProblem, ServiceUnreachable, UnreadableAnswer) as error:
            raise _away(error) from error
        for one in kept.studies:
            await self.take_back(str(one.study_id))

    async def take_back(self, prior: str) -> None:
        """Have a study or a prior, by the id under which the service keeps it, shown no more.

        Raises
        ------
        ServiceAway
        """
        try:
            await self._client.delete_study(prior)
        except ServiceProblem as problem:
            if problem.status != HTTPStatus.NOT_FOUND:
                raise _away(problem) from problem
        except (ServiceUnreachable, UnreadableAnswer) as error:
            raise _away(error) from error

    async def forget(self, job: str) -> None:
        """Let the service delete a job whose answer is stored; it expires there in any case."""
        try:
            await self._client.discard(job)
        except (ServiceProblem, ServiceUnreachable, UnreadableAnswer):
            return

    async def _ask(
        self, request: StudyRequest, files: Sequence[bytes], key: str, reading_group: str | None
    ) -> tuple[ExplanationAnswer | ServiceProblem, str]:
        """The answer or the refusal, and the job's id, empty where none was taken."""
        try:
            study = {**request.json, "images": list(files)}
            job = await self._client.submit([study], "explain", idempotency_key=key, reading_group=reading_group)
            await self._until_ended(job)
            (result,) = await self._client.job_results(job.job_id)
        except InputError as error:
            return ServiceProblem(error.status, "", field=_within_study(error.field), rule=error.rule), ""
        except ServiceProblem as problem:
            if problem.status == HTTPStatus.NOT_FOUND or problem.field == _KEY:
                raise AttemptLost("the service knows the job no more, or another one by its key") from None
            return _refusal(problem), ""
        except (ServiceUnreachable, UnreadableAnswer) as error:
            raise _away(error) from error
        if isinstance(result, ExplanationAnswer):
            return result, str(job.job_id)
        if isinstance(result, ServiceProblem) and result.status in _REFUSALS:
            return result, str(job.job_id)
        raise AttemptLost("the service could not answer the study")

    async def _until_ended(self, job: JobAnswer) -> None:
        pause = _FIRST_POLL_S
        while job.ended is None:
            await self._sleep(pause)
            pause = min(_LONGEST_POLL_S, 1.5 * pause)
            job = await self._client.job(job.job_id)


def _within_study(field: str) -> str:
    """The field below the only study of a list."""
    return field.removeprefix("studies[0].")


def _refusal(problem: ServiceProblem) -> ServiceProblem:
    if problem.status not in _REFUSALS:
        raise _away(problem) from problem
    return problem


def _prior_refused(problem: ServiceProblem | ProblemAnswer | None) -> StudyRefused:
    told = () if problem is None else (problem.field, problem.rule)
    status = "it cannot be read" if problem is None else f"status {problem.status}"
    return StudyRefused(f"the service refuses a prior: {' '.join(filter(None, told)) or status}")


def _away(error: ConsiliumError) -> ServiceAway:
    if isinstance(error, ServiceProblem):
        return ServiceAway(f"the service answers {error.status} {error.title}".rstrip())
    return ServiceAway("the service cannot be reached" if isinstance(error, ServiceUnreachable) else str(error))


def _without(request: StudyRequest, problem: ServiceProblem) -> StudyRequest:
    rule = problem.rule or ""
    rest = None if problem.field is None else request.without(problem.field, rule)
    if rest is None:
        where = " ".join(filter(None, (problem.field, rule))) or f"status {problem.status}"
        raise StudyRefused(f"the service refuses the study: {where}")
    return rest


def _nothing_left(request: StudyRequest) -> str:
    return request.warnings[-1] if request.warnings else "no image that the model could read"
