"""What answers studies, as worklists and jobs see it: `service.serving.engine.Engine` and nothing more of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from consilium.domain.diagnosis import Diagnosis, Explanation
from consilium.domain.study import Study, Window
from consilium.domain.variables import VariableTable
from consilium.modalities.presentation import Viewed
from service.audit_log.entries import Origin
from service.audit_log.recorder import Answered, Recorder
from service.batching import Batcher, Place
from service.http.multipart import FileBytes, Form
from service.observability.metrics import Metrics
from service.serving.intake import Files
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


@dataclass(frozen=True, slots=True, eq=False)
class ReadForm:
    """A form whose files were decoded once, for the models and for readers.

    Attributes
    ----------
    files : mapping
        The decoded files, for the models.
    viewed : mapping
        What readers see of the files of each name.
    study : Study
        Read with `variables`, those of the model that serves.
    window : Window
        Of that model.
    """

    files: Files
    viewed: Mapping[str, Sequence[Viewed]]
    study: Study
    variables: VariableTable
    window: Window


class Answering(Protocol):
    """Answers one study at a time; its queues have places for so many."""

    settings: Settings
    metrics: Metrics
    recorder: Recorder
    diagnoses: Batcher[Case, Diagnosis]
    explanations: Batcher[ExplanationOrder, Explanation]

    async def diagnose(self, form: Form, place: DiagnosisPlace, origin: Origin) -> Answered: ...

    async def explain(
        self, form: Form, place: ExplanationPlace, origin: Origin, read: ReadForm | None = None
    ) -> Answered: ...

    async def read(self, form: Form) -> ReadForm: ...

    async def view(self, name: str, data: FileBytes) -> Viewed: ...
