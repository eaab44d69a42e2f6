from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from consilium.artifacts import model_registry as registry
from consilium.artifacts.model_registry import ResolvedModel
from consilium.domain.errors import ArtifactError, NotRegistered, RegistryUnreachable
from service.observability.metrics import Metrics
from service.serving import last_verified
from service.serving.alias_follower import Alias, Reason, Refused
from service.serving.contract import Contract
from service.serving.served_model import Model, Role, load_version
from service.settings import Settings
from tests.consilium.tiny import tiny_study
from tests.service import registered
from tests.service.registered import point, register

NAME = "followed"
GOOD = ("first", "second")
BAD = {
    "tampered": Reason.DIGEST,
    "vouched for by nobody": Reason.DIGEST,
    "of another format": Reason.FORMAT,
    "of another shape": Reason.LOAD,
    "overflowing": Reason.ANSWERS,
    "of other weights": Reason.ANSWERS,
    "of other findings": Reason.FINDINGS,
    "of other modalities": Reason.MODALITIES,
}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Registered versions by what they are."""
    place = tmp_path_factory.mktemp("versions")
    first = registered.save_tiny(place / "first")
    folders = {
        "first": first,
        "second": registered.save_tiny(place / "second", seed=1),
        "tampered": registered.save_tiny(place / "tampered", seed=2),
        "vouched for by nobody": first,
        "of another format": first,
        "of another shape": registered.rewritten(
            first, place / "shape", "recipe.yaml", lambda text: text.replace("width: 16", "width: 32")
        ),
        "overflowing": registered.overflowing(first, place / "overflowing"),
        "of other weights": registered.moved(first, place / "moved"),
        "of other modalities": registered.save_tiny(place / "modalities", modalities=["image", "text"]),
    }
    other = registered.unmonitored(first, place / "unmonitored")
    for number, file in enumerate(("findings.json", "calibration.json", "reference/studies.json")):
        other = registered.rewritten(other, place / f"findings{number}", file, _renamed)
    folders["of other findings"] = other
    found = {what: register(folder, NAME) for what, folder in folders.items()}
    weights = registered.stored(NAME, found["tampered"]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    registered.of_another_format(NAME, found["of another format"])
    registered.open_store().delete_model_version_tag(
        f"consilium-{NAME}", found["vouched for by nobody"], registry.DIGEST_TAG
    )
    return found


def _renamed(text: str) -> str:
    return text.replace("effusion", "oedema").replace("Effusion", "Oedema")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Make the registry unreachable by ``away.setenv(*NOWHERE)``."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


NOWHERE = ("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")


class Loads:
    """Counts what is loaded, and can be made to fail."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.error: Exception | None = None

    def __call__(self, found: ResolvedModel) -> Model:
        self.seen.append(found.identity.version)
        if self.error is not None:
            raise self.error
        return load_version(Settings(model="unused", device="cpu"), found)


def following(source: str, **options: Any) -> tuple[Alias, Loads, Metrics]:
    loads, metrics = Loads(), Metrics()
    return Alias(source, options.pop("role", Role.SERVING), loads, metrics, **options), loads, metrics


def refusals(metrics: Metrics, reason: Reason) -> float:
    labels = {"role": "serving", "reason": reason.value}
    return metrics.registry.get_sample_value("consilium_model_refusals_total", labels) or 0.0


def test_an_alias_is_followed_through_good_moves(versions: dict[str, str]) -> None:
    source = point(NAME, versions["first"])
    alias, loads, metrics = following(source)
    first = alias.first()
    assert first.identity == registry.resolve(source).identity
    assert alias.follow(first) is first, "it has not moved"
    point(NAME, versions["second"])
    second = alias.follow(first)
    assert second is not None
    assert second.identity.version == versions["second"]
    studies = [tiny_study(1)]
    answers = [model.diagnose_prepared([model.prepare(study) for study in studies]) for model in (first, second)]
    assert answers[0][0].findings[0].probability != answers[1][0].findings[0].probability
    point(NAME, versions["first"])
    back = alias.follow(second)
    assert back is not None
    assert back.identity == first.identity
    assert loads.seen == [versions["first"], versions["second"], versions["first"]]
    assert alias.last_refusal is None
    assert metrics.registry.get_sample_value("consilium_registry_reachable", {"role": "serving"}) == 1


