"""BentoML's own adaptive batching: a service that reads the study, and one with the model, which it depends on.

``bentoml serve _peers.bentoml_server:Front``. What the model reads of a study goes from one process to the other
pickled.
"""

from __future__ import annotations

import base64
import os
import pickle
from typing import Any

import bentoml

from _peers import BATCH, load, read_study


@bentoml.service(name="peer-model", traffic={"timeout": 120, "max_concurrency": 64})
class Model:
    def __init__(self) -> None:
        self.model = load()

    @bentoml.api(batchable=True, max_batch_size=int(os.environ[BATCH]), max_latency_ms=60_000)
    def diagnose(self, studies: list[str]) -> list[dict[str, Any]]:
        # Written a moment ago by `Front`, in this benchmark's own process group.
        prepared = [pickle.loads(base64.b64decode(study)) for study in studies]
        return [diagnosis.to_json() for diagnosis in self.model.diagnose_prepared(prepared)]


@bentoml.service(name="peer-front", traffic={"timeout": 120, "max_concurrency": 64})
class Front:
    model = bentoml.depends(Model)

    def __init__(self) -> None:
        self.preprocessing = load().preprocessing

    @bentoml.api
    async def diagnose(self, study: dict[str, Any]) -> dict[str, Any]:
        prepared = self.preprocessing.prepare(read_study(study))
        (answer,) = await self.model.to_async.diagnose([base64.b64encode(pickle.dumps(prepared)).decode()])
        return answer
