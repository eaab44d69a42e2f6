from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from consilium.domain.errors import InputError
from service.app.launch import RunningService, command, environment, serve
from service.audit_log.pseudonyms import read_keys
from service.auth.api_keys import create_key, revoke_key
from service.scopes import Scope


def test_the_default_host_is_the_loopback_interface() -> None:
    arguments = command(4711)
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert arguments[arguments.index("--port") + 1] == "4711"


def test_paths_become_absolute_because_the_service_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSILIUM_HOME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    given = environment("model", {"batch_size": 4})
    assert given["CONSILIUM_MODEL"] == str(tmp_path / "model")
    assert given["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}"
    assert given["CONSILIUM_HOME"] == str(tmp_path / "var")
    assert given["CONSILIUM_BATCH_SIZE"] == "4"
    assert given["CONSILIUM_KEYS"] == str(tmp_path / "var" / "keys.json")
    assert environment("model", {"keys": "api-keys.json"})["CONSILIUM_KEYS"] == str(tmp_path / "api-keys.json")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the keys of this test lie; nobody else may ask."""
    monkeypatch.delenv("CONSILIUM_OIDC_ISSUER", raising=False)
    monkeypatch.setenv("CONSILIUM_KEYS", str(tmp_path / "keys.json"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "keys.json"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Each command and environment that this process would have become."""
    became: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda _, arguments, given: became.append((arguments, given)))
    return became


def test_until_somebody_can_be_authenticated_everybody_may_ask_but_on_this_machine_only(
    keys: Path, served: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_INSECURE", "0")
    with pytest.raises(InputError, match=r"--host: got '0\.0\.0\.0', must be 127\.0\.0\.1 until there is an API key"):
        serve("model", 4711, "0.0.0.0")
    serve("model", 4711)
    key, _ = create_key(keys, "a", [Scope.READ])
    serve("model", 4711, "0.0.0.0")
    revoke_key(keys, key.id)
    monkeypatch.setenv("CONSILIUM_OIDC_ISSUER", "https://login.example.org")
    serve("model", 4711, "10.0.0.5")
    hosts = [arguments[arguments.index("--host") + 1] for arguments, _ in served]
    assert hosts == ["127.0.0.1", "0.0.0.0", "10.0.0.5"]
    assert [given["CONSILIUM_INSECURE"] for _, given in served] == ["True", "0", "0"]


def test_a_service_in_the_background_asks_nobody_unless_its_settings_say_who_may() -> None:
    def insecure(settings: dict[str, object]) -> str | None:
        return RunningService("model", settings)._environment.get("CONSILIUM_INSECURE")

    assert insecure({}) == insecure({"batch_size": 2}) == "True"
    assert insecure({"keys": "keys.json"}) is insecure({"oidc_issuer": "https://login.example.org"}) is None


def test_what_is_no_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    given = environment("models:/consilium-phantom@champion")
    assert given["CONSILIUM_MODEL"] == "models:/consilium-phantom@champion"
    assert given["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"


def test_an_embedded_audit_log_gets_its_keys_and_any_other_brings_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSILIUM_HOME", raising=False)
    given = environment("model", {"audit_log_url": "postgresql://u:p@db/record"})
    assert given["CONSILIUM_AUDIT_LOG_URL"] == "postgresql://u:p@db/record"
    given = environment(
        "model", {"audit_log_keys": "secrets/audit-log.keys", "audit_log_url": "sqlite:///a%20b/audit-log.db"}
    )
    assert given["CONSILIUM_AUDIT_LOG_KEYS"] == str(tmp_path / "secrets" / "audit-log.keys")
    assert given["CONSILIUM_AUDIT_LOG_URL"] == f"sqlite:///{quote(str(tmp_path))}/a%20b/audit-log.db"
    assert not (tmp_path / "var").exists()
    assert not (tmp_path / "secrets").exists()

    given = environment("model")
    assert given["CONSILIUM_AUDIT_LOG_URL"] == f"sqlite:///{quote(str(tmp_path))}/var/audit-log.db"
    assert given["CONSILIUM_AUDIT_LOG_KEYS"] == str(tmp_path / "var" / "audit-log.keys")
    made = read_keys(tmp_path / "var" / "audit-log.keys").newest.id
    environment("model")
    assert read_keys(tmp_path / "var" / "audit-log.keys").newest.id == made
