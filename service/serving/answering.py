"""What answers studies, as worklists and jobs see it: `service.serving.engine.Engine` and nothing more of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from consilium.domain.diagnosis import Diagnosis, Explanation
from service.audit_log.entries import Origin
from service.audit_log.recorder import Answered, Recorder
from service.batching import Batcher, Place
from service.http.multipart import Form
from service.observability.metrics import Metrics
from service.serving.served_model import Case
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class ExplanationOrder:
    """What is asked of the model's thread for one explanation, or one answer by similar cases.

    `stage` is its name in the metrics.
    """

    stage: str
    make: Callable[[], Explanation]


DiagnosisPlace: TypeAlias = Place[Case, Diagnosis]
ExplanationPlace: TypeAlias = Place[ExplanationOrder, Explanation]


class Answering(Protocol):
    """Answers one study at a time; its queues have places for so many."""

    settings: Settings
    metrics: Metrics
    recorder: Recorder
    diagnoses: Batcher[Case, Diagnosis]
    explanations: Batcher[ExplanationOrder, Explanation]

    async def diagnose(self, form: Form, place: DiagnosisPlace, origin: Origin) -> Answered: ...

    async def explain(self, form: Form, place: ExplanationPlace, origin: Origin) -> Answered: ...
