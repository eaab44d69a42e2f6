"""What stands behind the routes while a service runs: the engine, and what hands it several studies at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from service.jobs.runner import Jobs
from service.observability.metrics import Metrics
from service.observability.monitor_files import MonitorFiles, MonitorGauges
from service.serving.engine import Engine
from service.serving.searching import Searcher, load_searcher
from service.serving.served_model import Model, load_diagnostician, load_version
from service.serving.worklist import Worklists
from service.settings import Settings
from service.studies.study_runner import Studies

if TYPE_CHECKING:
    from consilium.artifacts.model_registry import ResolvedModel


class Lifecycle:
    """Builds, starts and stops it all, within the event loop.

    `load` and `load_followed` are those of `service.serving.deployment.Deployment`, `load_index` that of
    `service.serving.searching.Searching`.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], Model] = load_diagnostician,
        metrics: Metrics | None = None,
        load_followed: Callable[[Settings, ResolvedModel], Model] = load_version,
        load_index: Callable[[Settings], Searcher] = load_searcher,
    ) -> None:
        self.settings = settings
        self.engine = Engine(settings, load, metrics or Metrics(), load_followed, load_index)
        self.worklists = Worklists(settings)
        self.studies = Studies(self.engine)
        self.jobs = Jobs(self.engine, self.studies)
        self.monitor = MonitorFiles(self._model_name)
        self.engine.metrics.registry.register(MonitorGauges(self.monitor))
        self.engine.metrics.admitted.labels("worklist").set_function(lambda: self.worklists.admitted)

    @property
    def ready(self) -> bool:
        """Whether answers can be expected: the model answers, and what must be recorded can be."""
        return self.engine.ready and self.engine.recorder.ready

    def _model_name(self) -> str | None:
        return self.engine.model.identity.name if self.engine.ready else None

    async def start(self) -> None:
        """Open the audit log, load the model, let it answer once, begin with jobs."""
        await self.engine.start()
        self.jobs.start()
        self.studies.start()

    async def stop(self) -> None:
        """Answer and record what was admitted; jobs go on elsewhere, or at the next start."""
        await self.studies.stop()
        await self.jobs.stop()
        await self.engine.stop()
