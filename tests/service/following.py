"""An engine that follows aliases, with fake models behind it, and its application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from consilium.artifacts.model_registry import ResolvedModel
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.study import Study
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.observability.metrics import Metrics
from service.serving.engine import Engine
from service.serving.served_model import Model, load_diagnostician
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.service.fakes import FakeModel

Scenario = Callable[[Engine, httpx.AsyncClient], Awaitable[None]]


class Numbered(FakeModel):
    """A fake of a version, which refuses to answer what another one has prepared."""

    def __init__(self, identity: ModelIdentity) -> None:
        super().__init__()
        self.identity = identity

    def prepare(self, study: Study) -> Any:
        prepared = super().prepare(study)
        prepared.by = self
        return prepared

    def diagnose_prepared(self, items: Any) -> Any:
        assert all(item.by is self for item in items), "prepared for another model"
        return super().diagnose_prepared(items)

    def explain_prepared(self, item: Any, findings: Any = None, level: str = "fast") -> Any:
        assert item.by is self, "prepared for another model"
        return super().explain_prepared(item, findings, level)


def run(scenario: Scenario, source: str, load: Callable[[Settings, ResolvedModel], Model], **settings: Any) -> Metrics:
    """Run `scenario` against an engine that follows `source`; it polls when the scenario says so."""
    metrics = Metrics()

    async def go() -> None:
        lifecycle = Lifecycle(
            Settings(model=source, device="cpu", **({"poll_s": 3600} | settings)), load_diagnostician, metrics, load
        )
        await lifecycle.start()
        app = create_app()
        app.state.lifecycle = lifecycle
        try:
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=PATIENCE_S) as client:
                await scenario(lifecycle.engine, client)
        finally:
            await lifecycle.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
    return metrics


def numbered(_: Settings, found: ResolvedModel) -> Model:
    return Numbered(found.identity)


def note(text: str) -> dict[str, Any]:
    return {"request": (None, json.dumps({"notes": [{"kind": "history", "text": text}]}), "application/json")}


async def asked(client: httpx.AsyncClient, path: str = "/v1/diagnose", text: str = "Cough.") -> str:
    """The version that answered."""
    answer = await client.post(path, files=note(text))
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model"]["version"]
    return version
