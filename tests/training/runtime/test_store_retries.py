"""Waiting for a store: what is waited for, for how long, and what is not."""

from __future__ import annotations

import errno

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from sqlalchemy.exc import OperationalError

from consilium.domain.errors import InputError, RegistryUnreachable
from training.runtime import store_retries as patience
from training.runtime.store_retries import at_once, patience_s, patiently

AWAY = MlflowException("API request failed: Connection refused")
UNKNOWN = MlflowException("No such run", error_code=RESOURCE_DOES_NOT_EXIST)
LOCKED = OperationalError("INSERT", {}, Exception("database is locked"))
FULL = OperationalError("INSERT", {}, Exception("database or disk is full"))
NO_ROOM = OSError(errno.ENOSPC, "No space left on device")


class Store:
    """Raises each of `errors` once, then answers how often it was asked."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.asked = 0

    def ask(self) -> int:
        self.asked += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.asked


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; time passes by them alone."""
    made: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    monkeypatch.setattr(patience.time, "monotonic", lambda: sum(made))
    monkeypatch.delenv("CONSILIUM_STORE_PATIENCE_S", raising=False)
    return made


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.mark.usefixtures("server")
def test_a_server_that_is_away_is_asked_until_it_answers(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    store = Store(*[AWAY] * 4, ConnectionResetError())
    assert patiently(store.ask) == 6
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert caplog.messages == [
        "model store: API request failed: Connection refused; waiting for it, for 600 seconds at most",
        "the model store answers again, after 16 seconds",
    ]


@pytest.mark.usefixtures("server")
def test_patience_ends(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_STORE_PATIENCE_S", "20")
    with pytest.raises(RegistryUnreachable, match=r"^model store: API request failed: Connection refused$"):
        patiently(Store(*[AWAY] * 99).ask)
    assert sum(pauses) == 20


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("error", [UNKNOWN, NO_ROOM])
def test_what_does_not_pass_is_not_waited_for(error: Exception, pauses: list[float]) -> None:
    with pytest.raises(RegistryUnreachable):
        patiently(Store(error).ask)
    assert pauses == []


def test_an_embedded_store_is_waited_for_where_another_process_writes(pauses: list[float]) -> None:
    assert patiently(Store(LOCKED).ask) == 2
    with pytest.raises(RegistryUnreachable, match="database or disk is full"):
        patiently(Store(FULL).ask)
    assert pauses == [0.5]


def test_at_once_asks_once(pauses: list[float]) -> None:
    assert at_once(Store().ask)
    store = Store(LOCKED)
    assert not at_once(store.ask)
    assert (store.asked, pauses) == (1, [])


@pytest.mark.parametrize("given", ["-1", "soon", "inf", "nan"])
def test_patience_is_a_number_of_seconds(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_STORE_PATIENCE_S", given)
    with pytest.raises(InputError, match="CONSILIUM_STORE_PATIENCE_S"):
        patience_s()
