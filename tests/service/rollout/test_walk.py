"""A version's way through its stages: what the registry says after each step, and after a kill between two."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from consilium.api.schemas import FeedbackRequest
from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.mlflow_store import open_store
from consilium.artifacts.version_events import GateRecord, note_gate
from consilium.cli import main
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import NotGated, RegistryError
from consilium.domain.study import Study
from consilium.modalities.text.note import Note, NoteKind
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Endpoint, Entry, Origin
from service.audit_log.pseudonyms import make_keys, read_keys
from service.audit_log.store import Store
from service.rollout import rollout_state, walk
from service.rollout.rollout_plan import read_plan
from service.rollout.rollout_state import PROMOTED, RUNNING, STOPPED, begin, read_state, running, steps
from service.rollout.rollout_verdict import Action
from service.serving.canary_share import CANARY_SHARE
from tests.consilium.tiny_artifact import tiny_artifact
from tests.service.fakes import FakeModel
from tests.service.registered import point, register
from tests.service.rollout.killed_run import rollout_run

NAME, MODEL = "walked", "consilium-walked"
PLAN = read_plan(
    {
        "stages": [
            {"role": "shadow", "hours": 1, "answers": 3},
            {"role": "canary", "share": 0.25, "hours": 1, "answers": 3},
        ],
        "stop": {"agreement": 0.5, "errors": 0.1, "latency": 2},
        "poll_s": 0.01,
    }
)
BEGUN = datetime(2026, 5, 1, tzinfo=UTC)
AT_ONCE = {
    "stages": [
        {"role": "shadow", "hours": 0, "answers": 1},
        {"role": "canary", "share": 0.25, "hours": 0, "answers": 1},
    ],
    "stop": {},
    "poll_s": 0.01,
}
"""A way that ends as soon as there is an answer in each role."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.service.rollout.killed_run"])


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("walked") / "artifact"
    save_artifact(place, tiny_artifact())
    return [register(place, NAME) for _ in range(3)]


@pytest.fixture
def pair(versions: list[str]) -> Iterator[tuple[str, str]]:
    """The champion, and a version that nothing was done with yet."""
    champion, candidate, other = versions
    point(NAME, champion)
    for version in (candidate, other):
        digest = registry.describe(MODEL, version).manifest_digest
        note_gate(MODEL, version, GateRecord(True, "0" * 64, digest, "1" * 32))
    yield champion, candidate
    client = open_store()
    for version in registry.list_versions(MODEL):
        for tag in version.tags:
            if tag.startswith(("rollout", "gate", "promoted")) or tag == CANARY_SHARE:
                client.delete_model_version_tag(MODEL, version.version, tag)
    for alias in aliases():
        client.delete_registered_model_alias(MODEL, alias)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    make_keys(tmp_path / "keys")
    database = Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db'}"))
    yield Store(database, read_keys(tmp_path / "keys"))
    database.close()


def answered(store: Store, version: str, role: str, *, words: str = "Cough.", request: str = "", hours: float = 0.5):
    """An answer `hours` after the beginning; a note of more than 500 letters is called."""
    model = FakeModel()
    model.identity = ModelIdentity(MODEL, version, "ab" * 32)
    study = Study({"text": (Note(NoteKind.HISTORY, words),)})
    one = Entry(
        result_id=uuid4(),
        time=BEGUN + timedelta(hours=hours),
        endpoint=Endpoint.DIAGNOSE,
        origin=Origin("key:ward3", request or str(uuid4())),
        diagnosis=model._diagnosis(study),
        study=study,
        caller_reference=None,
        latencies_ms={"diagnose": 20.0},
        body=b"{}",
        role=role,
    )
    assert store.commit([one], 60) == [None]
    return one.result_id


def both(store: Store, champion: str, candidate: str, number: int, hours: float = 0.5, words: str = "Cough.") -> None:
    """Studies that the champion answered, and the candidate as shadow."""
    for _ in range(number):
        request = str(uuid4())
        answered(store, champion, "serving", request=request, hours=hours)
        answered(store, candidate, "shadow", request=request, hours=hours, words=words)


def aliases() -> dict[str, str]:
    return {alias: v.version for v in registry.list_versions(MODEL) for alias in v.aliases if alias != "challenger"}


def share(version: str) -> str | None:
    return registry.describe(MODEL, version).tags.get(CANARY_SHARE)


