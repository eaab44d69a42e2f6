"""The engine: one model, one decode pool, and the queues in front of them.

A form becomes a Study in the decode pool's processes, the Study what the model reads on the preparation thread, and an
answer on the model's thread, in batches. Explanations have a queue and a limit of their own and take turns with the
batches of diagnoses on that thread, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from consilium.api.explanations import explanation_answer
from consilium.api.schemas import (
    DiagnoseRequest,
    DiagnosisAnswer,
    DraftAnswer,
    DraftRequest,
    ExplainRequest,
    ModelInformation,
    SearchAnswer,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    parse_request,
)
from consilium.domain.diagnosis import Diagnosis, Explanation
from consilium.domain.errors import InputError
from consilium.modalities.converter import NotConverted
from consilium.modalities.presentation import Viewed
from consilium.output.drafting.draft_report import draft_report
from consilium.output.drafting.phrases import known_phrases
from service.audit_log.entries import Draft, Endpoint, Origin, StudyTask
from service.audit_log.recorder import Answered, Recorder
from service.batching import Batcher, BatchLimits
from service.http.multipart import FileBytes, Form
from service.http.problems import NotOffered
from service.observability.metrics import Metrics
from service.observability.tracing import tracing
from service.serving.answering import DiagnosisPlace, ExplanationOrder, ExplanationPlace, ReadForm
from service.serving.deployment import Deployment
from service.serving.intake import Files, Intake
from service.serving.searching import Searcher, Searching, SearchOrder, SearchPlace, SearchRecord, load_searcher
from service.serving.served_model import Case, Model, Role, diagnose, load_version, once_per_table
from service.serving.shadow import Shadow
from service.settings import Settings

if TYPE_CHECKING:
    from consilium.artifacts.model_registry import ResolvedModel
    from consilium.preprocessing.batch import Prepared

CARD_PATH = "/v1/model/card"
CARD_FROM_MODEL = "model/card"
"""Relative to `/v1/model`, which names it: a proxy may have put a prefix before all paths."""
CARD_PAGE = "card.html"
"""Of a model's card, the file that people read."""


