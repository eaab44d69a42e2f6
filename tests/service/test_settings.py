from __future__ import annotations

import pytest

from consilium.errors import InputError
from service.settings import load_settings


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
