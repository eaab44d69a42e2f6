from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.mlflow_store import open_store
from consilium.artifacts.model_registry import ResolvedModel
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Study
from consilium.modalities.image.image_record import Image
from service.serving.canary_share import CANARY_SHARE
from service.serving.deployment import patient_share
from service.serving.engine import Engine
from service.serving.served_model import Model, Role
from service.settings import Settings
from tests.consilium.tiny_artifact import tiny_artifact
from tests.service.fakes import note_study
from tests.service.following import Numbered, asked, numbered, run
from tests.service.registered import point, register

NAME = "deployed"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("deployed") / "artifact"
    save_artifact(place, tiny_artifact())
    return [register(place, NAME) for _ in range(3)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))


def _image(patient: str | None, digest: str) -> Image:
    return Image(np.zeros((4, 4), np.uint16), digest, "dicom", patient_digest=patient)


def test_all_studies_of_a_patient_go_one_way() -> None:
    first, second = (Study({"image": (_image("ab" * 32, digest * 32),)}) for digest in ("01", "02"))
    assert patient_share(first) == patient_share(second)
    other = Study({"image": (_image("cd" * 32, "01" * 32),)})
    assert patient_share(first) != patient_share(other)
    named = replace(note_study("Cough."), patient_id="p1")
    assert patient_share(named) == patient_share(replace(note_study("Fever."), patient_id="p1"))
    assert patient_share(note_study("Cough.")) == patient_share(note_study("Cough."))
    assert patient_share(note_study("Cough.")) != patient_share(note_study("Fever."))


def test_shares_are_spread_evenly() -> None:
    shares = [patient_share(note_study(f"note {number}")) for number in range(1000)]
    assert min(shares) >= 0
    assert max(shares) < 1
    below = sum(share < 0.2 for share in shares)
    assert 160 < below < 240


async def _filled(engine: Engine, role: Role) -> None:
    while engine._deployment.loaded(role) is None:
        await asyncio.sleep(0.005)


def test_the_canary_answers_its_share_and_no_other_study(versions: list[str]) -> None:
    champion, challenger = versions[:2]
    texts = [f"Cough for {days} days." for days in range(40)]
    expected = [challenger if patient_share(note_study(text)) < 0.3 else champion for text in texts]
    assert set(expected) == {champion, challenger}

    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        await _filled(engine, Role.CANARY)
        assert [await asked(client, text=text) for text in texts] == expected
        assert [await asked(client, "/v1/explain", text) for text in texts[:10]] == expected[:10]
        answer = (await client.get("/v1/model")).json()
        assert answer["model"]["version"] == champion
        assert (answer["deployment"]["canary"]["version"], answer["deployment"]["canary_share"]) == (challenger, 0.3)

    metrics = run(
        scenario,
        point(NAME, champion),
        numbered,
        canary=point(NAME, challenger, "challenger"),
        canary_share=0.3,
    )
    counted = metrics.registry.get_sample_value("consilium_answers_total", {"role": "canary", "version": challenger})
    assert counted == expected.count(challenger) + expected[:10].count(challenger)


def test_the_share_of_the_canary_is_what_the_registry_says_from_the_next_poll_on(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        await _filled(engine, Role.CANARY)
        assert await asked(client) == versions[0]
        for share, answering in (("1.0", versions[1]), ("0.0", versions[0])):
            open_store().set_model_version_tag(f"consilium-{NAME}", versions[1], CANARY_SHARE, share)
            await engine.poll()
            assert await asked(client) == answering
            assert (await client.get("/v1/model")).json()["deployment"]["canary_share"] == float(share)
        open_store().delete_model_version_tag(f"consilium-{NAME}", versions[1], CANARY_SHARE)

    run(scenario, point(NAME, versions[0]), numbered, canary=point(NAME, versions[1], "candidate"), canary_share=0)


def test_without_its_alias_there_is_no_canary(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        await _filled(engine, Role.CANARY)
        assert await asked(client) == versions[1]
        open_store().delete_registered_model_alias(f"consilium-{NAME}", "candidate")
        await engine.poll()
        assert await asked(client) == versions[0]
        assert (await client.get("/v1/model")).json()["deployment"]["canary"] is None
        point(NAME, versions[2], "candidate")
        await engine.poll()
        assert await asked(client) == versions[2]

    run(scenario, point(NAME, versions[0]), numbered, canary=point(NAME, versions[1], "candidate"), canary_share=1.0)


def test_a_canary_that_answers_something_else_is_refused_and_the_service_goes_on(versions: list[str]) -> None:
    class Other(Numbered):
        findings = FindingSet((Finding("oedema", "Oedema"),))

    def load(settings: Settings, found: ResolvedModel) -> Model:
        return (Other if found.identity.version == versions[1] else Numbered)(found.identity)

    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        await engine.poll()
        assert engine._deployment.loaded(Role.CANARY) is None
        assert await asked(client) == versions[0]

    metrics = run(
        scenario,
        point(NAME, versions[0]),
        load,
        canary=point(NAME, versions[1], "challenger"),
        canary_share=1.0,
    )
    refused = {"role": "canary", "reason": "findings"}
    assert metrics.registry.get_sample_value("consilium_model_refusals_total", refused) == 1


def test_an_answer_of_the_shadow_is_recorded_and_sent_to_nobody(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        await _filled(engine, Role.SHADOW)
        assert (await client.get("/v1/model")).json()["deployment"]["shadow"]["version"] == versions[1]
        assert await asked(client) == await asked(client, "/v1/explain") == versions[0]
        labels = {"role": "shadow", "version": versions[1]}
        while engine.metrics.registry.get_sample_value("consilium_answers_total", labels) != 2:
            await asyncio.sleep(0.005)

    run(scenario, point(NAME, versions[0]), numbered, shadow=point(NAME, versions[1], "shadow"))
    with closing(sqlite3.connect(Path(os.environ["CONSILIUM_HOME"]) / "audit-log.db")) as record:
        rows = record.execute("SELECT role, model_version, endpoint FROM results ORDER BY role, endpoint").fetchall()
    assert rows == [
        ("serving", versions[0], "diagnose"),
        ("serving", versions[0], "explain"),
        ("shadow", versions[1], "diagnose"),
        ("shadow", versions[1], "explain"),
    ]