@pytest.mark.parametrize(("what", "reason"), BAD.items())
def test_a_bad_version_is_refused_once_and_the_old_one_stays(
    versions: dict[str, str], what: str, reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    alias, loads, metrics = following(point(NAME, versions["first"]))
    first = alias.first()
    point(NAME, versions[what])
    caplog.clear()
    with caplog.at_level(logging.ERROR, "consilium.service"):
        assert alias.follow(first) is first
        assert alias.follow(first) is first, "and not tried again"
    assert len(caplog.records) == 1
    assert f"version {versions[what]} is refused ({reason.value})" in caplog.text
    refusal = alias.last_refusal
    assert refusal is not None
    assert (refusal.identity.version, refusal.reason) == (versions[what], reason)
    assert refusal.detail
    assert refusals(metrics, reason) == 1
    assert loads.seen.count(versions[what]) <= 1
    noted = last_verified.read(alias.source)
    assert noted is not None
    assert noted.version == versions["first"]

    point(NAME, versions["second"])
    second = alias.follow(first)
    assert second is not None, "a later good version is taken"
    point(NAME, versions[what])
    assert alias.follow(second) is second
    assert refusals(metrics, reason) == 2, "the alias has moved meanwhile, so it was tried once more"


def test_refusals_say_what_is_wrong_and_how_to_change_findings(versions: dict[str, str]) -> None:
    alias, _, _ = following(point(NAME, versions["first"]))
    first = alias.first()
    point(NAME, versions["of other findings"])
    alias.follow(first)
    assert alias.last_refusal is not None
    assert "got pneumonia, oedema, the service answers pneumonia, effusion" in alias.last_refusal.detail
    file = last_verified.state_file(alias.source)
    assert file.name in alias.last_refusal.detail
    file.unlink()
    assert following(alias.source)[0].first().findings.names == ("pneumonia", "oedema")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_a_version_that_does_not_fit_beside_the_serving_one_is_refused(
    versions: dict[str, str], error: Exception
) -> None:
    alias, loads, metrics = following(point(NAME, versions["first"]))
    first = alias.first()
    point(NAME, versions["second"])
    loads.error = error
    assert alias.follow(first) is first
    assert refusals(metrics, Reason.MEMORY) == 1
    wrapped = ArtifactError("model.safetensors: cannot be read")
    wrapped.__cause__ = error
    loads.error = wrapped
    point(NAME, versions["tampered"])
    alias.follow(first)
    point(NAME, versions["second"])
    assert alias.follow(first) is first
    assert refusals(metrics, Reason.MEMORY) == 2


def test_a_version_with_other_reference_answers_is_refused_naming_study_and_answer(
    versions: dict[str, str],
) -> None:
    alias, _, _ = following(point(NAME, versions["first"]))
    first = alias.first()
    point(NAME, versions["of other weights"])
    assert alias.follow(first) is first
    assert alias.last_refusal is not None
    warning = r"reference study \d+: \w+: got 0\.\d+, must be within 0\.001 of 0\.\d+, what it was when .* trained"
    assert re.fullmatch(warning, alias.last_refusal.detail)


def test_a_version_is_refused_where_the_backend_is_off(
    versions: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    source, metrics = point(NAME, versions["first"]), Metrics()
    settings = Settings(model=source, device="cpu", backend="bf16", backend_bound=1e-9)
    alias = Alias(source, Role.SERVING, partial(load_version, settings), metrics)
    with pytest.raises(Refused, match="backend bf16: reference study"):
        alias.first()
    assert refusals(metrics, Reason.ANSWERS) == 1
    assert "is refused (answers): backend bf16" in caplog.text
    assert last_verified.read(source) is None

    serving = following(source)[0].first()
    point(NAME, versions["second"])
    assert alias.follow(serving) is serving
    assert refusals(metrics, Reason.ANSWERS) == 2


def test_an_outage_is_waited_out(
    versions: dict[str, str], away: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = point(NAME, versions["first"])
    alias, loads, metrics = following(source)
    first = alias.first()
    point(NAME, versions["second"])
    away.setenv(*NOWHERE)
    caplog.clear()
    with caplog.at_level(logging.INFO, "consilium.service"):
        assert alias.follow(first) is first
        assert alias.follow(first) is first
    assert [record.levelname for record in caplog.records] == ["WARNING"], "logged once"
    assert not alias.reachable
    assert metrics.registry.get_sample_value("consilium_registry_reachable", {"role": "serving"}) == 0
    assert alias.last_refusal is None
    away.undo()
    second = alias.follow(first)
    assert second is not None
    assert alias.reachable
    assert loads.seen == [versions["first"], versions["second"]]


def test_a_version_whose_files_cannot_be_fetched_now_is_asked_for_again(
    versions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alias, _, _ = following(point(NAME, versions["first"]))
    first = alias.first()
    point(NAME, versions["second"])

    def fails(*_: object, **__: object) -> ResolvedModel:
        raise RegistryUnreachable("model store: connection refused")

    with monkeypatch.context() as patch:
        patch.setattr("service.serving.alias_follower.resolve", fails)
        assert alias.follow(first) is first
    assert alias.last_refusal is None
    assert alias.follow(first) is not None


def test_a_restart_without_a_registry_serves_the_last_verified_copy(
    versions: dict[str, str], away: pytest.MonkeyPatch
) -> None:
    source = point(NAME, versions["first"])
    first = following(source)[0].first()
    away.setenv(*NOWHERE)
    alias, _, _ = following(source)
    again = alias.first()
    assert again.identity == first.identity
    assert not alias.reachable
    away.undo()
    assert alias.follow(again) is again, "it is the champion still"


def test_a_restart_while_the_alias_stands_for_a_bad_version_serves_the_last_good_one(
    versions: dict[str, str],
) -> None:
    source = point(NAME, versions["first"])
    following(source)[0].first()
    for what in ("tampered", "of other findings"):
        point(NAME, versions[what])
        alias, _, metrics = following(source)
        assert alias.first().identity.version == versions["first"]
        assert alias.last_refusal is not None
        assert refusals(metrics, BAD[what]) == 1


def test_without_a_last_verified_copy_a_start_says_why_it_fails(
    versions: dict[str, str], away: pytest.MonkeyPatch, home: Path
) -> None:
    source = point(NAME, versions["of another shape"])
    with pytest.raises(Refused, match=r"model\.safetensors"):
        following(source)[0].first()
    away.setenv(*NOWHERE)
    with pytest.raises(RegistryUnreachable, match="there is none yet"):
        following(source)[0].first()
    assert not (home / "live").exists()


def test_an_altered_last_verified_copy_is_not_served(versions: dict[str, str], away: pytest.MonkeyPatch) -> None:
    source = point(NAME, versions["first"])
    found = registry.resolve(source)
    following(source)[0].first()
    (found.folder / "details.json").write_text("{}")
    away.setenv(*NOWHERE)
    with pytest.raises(ArtifactError, match=r"details\.json"):
        following(source)[0].first()


@pytest.mark.parametrize("text", ["", "{}", '{"source": 1}', "\x00"])
def test_a_damaged_note_is_as_good_as_none(versions: dict[str, str], text: str) -> None:
    source = point(NAME, versions["first"])
    alias, _, _ = following(source)
    file = last_verified.state_file(source)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert last_verified.read(source) is None
    first = alias.first()
    noted = last_verified.read(source)
    assert noted is not None
    assert (noted.identity, noted.contract) == (first.identity, Contract.of(first))
    assert list(file.parent.iterdir()) == [file]
    other = json.loads(file.read_text()) | {"source": "models:/consilium-other@champion"}
    file.write_text(json.dumps(other))
    assert last_verified.read(source) is None, "of another alias"


def test_a_shadow_may_be_of_other_findings_and_a_canary_may_not(versions: dict[str, str]) -> None:
    serving = following(point(NAME, versions["first"]))[0].first()
    challenger = point(NAME, versions["of other findings"], "challenger")
    shadow = following(challenger, role=Role.SHADOW)[0].follow(None)
    assert shadow is not None
    assert shadow.findings.names == ("pneumonia", "oedema")
    canary, _, metrics = following(challenger, role=Role.CANARY, expected=lambda: Contract.of(serving))
    assert canary.follow(None) is None
    assert canary.last_refusal is not None
    assert "the service answers pneumonia, effusion" in canary.last_refusal.detail
    assert metrics.registry.get_sample_value("consilium_model_refusals_total", {"role": "canary", "reason": "findings"})


def test_a_role_is_left_when_its_alias_is_taken_away(versions: dict[str, str], away: pytest.MonkeyPatch) -> None:
    source = point(NAME, versions["first"], "candidate")
    (canary, _, _), (serving, _, _) = (following(source, role=role) for role in (Role.CANARY, Role.SERVING))
    loaded = canary.follow(None)
    assert loaded is not None
    away.setenv(*NOWHERE)
    assert canary.follow(loaded) is loaded, "an outage says nothing of the alias"
    away.undo()
    registered.open_store().delete_registered_model_alias(f"consilium-{NAME}", "candidate")
    assert canary.follow(loaded) is None
    assert serving.follow(loaded) is loaded, "somebody must answer"


def sample(metrics: Metrics, name: str, role: Role) -> float | None:
    return metrics.registry.get_sample_value(f"consilium_{name}", {"role": role.value})


@pytest.mark.parametrize("role", [Role.CANARY, Role.SHADOW])
def test_an_alias_that_is_not_there_is_no_outage_and_is_followed_once_it_is(
    versions: dict[str, str], caplog: pytest.LogCaptureFixture, role: Role
) -> None:
    alias, _, metrics = following(f"models:/consilium-{NAME}@{role}", role=role)
    with caplog.at_level(logging.INFO, "consilium.service"):
        assert alias.follow(None) is None
        assert alias.follow(None) is None
    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    (warned,) = logged
    assert warned[0] == "WARNING"
    assert f"model consilium-{NAME} has no alias '{role}'; there is: " in warned[1]
    assert (alias.reachable, sample(metrics, "registry_reachable", role)) == (True, 1)
    assert sample(metrics, "alias_registered", role) == 0
    point(NAME, versions["first"], role)
    followed = alias.follow(None)
    assert followed is not None
    assert followed.identity.version == versions["first"]
    assert sample(metrics, "alias_registered", role) == 1
    registered.open_store().delete_registered_model_alias(f"consilium-{NAME}", role)


def test_a_serving_alias_that_is_not_there_starts_only_what_has_served_before(versions: dict[str, str]) -> None:
    source = point(NAME, versions["first"], "withdrawn")
    following(source)[0].first()
    registered.open_store().delete_registered_model_alias(f"consilium-{NAME}", "withdrawn")
    alias, _, metrics = following(source)
    assert alias.first().identity.version == versions["first"]
    assert (sample(metrics, "registry_reachable", Role.SERVING), alias.reachable) == (1, True)
    assert sample(metrics, "alias_registered", Role.SERVING) == 0
    for missing in (f"models:/consilium-{NAME}@champoin", "models:/consilium-nobody@champion"):
        with pytest.raises(NotRegistered, match=r"no alias 'champoin'; there is: |got 'consilium-nobody'"):
            following(missing)[0].first()
