"""The service with a model that answers at once: ``bentoml serve benchmarks._null_service:Consilium``.

Reading, preparation, queues, audit log and answers are the service's own. The answer of the network is
computed once, for the first study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from consilium.domain.diagnosis import Diagnosis
from service.app.service import Consilium
from service.serving import served_model as model
from service.settings import Settings

if TYPE_CHECKING:
    from consilium.preprocessing.batch import Prepared

__all__ = ["Consilium"]

_load = model.load_diagnostician


class NullModel:
    """The model that `inner` is, but for its network."""

    def __init__(self, inner: model.Model) -> None:
        self._inner = inner
        self._diagnosis: Diagnosis | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def diagnose_prepared(self, items: Sequence[Prepared]) -> list[Diagnosis]:
        if self._diagnosis is None:
            (self._diagnosis,) = self._inner.diagnose_prepared(items[:1])
        studies = [item.study for item in items]
        changes = [{"input_digests": one.input_digests(), "warnings": one.warnings} for one in studies]
        return [self._diagnosis.model_copy(update=change) for change in changes]


def _load_null(settings: Settings) -> Any:
    return NullModel(_load(settings))


# The worker's engine looks it up when it starts.
model.load_diagnostician = _load_null
