"""Two processes of the service on one PostgreSQL database are one service: sessions, studies and reads are shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import numpy as np

from consilium.api.schemas import StudyList
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.auth.api_keys import create_key
from service.auth.guard import Guard
from service.auth.middleware import Authentication
from service.page.page import Page
from service.scopes import Scope
from service.settings import Settings
from tests.consilium.formats.dicom.dicom_files import ramp
from tests.patience import PATIENCE_S
from tests.postgres import Cluster
from tests.service.fakes import FakeModel
from tests.service.page.harness import HERE, changing, sign_in
from tests.service.studies.test_studies import FIRST, PATH, ended, film, form, submitted


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """One process's worth of the service, and a browser that reaches it."""
    app, guard = create_app(), Guard()
    lifecycle = Lifecycle(settings, lambda _: FakeModel(), app.state.metrics)
    await lifecycle.start()
    guard.start(settings)
    app.state.lifecycle, app.state.page = lifecycle, Page(settings, guard)
    try:
        transport = httpx.ASGITransport(Authentication(app, guard))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            yield client
    finally:
        await guard.stop()
        app.state.page.close()
        await lifecycle.stop()


def test_what_one_replica_took_is_read_at_the_other(cluster: Cluster, key_file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    token = create_key(keys, "Dr House", [Scope.READ, Scope.DIAGNOSE], ["chest"])[1]
    settings = Settings(
        model="fake", studies=True, keys=keys, audit_log_url=cluster.new_database(), audit_log_keys=key_file
    )

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            one, other = [await stack.enter_async_context(replica(settings)) for _ in range(2)]
            changes = changing(await sign_in(one, token))
            other.cookies = one.cookies
            assert (await other.get("/read/session")).json()["signed_in"] is True

            study = await submitted(one, form(film()), headers=changes)
            found = await ended(other, study)
            assert found.state == "answered"
            words = await other.get(f"{PATH}/{study.study_id}/images/0")
            np.testing.assert_array_equal(np.frombuffer(words.content, "<u2").reshape(48, 64), ramp())

            hidden = await one.get(f"{PATH}/{study.study_id}/answer")
            assert hidden.status_code == 409, "no first read is recorded yet"
            read = await other.post(f"{PATH}/{study.study_id}/reads", json=FIRST, headers=changes)
            assert read.status_code == 201, read.text
            assert (await one.get(f"{PATH}/{study.study_id}/answer")).status_code == 200
            (line,) = StudyList.model_validate_json((await one.get(PATH)).text).studies
            assert (line.study_id, line.read) == (study.study_id, "first")

            assert (await other.delete("/read/session", headers=changes)).status_code == 204
            assert (await one.get(PATH)).status_code == 401

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