class Engine:
    """Answers forms with a model. `start` before anything else, `stop` at the end, both within the event loop.

    `load` and `load_followed` are those of `service.serving.deployment.Deployment`, `load_index` that of
    `service.serving.searching.Searching`.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], Model],
        metrics: Metrics | None = None,
        load_followed: Callable[[Settings, ResolvedModel], Model] = load_version,
        load_index: Callable[[Settings], Searcher] = load_searcher,
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self._ready = False
        self._intake = Intake(settings)
        self._phrases = known_phrases(settings.draft_phrases, "CONSILIUM_DRAFT_PHRASES")
        self.recorder = Recorder(settings)
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._preparation_thread = ThreadPoolExecutor(1, thread_name_prefix="preparation")
        note = self.recorder.note_event
        self._deployment = Deployment(settings, load, load_followed, self._model_thread, self.metrics, note)
        self._shadow = Shadow(
            partial(self._deployment.loaded, Role.SHADOW),
            self.metrics,
            settings.shadow_queue,
            self.recorder.record_unsent,
        )
        self.searching = Searching(settings, self.metrics, self._model_thread, load_index)
        wait = settings.batch_wait_ms / 1000
        self.diagnoses: Batcher[Case, Diagnosis] = Batcher(
            self._diagnose, self._model_thread, BatchLimits(settings.batch_size, wait, settings.diagnosis_queue)
        )
        self.explanations: Batcher[ExplanationOrder, Explanation] = Batcher(
            self._explain, self._model_thread, BatchLimits(1, 0.0, settings.explanation_queue)
        )
        for name, batcher in (("diagnose", self.diagnoses), ("explain", self.explanations)):
            self.metrics.watch_queue(name, partial(_admitted, batcher), partial(_waiting, batcher))

    @property
    def ready(self) -> bool:
        """The model is loaded and has answered once."""
        return self._ready

    @property
    def model(self) -> Model:
        """The model that answers; none before `start` has ended."""
        return self._deployment.serving

    async def start(self) -> None:
        """Open the audit log, load the model and the search index, start the decode pool, open the queues."""
        await self.recorder.start()
        await self._deployment.start()
        await self.searching.start()
        await self._intake.start()
        self.diagnoses.start()
        self.explanations.start()
        self._shadow.start()
        self._ready = True

    async def stop(self) -> None:
        """Answer and record what was admitted, then end the threads and the decode pool."""
        if self._ready:
            await asyncio.gather(self.diagnoses.drain(), self.explanations.drain(), self.searching.drain())
        self._ready = False
        await self._shadow.stop()
        await self._deployment.stop()
        await self.recorder.stop()
        self._preparation_thread.shutdown(wait=False, cancel_futures=True)
        self._model_thread.shutdown(wait=False, cancel_futures=True)
        await self._intake.stop()

    async def poll(self) -> None:
        """Ask the registry now whether an alias has moved, and go on with the model it moved to."""
        await self._deployment.poll()

    async def diagnose(self, form: Form, place: DiagnosisPlace, origin: Origin) -> Answered:
        """The answer of `POST /v1/diagnose`, recorded; one that was given before to the same idempotency key."""
        request = parse_request(DiagnoseRequest, form.request)
        async with self.recorder.claimed(origin, form.shape, form.request, *form.contents) as claim:
            if isinstance(claim, bytes):
                return Answered(claim, replayed=True)
            draft = Draft(Endpoint.DIAGNOSE, origin, request.caller_reference, claim)
            case = await self._prepare(form, request, draft)
            with draft.stage("diagnose"):
                diagnosis = await place.submit(case)
            answer = DiagnosisAnswer(**dict(diagnosis), **draft.service_fields())
            return await self._recorded(draft, case, diagnosis, answer)

    async def read(self, form: Form) -> ReadForm:
        """What `form` consists of, decoded once for the models and for readers.

        Raises
        ------
        InputError, Unavailable
        """
        request = parse_request(ExplainRequest, form.request)
        with self.metrics.stage("decode"):
            files, viewed = await self._intake.decode_viewed(form.files, self._deployment.converters)
        model = self.model
        loop = asyncio.get_running_loop()
        study = await loop.run_in_executor(
            self._preparation_thread, partial(self._intake.study, files, request, model.variables)
        )
        return ReadForm(files, viewed, study, model.variables, model.recipe.inputs.window)

    async def view(self, name: str, data: FileBytes) -> Viewed:
        """What readers see of one file of those called `name`.

        Raises
        ------
        InputError, Unavailable
        """
        _, viewed = await self._intake.decode_viewed({name: (data,)}, {})
        return viewed[name][0]

    async def explain(
        self, form: Form, place: ExplanationPlace, origin: Origin, read: ReadForm | None = None
    ) -> Answered:
        """The answer of `POST /v1/explain`, recorded; `read` is the form where readers see it, too.

        Readers get maps as cells. Of a stored study the answer is theirs alone.
        """
        request = parse_request(ExplainRequest, form.request)
        if isinstance(origin.task, StudyTask):
            request = request.model_copy(update={"maps": "cells"})
        for number, name in enumerate(request.findings or ()):
            self.model.findings.index(name, f"findings[{number}]")
        draft = Draft(Endpoint.EXPLAIN, origin, request.caller_reference, origin.task)
        case = await self._prepare(form, request, draft, None if read is None else read.files)
        with draft.stage("explain"):
            make = partial(case.explain, request.findings, request.level)
            explanation = await place.submit(ExplanationOrder("explain", make))
        with draft.stage("draw"):
            drawn = partial(explanation_answer, explanation, **draft.service_fields())
            answer = await asyncio.to_thread(drawn, request.maps)
            other = read is not None and request.maps != "cells"
            for_readers = await asyncio.to_thread(drawn, "cells") if other else None
        return await self._recorded(draft, case, explanation.diagnosis, answer, for_readers)

    async def draft(self, form: Form, place: ExplanationPlace, origin: Origin) -> Answered:
        """The answer of `POST /v1/draft`, recorded: a draft of a report, and the diagnosis that it puts into words."""
        request = parse_request(DraftRequest, form.request)
        phrases = self._phrases.get(request.language)
        if phrases is None:
            raise InputError("language", request.language, f"must be one of {', '.join(sorted(self._phrases))}")
        draft = Draft(Endpoint.DRAFT, origin, request.caller_reference)
        case = await self._prepare(form, request, draft)
        with draft.stage("explain"):
            make = partial(case.explain, None, request.level)
            explanation = await place.submit(ExplanationOrder("explain", make))
        written = await asyncio.to_thread(draft_report, case.prepared.study, explanation, phrases)
        answer = DraftAnswer(**dict(explanation.diagnosis), draft=written, **draft.service_fields())
        return await self._recorded(draft, case, explanation.diagnosis, answer)

    async def similar(self, form: Form, place: ExplanationPlace, origin: Origin) -> Answered:
        """The answer of `POST /v1/similar`, recorded: similar training cases with their findings."""
        request = parse_request(SimilarRequest, form.request)
        draft = Draft(Endpoint.SIMILAR, origin, request.caller_reference)
        case = await self._prepare(form, request, draft)
        if case.model.neighbours is None:
            raise NotOffered("This model holds no training cases.")
        with draft.stage("similar"):
            found = await place.submit(ExplanationOrder("similar", partial(case.similar, request.count)))
        answer = SimilarAnswer(**dict(found.diagnosis), neighbours=found.neighbours, **draft.service_fields())
        return await self._recorded(draft, case, found.diagnosis, answer)

    async def search(self, form: Form, place: SearchPlace, origin: Origin) -> Answered:
        """The answer of `POST /v1/search`, recorded: cases and sentences of the index that are most like the study."""
        request = parse_request(SearchRequest, form.request)
        searcher, query = self.searching.searcher, self.searching.query(request)
        draft = Draft(Endpoint.SEARCH, origin, request.caller_reference)
        with self.metrics.stage("decode"), draft.stage("decode"):
            files = await self._intake.decode(form.files, {})

        def prepared() -> Prepared:
            return searcher.prepare(self._intake.study(files, request, searcher.variables))

        loop = asyncio.get_running_loop()
        with self.metrics.stage("prepare"), draft.stage("prepare"):
            item = await loop.run_in_executor(self._preparation_thread, prepared)
        with draft.stage("search"):
            found = await place.submit(SearchOrder(item, query))
        answer = SearchAnswer(**dict(found), **draft.service_fields())
        with self.metrics.stage("record"), tracing.stage("record"):
            return await self.recorder.record(draft, item.study, Role.SERVING, SearchRecord.of(found), answer)

    @property
    def card(self) -> str | None:
        """The page of the model's card; None where it has none."""
        return self.model.card.get(CARD_PAGE)

    def information(self) -> ModelInformation:
        """The answer of `GET /v1/model`."""
        model, settings = self.model, self.settings
        recipe = model.recipe
        return ModelInformation.model_validate(
            {
                "model": model.identity,
                "description": recipe.description,
                "reads": {
                    "modalities": list(recipe.modalities),
                    "before_hours": recipe.inputs.before_hours,
                    "after_hours": recipe.inputs.after_hours,
                    "parts": model.information,
                },
                "limits": {"body_bytes": settings.max_body_bytes, **settings.limits},
                "weights": model.weights,
                "audit": model.audit,
                "backend": None if model.acceptance is None else model.acceptance.to_json(),
                "card": None if self.card is None else CARD_FROM_MODEL,
                "search": self.searching.information,
                "deployment": self._deployment.information(),
            }
            | model.findings.to_json()
        )

    async def _recorded(
        self,
        draft: Draft,
        case: Case,
        diagnosis: Diagnosis,
        answer: DiagnosisAnswer,
        for_readers: DiagnosisAnswer | None = None,
    ) -> Answered:
        """What may be sent: recorded, counted, and given to the shadow."""
        with self.metrics.stage("record"), tracing.stage("record"):
            study = case.prepared.study
            answered = await self.recorder.record(draft, study, case.role, diagnosis, answer, for_readers)
        self.metrics.answered(case.role, diagnosis)
        self._shadow.submit(draft, case.read)
        return answered

    async def _prepare(self, form: Form, request: DiagnoseRequest, draft: Draft, files: Files | None = None) -> Case:
        loop = asyncio.get_running_loop()
        while True:
            if files is None:
                with self.metrics.stage("decode"), draft.stage("decode"):
                    files = await self._intake.decode(form.files, self._deployment.converters)
            try:
                with self.metrics.stage("prepare"), draft.stage("prepare"):
                    return await loop.run_in_executor(self._preparation_thread, self._prepared, files, request)
            except NotConverted:
                files = None  # A model was loaded meanwhile, which reads other arrays.

    def _prepared(self, files: Files, request: DiagnoseRequest) -> Case:
        return self._deployment.case(once_per_table(partial(self._intake.study, files, request)))

    def _diagnose(self, cases: Sequence[Case]) -> Sequence[Diagnosis]:
        self.metrics.batch_size.labels("diagnose").observe(len(cases))
        with self.metrics.stage("diagnose"):
            return diagnose(cases)

    def _explain(self, orders: Sequence[ExplanationOrder]) -> Sequence[Explanation]:
        explanations = []
        for order in orders:
            with self.metrics.stage(order.stage):
                explanations.append(order.make())
        return explanations


def _admitted(batcher: Batcher[Any, Any]) -> int:
    return batcher.admitted


def _waiting(batcher: Batcher[Any, Any]) -> int:
    return batcher.waiting
