"""What is listed of the caches, what of it may go, and that nothing goes which a process has open."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from consilium.cli import main
from tests.patience import PATIENCE_S
from training.data.array_store import ArrayStore
from training.data.cache_folders import choose, feature_cache_folder, file_cache_folder, list_caches, remove
from training.data.store_use import USE, remove_unused, unused


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path))


def made(place: Path, name: str, *, numbers: int = 1000, days: float = 0) -> Path:
    """A store of one array, last opened so many days ago."""
    folder = place / "image" / name
    with ArrayStore(folder).filling() as writer:
        writer.add("a", np.arange(numbers, dtype=np.int64), {})
    gc.collect()
    opened(folder, days)
    return folder


def opened(folder: Path, days: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - 86_400 * days,) * 2)


def test_both_caches_are_listed_last_used_first() -> None:
    old = made(file_cache_folder(), "old", days=40)
    made(feature_cache_folder(), "new", numbers=10)
    assert [(one.kind, one.modality, one.folder.name, one.arrays, one.in_use) for one in list_caches()] == [
        ("features", "image", "new", 1, False),
        ("files", "image", "old", 1, False),
    ]
    assert list_caches()[1].size == sum(path.stat().st_size for path in old.iterdir()) > 8000


def test_what_was_not_used_for_long_goes() -> None:
    made(file_cache_folder(), "old", days=40)
    made(file_cache_folder(), "new", days=20)
    chosen = choose(list_caches(), unused_for=timedelta(days=30))
    assert [one.folder.name for one in remove(chosen)] == ["old"]
    assert [one.folder.name for one in list_caches()] == ["new"]


def test_what_was_used_least_recently_goes_until_there_is_room() -> None:
    for days, name in enumerate("abcd"):
        made(file_cache_folder(), name, days=days)
    found = list_caches()
    size = found[0].size
    assert {one.folder.name for one in choose(found, most_bytes=2 * size)} == {"c", "d"}
    assert choose(found, most_bytes=4 * size) == []
    assert len(choose(found, most_bytes=0)) == 4


def test_an_opened_store_was_used_now() -> None:
    folder = made(file_cache_folder(), "old", days=40)
    ArrayStore(folder)
    assert choose(list_caches(), unused_for=timedelta(days=1)) == []


def test_what_a_process_has_open_stays() -> None:
    folder = made(file_cache_folder(), "held", days=40)
    store = ArrayStore(folder)
    opened(folder, 40)
    (found,) = list_caches()
    assert found.in_use
    assert choose([found], unused_for=timedelta(days=1), most_bytes=0) == []
    assert not remove_unused(folder)
    assert store["a"].sum() == 499_500
    del store
    gc.collect()
    assert not list_caches()[0].in_use
    assert remove_unused(folder)


def test_a_store_opened_after_the_list_was_made_stays() -> None:
    folder = made(file_cache_folder(), "late", days=40)
    chosen = choose(list_caches(), most_bytes=0)
    store = ArrayStore(folder)
    assert remove(chosen) == []
    assert "a" in store


def _hold(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    store = ArrayStore(folder)
    ready.set()
    time.sleep(60)
    del store


def test_a_killed_process_holds_nothing() -> None:
    folder = made(file_cache_folder(), "killed")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(folder, ready))
    process.start()
    assert ready.wait(PATIENCE_S)
    with unused(folder) as free:
        assert not free
    process.kill()
    process.join()
    with unused(folder) as free:
        assert free


def test_a_store_whose_folder_was_removed_before_it_was_held_is_made_anew() -> None:
    folder = made(file_cache_folder(), "gone")
    assert remove_unused(folder)
    store = ArrayStore(folder)
    assert len(store) == 0
    assert (folder / USE).exists()


def test_what_nobody_can_read_and_what_was_left_over_always_go() -> None:
    folder = made(file_cache_folder(), "format")
    (folder / "index.json").write_text(json.dumps({"format": 3, "arrays": {}}))
    left = made(feature_cache_folder(), "left")
    left.rename(left.with_name(".left.removed"))
    made(file_cache_folder(), "kept")
    assert {one.folder.name for one in remove(choose(list_caches()))} == {"format", ".left.removed"}
    assert [one.folder.name for one in list_caches()] == ["kept"]


def test_the_command_says_what_it_would_remove_and_removes_it(capsys: pytest.CaptureFixture[str]) -> None:
    made(file_cache_folder(), "old", days=40)
    held = made(file_cache_folder(), "held", days=40)
    store = ArrayStore(held)
    opened(held, 40)
    prune = ["caches", "prune", "--unused-days", "30", "--json"]
    assert main([*prune, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert len(list_caches()) == 2
    assert main(prune) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == planned | {"dry_run": False}
    removed = {Path(one["folder"]).name: (one["removed"], one["in_use"]) for one in done["caches"]}
    assert removed == {"old": (True, False), "held": (False, True)}
    assert done["freed_bytes"] > 8000
    assert main(["caches", "list"]) == 0
    assert "held" in capsys.readouterr().out
    assert len(store) == 1


def test_nothing_is_cached_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caches", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["caches", "prune"]) == 0
