from __future__ import annotations

import re
from pathlib import Path

import pytest

from consilium.domain.errors import InputError
from service.scopes import Scope
from service.settings import Settings, load_audit_log_settings, load_settings, unknown_names
from tests.conftest import ROOT

PACKAGES = ("consilium", "training", "service", "hospital")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_MODEL", "models:/consilium-phantom@champion")
    monkeypatch.setenv("CONSILIUM_BATCH_SIZE", "3")
    settings = load_settings()
    assert (settings.model, settings.batch_size) == ("models:/consilium-phantom@champion", 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("BATCH_SIZE", "0"), ("BATCH_SIZE", "many"), ("MAX_BODY_BYTES", "-1"), ("ANSWER_TIMEOUT_S", "0"), ("MODEL", "")],
)
def test_a_value_outside_its_range_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("CONSILIUM_MODEL", "m")
    monkeypatch.setenv(f"CONSILIUM_{name}", value)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert (caught.value.field, caught.value.value) == (f"CONSILIUM_{name}", value)


def test_a_model_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSILIUM_MODEL", raising=False)
    with pytest.raises(InputError, match="CONSILIUM_MODEL: got None, must name a model folder"):
        load_settings()


def test_a_time_zone_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_MODEL", "m")
    monkeypatch.setenv("CONSILIUM_TIME_ZONE", "Berlin")
    with pytest.raises(InputError, match="CONSILIUM_TIME_ZONE: got 'Berlin', must be the name of a time zone"):
        load_settings()


OIDC = {"OIDC_ISSUER": "https://login.example.org", "OIDC_AUDIENCE": "consilium"}


def test_an_issuer_comes_with_what_its_roles_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    given = OIDC | {"OIDC_SCOPES": '{"radiologists": ["read", "diagnose"], "nobody": []}'}
    for name, value in (given | {"MODEL": "m"}).items():
        monkeypatch.setenv(f"CONSILIUM_{name}", value)
    settings = load_settings()
    assert settings.oidc_scopes == {"radiologists": {Scope.READ, Scope.DIAGNOSE}, "nobody": frozenset()}


@pytest.mark.parametrize(
    ("changed", "field", "rule"),
    [
        ({"OIDC_AUDIENCE": None}, "OIDC_AUDIENCE", "must be given with CONSILIUM_OIDC_ISSUER"),
        ({"OIDC_AUDIENCE": ""}, "OIDC_AUDIENCE", "must be given with CONSILIUM_OIDC_ISSUER"),
        ({"OIDC_ISSUER": "http://login.example.org"}, "OIDC_ISSUER", "must be an https address"),
        ({"OIDC_ISSUER": "login.example.org"}, "OIDC_ISSUER", "must be an https address"),
        ({"OIDC_ISSUER": "https://h:port"}, "OIDC_ISSUER", "must be an address"),
        ({"OIDC_JWKS_URL": "file:///etc/keys"}, "OIDC_JWKS_URL", "must be an https address"),
        ({"OIDC_SCOPES": "{"}, "OIDC_SCOPES", "must be JSON"),
        ({"OIDC_SCOPES": '{"a": ["root"]}'}, "OIDC_SCOPES", "input should be 'read', 'diagnose', 'admin' or 'metrics'"),
        ({"REQUESTS_PER_MINUTE": "0"}, "REQUESTS_PER_MINUTE", "input should be greater than 0"),
    ],
)
def test_settings_of_who_may_ask_are_checked(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], field: str, rule: str
) -> None:
    for name, value in ({"MODEL": "m"} | OIDC | changed).items():
        if value is not None:
            monkeypatch.setenv(f"CONSILIUM_{name}", value)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert (caught.value.field, caught.value.rule) == (f"CONSILIUM_{field}", rule)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("CANARY", "models:/consilium-x/3", "must be models:/NAME@ALIAS"),
        ("SHADOW", "var/model", "must be models:/NAME@ALIAS"),
        ("CANARY_SHARE", "1.5", "input should be less than or equal to 1"),
        ("POLL_S", "0", "input should be greater than 0"),
        ("LOG_FORMAT", "xml", "input should be 'json' or 'console'"),
    ],
)
def test_settings_of_deployment_and_log_are_checked(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv("CONSILIUM_MODEL", "m")
    monkeypatch.setenv(f"CONSILIUM_{name}", value)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert (caught.value.field, caught.value.rule) == (f"CONSILIUM_{name}", rule)


def test_the_audit_log_is_set_up_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSILIUM_MODEL", raising=False)
    monkeypatch.setenv("CONSILIUM_HOME", "/srv/consilium")
    settings = load_audit_log_settings()
    assert settings.audit_log_url.get_secret_value() == "sqlite:////srv/consilium/audit-log.db"
    assert (settings.audit_log_keys, settings.audit_log_required) == (Path("/srv/consilium/audit-log.keys"), True)
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_URL", "postgresql://u:secret@db/record")
    assert "secret" not in repr(load_audit_log_settings())
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_TIMEOUT_S", "0")
    with pytest.raises(InputError, match="CONSILIUM_AUDIT_LOG_TIMEOUT_S: got '0'"):
        load_audit_log_settings()


def test_unknown_settings_are_logged_with_the_nearest_known_name() -> None:
    given = dict.fromkeys(("CONSILIUM_BACH_SIZE", "consilium_pol_s", "CONSILIUM_HOM", "CONSILIUM_", "PATH"), "x")
    nearest = unknown_names(given)
    assert nearest.pop("CONSILIUM_")
    assert nearest == {
        "CONSILIUM_BACH_SIZE": "CONSILIUM_BATCH_SIZE",
        "CONSILIUM_HOM": "CONSILIUM_HOME",
        "consilium_pol_s": "CONSILIUM_POLL_S",
    }


def test_no_name_that_anything_reads_is_unknown() -> None:
    sources = [path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    deployed = [path.read_text() for path in (ROOT / "deploy").rglob("*.yaml")]
    named = set(re.findall(r"\bCONSILIUM_[A-Z_]*[A-Z]\b", "\n".join(sources + deployed)))
    fields = {f"consilium_{name}" for name in Settings.model_fields}
    assert {"CONSILIUM_HOME", "CONSILIUM_AUDIT_LOG_URL"} <= named
    assert unknown_names(dict.fromkeys(named | fields, "x")) == {}