def test_a_good_version_goes_from_shadow_over_canary_to_champion(pair: tuple[str, str], store: Store) -> None:
    champion, candidate = pair
    begin(MODEL, candidate, PLAN, "asked for", BEGUN)

    both(store, champion, candidate, 3)
    state, verdict = walk.step(store, MODEL, candidate, BEGUN + timedelta(minutes=30))
    assert (state.stage, verdict.action) == (0, Action.WAIT)
    assert aliases() == {"champion": champion, "shadow": candidate}

    begun = BEGUN + timedelta(hours=1)
    state, _ = walk.step(store, MODEL, candidate, begun)
    assert (state.stage, state.status, state.since) == (1, RUNNING, begun)
    assert (aliases(), share(candidate)) == ({"champion": champion, "canary": candidate}, "0.25")

    for _ in range(3):
        answered(store, champion, "serving", hours=1.5)
        answered(store, candidate, "canary", hours=1.5)
    state, _ = walk.step(store, MODEL, candidate, begun + timedelta(hours=1))
    assert (state.status, aliases()["champion"], "canary" in aliases()) == (PROMOTED, candidate, False)
    assert running(MODEL) is None
    assert [line.split(",")[0] for _, line in steps(MODEL, candidate)] == ["running", "running", "promoted"]


def test_a_version_that_is_wrong_more_often_is_stopped_and_stays_so(pair: tuple[str, str], store: Store) -> None:
    champion, candidate = pair
    begin(MODEL, candidate, PLAN, "asked for", BEGUN)
    both(store, champion, candidate, 150, words="x" * 600)
    for answer in list(store.recall(walk.AnsweredSince(MODEL, BEGUN))):
        if answer.role == "serving":  # the reader confirms to the champion what the shadow got wrong, too
            truth = FeedbackRequest(result_id=answer.result_id, findings={answer.findings[0].finding: "absent"})
            store.add_feedback(truth, "key:reader")

    state, verdict = walk.step(store, MODEL, candidate, BEGUN + timedelta(hours=2))

    assert (state.status, verdict.action) == (STOPPED, Action.STOP)
    assert any("is wrong on 100.0% of 150, the serving model 0.0%" in reason for reason in verdict.reasons)
    assert aliases() == {"champion": champion}
    assert walk.step(store, MODEL, candidate)[0].status == STOPPED
    assert aliases() == {"champion": champion}


