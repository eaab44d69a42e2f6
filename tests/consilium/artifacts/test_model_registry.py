from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from consilium.artifacts import local_cache as copies
from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.mlflow_store import experiment_id, open_store, tracking_uri
from consilium.artifacts.version_events import GateRecord, note_gate
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import (
    AlteredArtifact,
    ArtifactError,
    InputError,
    NotGated,
    NotRegistered,
    RegistryError,
    RegistryUnreachable,
)
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two artifacts of one recipe with different weights."""
    folders = [tmp_path_factory.mktemp("artifacts") / f"weights{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        save_artifact(folder, tiny_artifact(seed))
    return folders


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _recipe(name: str) -> Recipe:
    return tiny_artifact().recipe.model_copy(update={"name": name, "description": "a tiny model"})


def _register(folder: Path, name: str, run_id: str | None = None, **tags: str) -> str:
    run_id = run_id or open_store(create=True).create_run(experiment_id("tests")).info.run_id
    return registry.register(folder, _recipe(name), run_id, tags)


def test_what_is_registered_is_found_again_under_every_name(artifacts: list[Path]) -> None:
    version = _register(artifacts[0], "found", cohort_digest="abc", git_commit="def")
    by_alias = registry.resolve("models:/consilium-found@challenger")
    by_version = registry.resolve(f"models:/consilium-found/{version}")
    assert by_alias == by_version
    digest = verify(artifacts[0])
    assert by_alias.identity.to_json() == {"name": "consilium-found", "version": version, "manifest_digest": digest}
    assert by_alias.folder == copies.models_folder() / digest
    assert verify(by_alias.folder) == digest
    described = registry.describe("consilium-found", "@challenger")
    assert described.tags["cohort_digest"] == "abc"
    assert described.tags["recipe"] == "found"
    assert described.manifest_digest == digest
    assert described.aliases == ("challenger",)


def test_a_folder_is_a_model_without_a_registry(artifacts: list[Path]) -> None:
    resolved = registry.resolve(str(artifacts[0]))
    assert resolved.folder == artifacts[0]
    assert resolved.identity.version == registry.UNREGISTERED
    assert resolved.identity.name == "consilium-tiny"


def test_promotion_and_rollback_move_the_aliases_and_keep_the_reasons(artifacts: list[Path]) -> None:
    name = "consilium-moves"
    first, second = (_register(folder, "moves") for folder in artifacts)
    assert first != second
    for folder, version in zip(artifacts, (first, second), strict=True):
        note_gate(name, version, _gate(verify(folder)))
    registry.promote(name, first, "first that is good enough")
    promoted = registry.promote(name, "@challenger", "better on everything")
    assert promoted.version == second
    assert promoted.aliases == ("challenger", "champion")
    assert registry.describe(name, "@previous").version == first
    assert registry.resolve(f"models:/{name}@champion").identity.manifest_digest == verify(artifacts[1])

    restored = registry.rollback(name, "alarms on ward 3")
    assert restored.version == first
    assert restored.aliases == ("champion",)
    assert [(event.action, event.reason) for event in restored.events] == [
        ("gate", str(_gate(verify(artifacts[0])))),
        ("promoted", "first that is good enough"),
        ("restored", "alarms on ward 3"),
    ]
    taken_back = registry.describe(name, second)
    assert taken_back.aliases == ("challenger",)
    assert [(event.action, event.reason) for event in taken_back.events][1:] == [
        ("promoted", "better on everything"),
        ("rolled back", "alarms on ward 3"),
    ]
    with pytest.raises(RegistryError, match="no previous version"):
        registry.rollback(name, "once more")
    assert [version.version for version in registry.list_versions(name)] == [second, first]
    assert name in registry.list_models()


def test_a_promotion_that_says_or_changes_nothing_is_refused(artifacts: list[Path]) -> None:
    version = _register(artifacts[0], "refused")
    with pytest.raises(InputError, match="reason"):
        registry.promote("consilium-refused", version, "  ")
    with pytest.raises(InputError, match="override"):
        registry.promote("consilium-refused", version, "good", override=" ")
    registry.promote("consilium-refused", version, "good", override="the first")
    with pytest.raises(RegistryError, match="is the champion already"):
        registry.promote("consilium-refused", version, "good")
    with pytest.raises(InputError, match="reason"):
        registry.rollback("consilium-refused", "")


def test_what_has_not_passed_its_newest_gate_is_not_promoted(artifacts: list[Path]) -> None:
    name, digest = "consilium-gated", verify(artifacts[0])
    version = _register(artifacts[0], "gated")

    def refused(match: str, gates: str | None = None) -> None:
        with pytest.raises(NotGated, match=match):
            registry.promote(name, version, "good", gates=gates)
        assert registry.describe(name, version).aliases == ("challenger",)

    refused("has passed no gate")
    note_gate(name, version, _gate(verify(artifacts[1])))
    refused("measured another artifact")
    note_gate(name, version, _gate(digest))
    refused("was by other gates", gates="e" * 64)
    note_gate(name, version, _gate(digest, passed=False))
    refused("its newest gate failed, MLflow run abc123", gates="d" * 64)
    note_gate(name, version, _gate(digest))
    assert registry.promote(name, version, "good", gates="d" * 64).aliases == ("challenger", "champion")
    with pytest.raises(RegistryError, match="champion already"):
        registry.promote(name, version, "good", override="whatever")


def test_an_override_promotes_and_stays_with_the_version(artifacts: list[Path]) -> None:
    version = _register(artifacts[0], "overridden")
    found = registry.promote("consilium-overridden", version, "good", override="the ward waits for it")
    assert found.aliases == ("challenger", "champion")
    assert [(one.action, one.reason) for one in found.events] == [
        ("gates overridden", "the ward waits for it"),
        ("promoted", "good"),
    ]


def test_a_gate_record_is_read_back_and_nothing_else_is_taken_for_one() -> None:
    record = _gate("c" * 64, passed=False)
    assert GateRecord.parse(str(record)) == record
    assert GateRecord.parse(str(record).replace("failed", "nearly")) is None
    assert GateRecord.parse("passed") is None


def _gate(manifest_digest: str, *, passed: bool = True) -> GateRecord:
    return GateRecord(passed, "d" * 64, manifest_digest, "abc123")


def test_a_resumed_run_registers_once(artifacts: list[Path]) -> None:
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    versions = [_register(artifacts[0], "resumed", run_id) for _ in range(2)]
    assert versions == ["1", "1"]
    assert _register(artifacts[1], "resumed", run_id) == "2"


def test_a_finished_run_that_is_resumed_does_not_take_the_alias_back(artifacts: list[Path]) -> None:
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    assert _register(artifacts[0], "finished", run_id) == "1"
    assert _register(artifacts[1], "finished") == "2"
    assert _register(artifacts[0], "finished", run_id) == "1"
    assert registry.resolve(f"models:/consilium-finished@{registry.CHALLENGER}").identity.version == "2"


def test_a_registration_inside_an_open_run_leaves_it_open(artifacts: list[Path]) -> None:
    mlflow.set_tracking_uri(tracking_uri())
    with mlflow.start_run(experiment_id=experiment_id("tests")) as run:
        _register(artifacts[0], "within", run.info.run_id)
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == run.info.run_id


def test_names_that_lead_nowhere_are_refused_with_what_there_is(artifacts: list[Path], tmp_path: Path) -> None:
    _register(artifacts[0], "known")
    with pytest.raises(NotRegistered, match=r"got 'consilium-unknown'.*consilium-known"):
        registry.resolve("models:/consilium-unknown@champion")
    with pytest.raises(NotRegistered, match="consilium-known has no alias 'champion'; there is: challenger"):
        registry.resolve("models:/consilium-known@champion")
    with pytest.raises(NotRegistered, match="consilium-known: got version '77'"):
        registry.resolve("models:/consilium-known/77")
    with pytest.raises(NotRegistered, match="consilium-known: got version 'latest'"):
        registry.promote("consilium-known", "latest", "because")
    for source in ("models:/", "models:/consilium-known", "models:/a/b/c", "models:/a@b/1", str(tmp_path / "none"), ""):
        with pytest.raises(InputError, match="must be a model folder, models:/NAME@ALIAS or models:/NAME/VERSION"):
            registry.resolve(source)


def _stored(name: str) -> Path:
    """The artifact inside the store, where a tamperer would find it."""
    client = MlflowClient(tracking_uri=tracking_uri())
    place = Path(client.get_model_version_download_uri(name, "1")) / "artifacts"
    (folder,) = place.iterdir()
    return folder


def test_a_whole_other_artifact_in_the_store_is_refused(artifacts: list[Path]) -> None:
    """Its own manifest is right; only the registry's tag shows that it is not what was registered."""
    _register(artifacts[0], "swapped")
    stored = _stored("consilium-swapped")
    shutil.rmtree(stored)
    shutil.copytree(artifacts[1], stored)
    with pytest.raises(AlteredArtifact, match="consilium-swapped version 1: its artifact was altered"):
        registry.resolve("models:/consilium-swapped/1")
    folder = copies.models_folder()
    assert list(folder.iterdir()) == [], "nothing of it may stay in the cache"


