from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from consilium.system.environment import provide_account

ANY_ID = 1234567


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without name, entry and home."""

    def unknown(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(os, "getuid", lambda: ANY_ID)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("nobody")
def test_an_account_without_an_entry_gets_a_name_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "not" / "yet"))
    provide_account()
    assert os.environ["USER"] == os.environ["LOGNAME"] == f"uid-{ANY_ID}"
    assert os.environ["HOME"] == str(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nobody")
def test_without_a_place_to_write_the_home_is_the_folder_of_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", "/proc/none")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", "/somewhere")
    provide_account()
    assert os.environ["HOME"] == "/somewhere"


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "somebody")
    provide_account()
    assert (os.environ["HOME"], os.environ["USER"]) == (str(tmp_path), "somebody")


def test_a_home_that_is_not_there_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path))
    provide_account()
    assert os.environ["HOME"] == str(tmp_path)
