from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from consilium.artifacts import local_cache as copies
from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.local_cache import LocalCopy, list_copies, models_folder, prune
from consilium.artifacts.manifest import verify
from consilium.artifacts.mlflow_store import open_store
from consilium.cli import main
from service.serving import last_verified
from service.serving.contract import Contract
from tests.consilium.tiny_artifact import tiny_artifact
from tests.service.registered import point, register, save_tiny, stored

HOURS = 3600.0
A, B, C, D = (letter * 64 for letter in "abcd")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def made(name: str, hours_ago: float) -> Path:
    """A folder of 100 bytes among the copies, last used so long ago."""
    folder = models_folder() / name
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(100))
    aged(folder, hours_ago)
    return folder


def aged(folder: Path, hours_ago: float) -> None:
    moment = time.time() - hours_ago * HOURS
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (moment, moment))


def kept(found: list[LocalCopy]) -> dict[str, str]:
    return {copy.folder.name: copy.kept for copy in found}


def test_what_nobody_names_and_nobody_has_used_for_an_hour_is_removed() -> None:
    for name, hours_ago in ((A, 5), (B, 4), (C, 3), (D, 0)):
        made(name, hours_ago)
    interrupted, current = made(".aaaaaaaaaaaa.x.partial", 2), made(".bbbbbbbbbbbb.y.partial", 2)
    (current / "weights").write_bytes(b"more")
    made("notes", 9)
    found = list_copies({B: "models:/consilium-x@champion"})
    assert kept(found) == {
        A: "",
        B: "models:/consilium-x@champion",
        C: "",
        D: "used within the hour",
        interrupted.name: "",
        current.name: "used within the hour",
    }
    assert all(copy.size == 100 for copy in found if copy.digest)
    assert {copy.folder.name for copy in prune(found)} == {A, C, interrupted.name}
    assert {path.name for path in models_folder().iterdir()} == {B, D, current.name, "notes"}


def test_of_those_that_nobody_names_the_newest_can_stay() -> None:
    for name, hours_ago in ((A, 5), (B, 4), (C, 3), (D, 2)):
        made(name, hours_ago)
    assert [copy.digest for copy in prune(list_copies({D: "needed"}, keep=2))] == [A]


def test_a_copy_that_is_used_after_it_was_listed_stays() -> None:
    used, gone, other = made(A, 5), made(B, 5), made(C, 5)
    found = list_copies({})
    os.utime(used)
    shutil.rmtree(gone)
    assert [copy.folder for copy in prune(found)] == [other]
    assert used.exists()


def test_a_copy_in_use_says_so_and_one_that_was_pruned_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_artifact(tmp_path / "artifact", tiny_artifact())
    version = register(tmp_path / "artifact", "pruned")
    source = f"models:/consilium-pruned/{version}"
    aged(stored("pruned", version), 5)
    found = registry.resolve(source)
    assert kept(list_copies({})) == {found.identity.manifest_digest: "used within the hour"}
    for use in (lambda: registry.resolve(source), lambda: copies.local_copy(found.identity.manifest_digest)):
        aged(found.folder, 2)
        use()
        assert prune(list_copies({})) == []
    aged(found.folder, 2)
    assert len(prune(list_copies({}))) == 1
    assert registry.resolve(source) == found
    assert verify(found.folder) == found.identity.manifest_digest

    # Pruned while it is verified.
    def pruned_first(folder: Path, needed: Sequence[str]) -> str:
        monkeypatch.setattr(copies, "verify", verify)
        shutil.rmtree(folder)
        return verify(folder, needed)

    monkeypatch.setattr(copies, "verify", pruned_first)
    assert registry.resolve(source) == found
    assert verify(found.folder) == found.identity.manifest_digest


def test_the_command_spares_what_an_alias_or_a_service_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_artifact(tmp_path / "artifact", tiny_artifact())
    source = point("spared", register(tmp_path / "artifact", "spared"))
    aliased = registry.resolve(source)
    aged(aliased.folder, 2)
    noted, unnamed = made(A, 2), made(B, 2)
    contract = Contract(findings=(("pneumonia", None),), exclusive=False, modalities=("image",))
    last_verified.note("models:/consilium-x@champion", registry.ModelIdentity("consilium-x", "1", A), contract)

    def output_of(*options: str) -> dict[str, object]:
        assert main(["models", "prune", "--json", *options]) == 0
        output: dict[str, object] = json.loads(capsys.readouterr().out)
        return output

    output = output_of("--dry-run")
    assert (output["freed_bytes"], unnamed.exists()) == (100, True)
    assert main(["models", "prune", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "would free 0.0 MB" in shown
    assert "last verified of models:/consilium-x@champion" in shown
    assert output_of("--keep", "1")["freed_bytes"] == 0
    assert output_of()["freed_bytes"] == 100
    assert set(models_folder().iterdir()) == {aliased.folder, noted}

    unnamed = made(B, 2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    assert main(["models", "prune"]) == 1
    assert unnamed.exists(), "while the registry is away nobody knows what is named"


def test_every_alias_counts(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "artifact", seed=7)
    version, digest = register(folder, "aliased"), verify(folder)
    open_store().delete_registered_model_alias("consilium-aliased", registry.CHALLENGER)
    assert digest not in registry.named_by_aliases()
    point("aliased", version, "nightly")
    assert registry.named_by_aliases()[digest] == "models:/consilium-aliased@nightly"
