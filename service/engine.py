"""The engine: one model, one decode pool, and the queues in front of them.

A form becomes a Study in the decode pool's processes, the Study what the model reads on the preparation thread, and an
answer on the model's thread, in batches. Explanations have a queue and a limit of their own and take turns with the
batches of diagnoses on that thread, one at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from consilium.diagnosis import AuditVerdict, Diagnosis, Explanation, ModelIdentity
from consilium.findings import FindingSet
from consilium.recipe import Recipe
from consilium.schemas import (
    DiagnoseRequest,
    DiagnosisAnswer,
    ExplainRequest,
    ExplanationAnswer,
    ModelInformation,
    parse_request,
)
from consilium.study import Image, Note, NoteKind, Patient, Sex, Study
from service.batching import Batcher, BatchLimits, Place
from service.form import Form
from service.intake import Intake
from service.overlays import overlay
from service.settings import Settings

if TYPE_CHECKING:
    from consilium.collate import Prepared

logger = logging.getLogger("consilium.service")

CARD_PATH = "/v1/model/card"
CARD_PAGE = "card.html"
"""Of a model's card, the file that people read."""


class Model(Protocol):
    """What the engine asks of a `consilium.diagnostician.Diagnostician`."""

    identity: ModelIdentity
    recipe: Recipe
    findings: FindingSet

    @property
    def audit(self) -> AuditVerdict: ...

    @property
    def card(self) -> Mapping[str, str]: ...

    def prepare(self, study: Study) -> Prepared: ...

    def diagnose_prepared(self, items: Sequence[Prepared]) -> list[Diagnosis]: ...

    def explain_prepared(
        self, item: Prepared, findings: Sequence[str] | None = None, level: str = "fast"
    ) -> Explanation: ...


@dataclass(frozen=True, slots=True)
class ExplanationOrder:
    """What is asked of the model's thread for one explanation."""

    prepared: Prepared
    findings: tuple[str, ...] | None
    level: str


DiagnosisPlace: TypeAlias = "Place[Prepared, Diagnosis]"
ExplanationPlace: TypeAlias = "Place[ExplanationOrder, Explanation]"


class Engine:
    """Answers forms with a model. `start` before anything else, `stop` at the end, both within the event loop."""

    def __init__(self, settings: Settings, load: Callable[[Settings], Model]) -> None:
        self.settings = settings
        self._load = load
        self._model: Model | None = None
        self._intake = Intake(settings)
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._preparation_thread = ThreadPoolExecutor(1, thread_name_prefix="preparation")
        wait = settings.batch_wait_ms / 1000
        self.diagnoses: Batcher[Prepared, Diagnosis] = Batcher(
            self._diagnose, self._model_thread, BatchLimits(settings.batch_size, wait, settings.diagnosis_queue)
        )
        self.explanations: Batcher[ExplanationOrder, Explanation] = Batcher(
            self._explain, self._model_thread, BatchLimits(1, 0.0, settings.explanation_queue)
        )

    @property
    def ready(self) -> bool:
        """The model is loaded and has answered once."""
        return self._model is not None

    @property
    def model(self) -> Model:
        """The model that answers; none before `start` has ended."""
        if self._model is None:
            raise RuntimeError("the engine was not started")
        return self._model

    async def start(self) -> None:
        """Load the model, start the decode pool, let the model answer once, open the queues."""
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(self._model_thread, self._load, self.settings)
        await self._intake.start()
        await loop.run_in_executor(self._model_thread, _warm_up, model)
        self.diagnoses.start()
        self.explanations.start()
        self._model = model
        logger.info("ready: %s version %s", model.identity.name, model.identity.version)

    async def stop(self) -> None:
        """Answer what was admitted, then end the threads and the decode pool."""
        if self._model is not None:
            await asyncio.gather(self.diagnoses.drain(), self.explanations.drain())
        self._model = None
        self._preparation_thread.shutdown(wait=False, cancel_futures=True)
        self._model_thread.shutdown(wait=False, cancel_futures=True)
        await self._intake.stop()

    async def diagnose(self, form: Form, place: DiagnosisPlace) -> DiagnosisAnswer:
        """The answer of `POST /v1/diagnose`."""
        request = parse_request(DiagnoseRequest, form.request)
        diagnosis = await place.submit(await self._prepare(form, request))
        return DiagnosisAnswer.model_validate(diagnosis.to_json() | {"caller_reference": request.caller_reference})

    async def explain(self, form: Form, place: ExplanationPlace) -> ExplanationAnswer:
        """The answer of `POST /v1/explain`."""
        request = parse_request(ExplainRequest, form.request)
        for name in request.findings or ():
            self.model.findings.index(name)
        order = ExplanationOrder(await self._prepare(form, request), request.findings, request.level)
        explanation = await place.submit(order)
        return await asyncio.to_thread(_explanation_answer, explanation, request.caller_reference)

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
                "model": model.identity.to_json(),
                "description": recipe.description,
                "reads": {
                    "modalities": [modality.value for modality in recipe.modalities],
                    "note_kinds": [kind.value for kind in recipe.inputs.note_kinds],
                    "before_hours": recipe.inputs.before_hours,
                    "after_hours": recipe.inputs.after_hours,
                },
                "limits": {
                    "body_bytes": settings.max_body_bytes,
                    "images": settings.max_images,
                    "image_bytes": settings.max_image_bytes,
                    "notes": settings.max_notes,
                    "note_characters": settings.max_note_characters,
                    "observations": settings.max_observations,
                },
                "audit": model.audit.to_json(),
                "card": None if self.card is None else CARD_PATH,
            }
            | model.findings.to_json()
        )

    async def _prepare(self, form: Form, request: DiagnoseRequest) -> Prepared:
        images = await self._intake.decode(form.images)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._preparation_thread, self._prepared, images, request)

    def _prepared(self, images: list[Image], request: DiagnoseRequest) -> Prepared:
        return self.model.prepare(self._intake.study(images, request))

    def _diagnose(self, items: Sequence[Prepared]) -> Sequence[Diagnosis]:
        return self.model.diagnose_prepared(items)

    def _explain(self, orders: Sequence[ExplanationOrder]) -> Sequence[Explanation]:
        return [self.model.explain_prepared(order.prepared, order.findings, order.level) for order in orders]


def load_diagnostician(settings: Settings) -> Model:
    """The model that `settings` name. Runs on the model's thread: torch keeps its thread count per thread."""
    from consilium.diagnostician import Diagnostician
    from consilium.threads import limit_threads

    limit_threads(settings.model_threads)
    return Diagnostician.load(settings.model, settings.device)


def _warm_up(model: Model) -> None:
    """Answer and explain a made-up study, so that the first caller does not wait for what is done once."""
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)
    study = Study(
        images=(Image(np.tile(ramp, (256, 1)), digest="", source="png"),),
        notes=tuple(Note(kind, "Cough and fever for three days.") for kind in NoteKind),
        patient=Patient(60.0, Sex.FEMALE),
    )
    prepared = model.prepare(study)
    model.diagnose_prepared([prepared])
    model.explain_prepared(prepared)


def _explanation_answer(explanation: Explanation, caller_reference: str | None) -> ExplanationAnswer:
    """The answer with its overlays; encoding pictures takes time, so not on the event loop."""
    answer = explanation.to_json()
    for finding, said in zip(explanation.findings, answer["explanations"], strict=True):
        for saliency, image in zip(finding.images, said["images"], strict=True):
            image["overlay"] = overlay(saliency).model_dump()
    return ExplanationAnswer.model_validate(answer | {"caller_reference": caller_reference})