@pytest.mark.parametrize("killed_at", ["write", "align_aliases"])
def test_killed_between_two_steps_it_goes_on_where_the_registry_says(
    killed_at: str, pair: tuple[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, candidate = pair
    begin(MODEL, candidate, PLAN, "asked for", BEGUN)
    both(store, champion, candidate, 3)
    walk.step(store, MODEL, candidate, BEGUN)
    original, calls = getattr(walk, killed_at), []

    def killed(*given: object) -> None:
        calls.append(given)
        if killed_at == "write" or len(calls) == 2:  # the first alignment is that of the present stage
            raise KeyboardInterrupt
        original(*given)

    monkeypatch.setattr(walk, killed_at, killed)
    with pytest.raises(KeyboardInterrupt):
        walk.step(store, MODEL, candidate, BEGUN + timedelta(hours=1))
    monkeypatch.undo()

    walk.step(store, MODEL, candidate, BEGUN + timedelta(hours=1))

    state = read_state(MODEL, candidate)
    assert state is not None
    assert (state.stage, state.status) == (1, RUNNING)
    assert aliases() == {"champion": champion, "canary": candidate}


def test_killed_after_the_promotion_it_notes_the_end(pair: tuple[str, str], store: Store) -> None:
    _, candidate = pair
    begin(MODEL, candidate, PLAN, "asked for", BEGUN)
    point(NAME, candidate)

    state, _ = walk.step(store, MODEL, candidate)

    assert state.status == PROMOTED
    assert aliases() == {"champion": candidate}


def test_rollout_run_killed_before_each_change_of_the_registry_goes_on_and_promotes_nothing_by_halves(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, candidate = pair
    plan, kept = _at_once(champion, candidate, tmp_path)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)

    killed = 0
    while True:
        process = CONTEXT.Process(target=rollout_run, args=(MODEL, candidate, str(plan), killed + 1, kept))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, killed
        killed += 1
        found, lines = aliases(), [line for _, line in steps(MODEL, candidate)]
        assert found["champion"] in {champion, candidate}
        assert not {"shadow", "canary"} <= found.keys()
        if found["champion"] == candidate:
            assert found["previous"] == champion
            assert any("canary 25%" in line for line in lines), "it has been a canary before"
        assert main(["rollout", "run", MODEL, candidate, "--plan", str(plan)]) == 0
        _ended_well(champion, candidate)
        _start_again(champion, candidate)

    _ended_well(champion, candidate)
    assert killed == 16, (
        "four to be a shadow, five to be a canary, whose share is set twice, three to be champion, three to end"
    )


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def _at_once(champion: str, candidate: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """A plan that ends at once with the answers in an audit log, and the environment that names the log."""
    kept = {"CONSILIUM_HOME": os.environ["CONSILIUM_HOME"], "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}
    kept |= {"CONSILIUM_AUDIT_LOG_URL": f"sqlite:///{folder / 'log.db'}"}
    kept |= {"CONSILIUM_AUDIT_LOG_KEYS": str(folder / "log.keys")}
    make_keys(folder / "log.keys")
    database = Database(read_url(kept["CONSILIUM_AUDIT_LOG_URL"]))
    log = Store(database, read_keys(folder / "log.keys"))
    later = (datetime.now(UTC) - BEGUN) / timedelta(hours=1) + 1  # after any stage has begun
    both(log, champion, candidate, 1, hours=later)
    answered(log, candidate, "canary", hours=later)
    database.close()
    plan = folder / "rollout.yaml"
    plan.write_text(yaml.safe_dump(AT_ONCE))
    return plan, kept


def test_a_stop_that_was_killed_before_it_let_go_is_finished_and_not_begun_anew(
    pair: tuple[str, str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, candidate = pair
    (tmp_path / "log").mkdir()
    plan, kept = _at_once(champion, candidate, tmp_path / "log")
    begin(MODEL, candidate, read_plan(AT_ONCE), "asked for", datetime.now(UTC) + timedelta(days=1))
    walk.step(store, MODEL, candidate)
    with monkeypatch.context() as patch:
        patch.setattr(walk, "align_aliases", _killed)
        with pytest.raises(KeyboardInterrupt):
            walk.abort(MODEL, candidate, "complaints of ward 3")
    assert aliases() == {"champion": champion, "shadow": candidate}

    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert main(["rollout", "run", MODEL, candidate, "--plan", str(plan)]) == 4
    state = read_state(MODEL, candidate)
    assert state is not None
    assert (state.status, state.reason) == (STOPPED, "complaints of ward 3")
    assert aliases() == {"champion": champion}
    assert main(["rollout", "run", MODEL, "--once"]) == 0, "nothing is on its way, and a clock is told so"


def _ended_well(champion: str, candidate: str) -> None:
    assert aliases() == {"champion": candidate, "previous": champion}
    assert running(MODEL) is None
    stages = [line.split(", by ")[0] for _, line in steps(MODEL, candidate)]
    assert list(dict.fromkeys(stages)) == ["running, shadow", "running, canary 25%", "promoted, canary 25%"]


def _start_again(champion: str, candidate: str) -> None:
    point(NAME, champion)
    client = open_store()
    client.delete_registered_model_alias(MODEL, "previous")
    for tag in registry.describe(MODEL, candidate).tags:
        if tag.startswith(("rollout", "promoted")) or tag == CANARY_SHARE:
            client.delete_model_version_tag(MODEL, candidate, tag)


def test_one_version_at_a_time_is_on_its_way_and_can_be_taken_back(
    pair: tuple[str, str], versions: list[str], store: Store
) -> None:
    champion, candidate = pair
    begin(MODEL, candidate, PLAN, "asked for", BEGUN)
    with pytest.raises(RegistryError, match="one version at a time"):
        begin(MODEL, versions[2], PLAN, "asked for", BEGUN)
    walk.step(store, MODEL, candidate, BEGUN)

    state = walk.abort(MODEL, candidate, "complaints of ward 3")

    assert (state.status, state.reason) == (STOPPED, "complaints of ward 3")
    assert aliases() == {"champion": champion}
    with pytest.raises(RegistryError, match="is not on its way"):
        walk.abort(MODEL, candidate, "again")


def test_a_version_without_a_passed_gate_does_not_set_out(pair: tuple[str, str]) -> None:
    champion, candidate = pair
    with pytest.raises(NotGated, match="has passed no gate"):
        begin(MODEL, champion, PLAN, "asked for", BEGUN)
    digest = registry.describe(MODEL, candidate).manifest_digest
    note_gate(MODEL, candidate, GateRecord(False, "0" * 64, digest, "1" * 32))
    with pytest.raises(NotGated):
        begin(MODEL, candidate, PLAN, "asked for", BEGUN)
    note_gate(MODEL, champion, GateRecord(True, "0" * 64, digest, "1" * 32))
    with pytest.raises(RegistryError, match="is the champion already"):
        begin(MODEL, champion, PLAN, "asked for", BEGUN)
    assert running(MODEL) is None


def test_a_run_tells_each_verdict_once_and_ends_when_it_is_asked_to(pair: tuple[str, str], store: Store) -> None:
    _, candidate = pair
    begin(MODEL, candidate, PLAN, "asked for", datetime.now(UTC))
    told, stop = [], threading.Event()
    threading.Timer(0.5, stop.set).start()

    state = walk.run(store, MODEL, candidate, lambda *one: told.append(one), stop)

    assert state.status == RUNNING
    assert len(told) == 1


def test_no_rollout_is_told_apart_from_one(pair: tuple[str, str], store: Store) -> None:
    with pytest.raises(RegistryError, match="has no rollout"):
        walk.step(store, MODEL, pair[1])
    assert rollout_state.read_state(MODEL, pair[1]) is None
