"""A service that follows an alias, in processes of its own: moves under load, a bad version, an outage, a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.cli import main
from consilium.domain.diagnosis import ModelIdentity
from service.app.launch import RunningService
from service.serving import last_verified
from service.serving.contract import Contract
from tests.patience import PATIENCE_S, until
from tests.service import registered
from tests.service.registered import point, register

NAME = "http"
SETTINGS = {"model_threads": 1, "device": "cpu", "poll_s": 0.2}
NOTE = {"request": (None, json.dumps({"notes": [{"kind": "history", "text": "fever cough"}]}), "application/json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("following")


@pytest.fixture(scope="module")
def versions(folder: Path) -> list[str]:
    """Two good ones and a tampered one."""
    found = [register(registered.save_tiny(folder / f"weights{seed}", seed), NAME) for seed in range(3)]
    (registered.stored(NAME, found[2]) / "calibration.json").write_text("{}")
    return found


def deployed(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{url}/v1/model", timeout=PATIENCE_S).json()
    return answer


async def ask_during(url: str, move: Callable[[], None]) -> list[tuple[str, float]]:
    """What four callers hear, version and probability, while `move` is made."""
    done = asyncio.Event()
    answered: list[tuple[str, float]] = []

    async def ask(client: httpx.AsyncClient) -> None:
        while not done.is_set():
            answer = await client.post("/v1/diagnose", files=NOTE)
            assert answer.status_code == httpx.codes.OK, answer.text
            body = answer.json()
            answered.append((body["model"]["version"], body["findings"][0]["probability"]))

    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(4)]
        await asyncio.to_thread(move)
        done.set()
        await asyncio.gather(*asking)
    return answered


def test_a_service_follows_its_alias_and_outlives_its_registry(
    folder: Path, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(folder / "home"))
    first, second, tampered = versions
    source = point(NAME, first)
    with RunningService(source, SETTINGS) as running:
        url = running.url

        def move() -> None:
            for version in (second, first, second):
                point(NAME, version)
                until(lambda: deployed(url)["model"]["version"] == version)  # noqa: B023 - called at once

        answered = asyncio.run(ask_during(url, move))
        by_version = {version: {round(p, 6) for v, p in answered if v == version} for version in (first, second)}
        assert {version for version, _ in answered} == {first, second}
        assert all(len(probabilities) == 1 for probabilities in by_version.values()), "each version has one answer"
        assert by_version[first] != by_version[second]

        point(NAME, tampered)
        until(lambda: deployed(url)["deployment"]["last_refusal"] is not None)
        answer = deployed(url)
        assert answer["model"]["version"] == second
        assert answer["deployment"]["last_refusal"]["reason"] == "digest"
        assert httpx.get(f"{url}/readyz", timeout=PATIENCE_S).status_code == httpx.codes.OK
        metrics = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
        assert 'consilium_model_refusals_total{reason="digest",role="serving"} 1.0' in metrics
        assert 'consilium_model_swaps_total{role="serving"} 3.0' in metrics
        assert f"version {tampered} is refused (digest)" in running.log()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'nowhere.db'}")
    with RunningService(source, SETTINGS) as running:
        answer = deployed(running.url)
        assert answer["model"]["version"] == second
        assert answer["deployment"]["registry"] == "unreachable"
        assert "starting from the last verified copy" in running.log()


def test_the_command_starts_without_a_registry_only_what_has_served_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr("service.app.launch.serve", lambda *arguments: started.append(arguments))
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'nowhere.db'}")
    source = f"models:/consilium-{NAME}@champion"
    assert main(["serve", source]) == 1
    assert "model store" in capsys.readouterr().err
    contract = Contract(findings=(("pneumonia", None),), exclusive=False, modalities=("image",))
    last_verified.note(source, ModelIdentity(f"consilium-{NAME}", "1", "ab" * 32), contract)
    assert main(["serve", source]) == 0
    assert [arguments[0] for arguments in started] == [source]
