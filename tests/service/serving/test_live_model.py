from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import httpx
import pytest

from consilium.api.schemas import ModelInformation
from consilium.artifacts.model_registry import ResolvedModel
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import WrongAnswers
from consilium.inference.diagnostician import Diagnostician
from consilium.inference.self_test import Backend
from service.observability.metrics import Metrics
from service.serving.engine import Engine
from service.serving.live_model import LiveModel
from service.serving.served_model import Case, Model, Role, diagnose, load_diagnostician, load_version
from service.settings import Settings
from tests.consilium.tiny import tiny_study
from tests.patience import PATIENCE_S
from tests.service.fakes import FakeModel, note_study, reads
from tests.service.following import Numbered, asked, numbered, run
from tests.service.registered import moved, point, register

NAME = "live"


@pytest.fixture(scope="module")
def versions(tiny_folder: Path) -> list[str]:
    """Three versions that differ in nothing but their numbers: `Numbered` is loaded for each."""
    return [register(tiny_folder, NAME) for _ in range(3)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))


def test_answers_come_from_the_version_that_the_alias_stands_for(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        assert await asked(client) == versions[0]
        point(NAME, versions[1])
        assert await asked(client) == versions[0], "nobody has looked yet"
        for version in (versions[1], versions[2], versions[1]):
            point(NAME, version)
            await engine.poll()
            assert await asked(client) == await asked(client, "/v1/explain") == version
            answer = ModelInformation.model_validate_json((await client.get("/v1/model")).text)
            assert answer.model.version == version

    metrics = run(scenario, point(NAME, versions[0]), numbered)
    assert metrics.registry.get_sample_value("consilium_model_swaps_total", {"role": "serving"}) == 3
    loaded = {
        sample.labels["version"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "consilium_model_info"
    }
    assert loaded == {versions[1]: 1.0}, "one version is shown, the one that serves"


def test_the_poll_task_finds_a_move_by_itself(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        point(NAME, versions[1])
        while engine.model.identity.version != versions[1]:
            await asyncio.sleep(0.01)
        assert await asked(client) == versions[1]

    run(scenario, point(NAME, versions[0]), numbered, poll_s=0.01)


def test_a_refused_version_is_shown_and_the_service_stays_ready(tiny_folder: Path, versions: list[str]) -> None:
    bad = register(tiny_folder, NAME)

    def load(settings: Settings, found: ResolvedModel) -> Model:
        if found.identity.version == bad:
            raise MemoryError
        return numbered(settings, found)

    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        answer = (await client.get("/v1/model")).json()["deployment"]
        assert (answer["follows"], answer["registry"], answer["last_refusal"]) == (
            engine.settings.model,
            "reachable",
            None,
        )
        point(NAME, bad)
        await engine.poll()
        assert engine.ready
        assert await asked(client) == versions[0]
        refusal = (await client.get("/v1/model")).json()["deployment"]["last_refusal"]
        assert (refusal["model"]["version"], refusal["reason"]) == (bad, "memory")
        point(NAME, versions[1])
        await engine.poll()
        assert await asked(client) == versions[1]

    run(scenario, point(NAME, versions[0]), load)


def test_a_request_ends_on_the_model_it_began_with(versions: list[str]) -> None:
    """One is being answered, others wait for the next batch; the swap comes before them, and they keep their model."""
    made: list[Numbered] = []

    def load(_: Settings, found: ResolvedModel) -> Model:
        made.append(Numbered(found.identity))
        return made[-1]

    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        (old,) = made
        old.entered.clear()
        old.hold.clear()
        first = asyncio.create_task(asked(client))
        await asyncio.to_thread(old.entered.wait, PATIENCE_S)
        waiting = [asyncio.create_task(asked(client, path)) for path in ("/v1/diagnose", "/v1/diagnose", "/v1/explain")]
        while engine.diagnoses.waiting < 2 or engine.explanations.admitted < 1:
            await asyncio.sleep(0.001)
        point(NAME, versions[1])
        swap = asyncio.create_task(engine.poll())
        while len(made) < 2:
            await asyncio.sleep(0.001)
        assert engine.model is old, "never in the middle of a batch"
        old.hold.set()
        await swap
        assert await asyncio.gather(first, *waiting) == [versions[0]] * 4
        assert await asked(client) == versions[1]

    run(scenario, point(NAME, versions[0]), load)


def test_every_answer_under_load_is_of_a_version_that_was_champion(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        stop = asyncio.Event()

        async def caller(path: str) -> list[str]:
            answered = []
            while not stop.is_set():
                answered.append(await asked(client, path))
            return answered

        callers = [asyncio.create_task(caller(path)) for path in ["/v1/diagnose"] * 7 + ["/v1/explain"]]
        for version in (versions[1], versions[2], versions[0]):
            point(NAME, version)
            await engine.poll()
        stop.set()
        answered = await asyncio.gather(*callers)
        order = [versions[0], versions[1], versions[2], versions[0]]
        for answers in answered:
            changes = [version for i, version in enumerate(answers) if i == 0 or version != answers[i - 1]]
            assert _in_order(changes, order), changes
        assert set().union(*answered) <= set(versions)
        assert len(set().union(*answered)) > 1

    run(scenario, point(NAME, versions[0]), numbered)


def _in_order(found: list[str], order: list[str]) -> bool:
    rest = iter(order)
    return all(version in rest for version in found)


def test_a_batch_is_split_by_model_and_keeps_its_order() -> None:
    one, two = (Numbered(ModelIdentity("consilium-x", number, "0" * 64)) for number in "12")
    texts = ["a", "bb", "ccc", "dddd"]
    cases = [Case.of(model, reads(note_study(text))) for model, text in zip((one, two, one, two), texts, strict=True)]
    answers = diagnose(cases)
    assert [answer.model.version for answer in answers] == ["1", "2", "1", "2"]
    assert [answer.findings[0].probability for answer in answers] == [0.001, 0.002, 0.003, 0.004]
    assert (one.batches, two.batches) == ([2], [2])
    assert diagnose([]) == []


def test_the_old_model_is_freed_when_its_last_answer_is_given(versions: list[str]) -> None:
    """By reference counts alone, and with a real one, whose parts could refer to each other."""
    freed = threading.Event()

    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        assert await asked(client) == await asked(client, "/v1/explain") == versions[0]
        old = weakref.ref(engine.model)
        weights = weakref.ref(engine.model.model)  # type: ignore[attr-defined]
        case = Case.of(engine.model, reads(tiny_study(1)))
        point(NAME, versions[1])
        gc.disable()
        try:
            await engine.poll()
            assert await asked(client) == versions[1]
            assert old() is case.model
            weakref.finalize(case.model, freed.set)
            del case
            await asyncio.to_thread(freed.wait, PATIENCE_S)
            assert old() is None
            assert weights() is None
        finally:
            gc.enable()

    run(scenario, point(NAME, versions[0]), load_version)
    assert freed.is_set()


def test_a_folder_does_not_move(tiny_folder: Path) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        before = engine.model
        assert isinstance(before, Diagnostician)
        await engine.poll()
        assert engine.model is before
        deployment = (await client.get("/v1/model")).json()["deployment"]
        assert (deployment["follows"], deployment["registry"]) == (None, None)

    run(scenario, str(tiny_folder), load_version)


def test_a_folder_whose_answers_are_off_is_no_model_to_start_with(tiny_folder: Path, tmp_path: Path) -> None:
    source = str(moved(tiny_folder, tmp_path / "moved"))
    with pytest.raises(WrongAnswers, match="what it was when the model was trained"):
        load_diagnostician(Settings(model=source, device="cpu"))
    model = load_diagnostician(Settings(model=source, device="cpu", reference_bound=0.5))
    assert model.acceptance is not None
    assert (model.acceptance.backend, model.acceptance.tolerance.reference) == (Backend.EAGER, 0.5)


def test_a_fixed_version_does_not_move(versions: list[str]) -> None:
    async def scenario(engine: Engine, client: httpx.AsyncClient) -> None:
        point(NAME, versions[1])
        await engine.poll()
        assert await asked(client) == versions[0]

    run(scenario, f"models:/consilium-{NAME}/{versions[0]}", load_version)


def test_a_poll_that_breaks_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Model | None] = []

    def follow(loaded: Model | None) -> Model | None:
        calls.append(loaded)
        if len(calls) == 1:
            raise ZeroDivisionError
        return FakeModel() if len(calls) == 2 else loaded

    async def go() -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as thread:
            live = LiveModel(Role.SERVING, follow, thread, Metrics(), poll_s=0.001)
            first = FakeModel()
            live.begin(first)
            while len(calls) < 3:
                await asyncio.sleep(0.001)
            await live.stop()
            assert calls[1] is first
            assert calls[2] is not first
            assert live.current is None

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
    assert "the next poll tries again" in caplog.text