def test_a_truncated_artifact_in_the_store_is_refused(artifacts: list[Path]) -> None:
    _register(artifacts[0], "cut")
    weights = _stored("consilium-cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RegistryError, match=r"was altered: model\.safetensors"):
        registry.resolve("models:/consilium-cut/1")


def test_a_damaged_local_copy_is_fetched_again(artifacts: list[Path]) -> None:
    _register(artifacts[0], "damaged")
    folder = registry.resolve("models:/consilium-damaged/1").folder
    (folder / "details.json").write_text("{}")
    assert registry.resolve("models:/consilium-damaged/1").folder == folder
    assert verify(folder) == verify(artifacts[0])


def test_a_sound_local_copy_needs_no_store_artifacts(artifacts: list[Path]) -> None:
    _register(artifacts[0], "kept")
    before = registry.resolve("models:/consilium-kept/1")
    shutil.rmtree(_stored("consilium-kept"))
    assert registry.resolve("models:/consilium-kept/1") == before


def test_an_alias_is_looked_up_without_fetching_anything(artifacts: list[Path]) -> None:
    version = _register(artifacts[0], "looked")
    identity = registry.look_up("models:/consilium-looked@challenger")
    assert identity.to_json() == {
        "name": "consilium-looked",
        "version": version,
        "manifest_digest": verify(artifacts[0]),
    }
    assert not copies.models_folder().exists()
    with pytest.raises(ArtifactError, match="must be a model folder"):
        copies.local_copy(identity.manifest_digest)
    resolved = registry.resolve("models:/consilium-looked@challenger")
    shutil.rmtree(_stored("consilium-looked"))
    assert copies.local_copy(identity.manifest_digest) == resolved.folder
    (resolved.folder / "details.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"details\.json"):
        copies.local_copy(identity.manifest_digest)


@pytest.mark.parametrize(
    ("source", "follows"),
    [("models:/consilium-x@champion", True), ("models:/consilium-x/3", False), ("var/x", False), ("models:/", False)],
)
def test_only_an_alias_may_move(source: str, follows: bool) -> None:
    assert registry.follows_alias(source) is follows


def test_a_version_without_a_digest_is_refused(artifacts: list[Path]) -> None:
    _register(artifacts[0], "untagged")
    open_store().delete_model_version_tag("consilium-untagged", "1", registry.DIGEST_TAG)
    with pytest.raises(AlteredArtifact, match="has no manifest_digest"):
        registry.resolve("models:/consilium-untagged/1")


def test_nothing_incomplete_is_registered(artifacts: list[Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts[0], tmp_path / "incomplete"))
    (folder / "calibration.json").unlink()
    with pytest.raises(ArtifactError, match=r"calibration\.json: is missing"):
        _register(folder, "incomplete")
    assert "consilium-incomplete" not in registry.list_models()


def test_the_embedded_store_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made on demand, its artifacts beside it; reading makes none; moved, it is refused with both places."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("CONSILIUM_HOME")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RegistryError, match="there is none yet"):
        registry.list_models()
    assert list((tmp_path / "here").iterdir()) == []
    experiment = open_store(create=True).get_experiment(experiment_id("consilium-tiny"))
    assert experiment.artifact_location == str(tmp_path / "here/mlruns/artifacts/consilium-tiny")
    assert experiment_id("consilium-tiny") == experiment.experiment_id
    assert copies.models_folder() == tmp_path / "here/var/models"
    assert registry.list_models() == []

    shutil.copytree(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(RegistryError, match=r"there/mlruns', was made as '.*here/mlruns': move it back"):
        open_store()


def test_an_unreachable_store_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, but it is long enough to be looked at" * 10)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(RegistryUnreachable, match="model store"):
        registry.list_models()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryUnreachable, match="model store"):
        registry.resolve("models:/consilium-tiny@champion")
