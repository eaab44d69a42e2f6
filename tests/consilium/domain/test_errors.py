from __future__ import annotations

import pytest

from consilium.domain.errors import InputError


def test_an_error_names_the_field_the_value_and_the_rule() -> None:
    error = InputError("BitsStored", 99, "must be at most 16")
    assert str(error) == "BitsStored: got 99, must be at most 16"
    assert str(error.at("images[0]")) == "images[0].BitsStored: got 99, must be at most 16"


@pytest.mark.parametrize("length", [78, 79, 1000])
def test_of_a_long_value_both_ends_are_shown(length: int) -> None:
    path = "/" + "f" * (length - 10) + "keys.json"
    shown = InputError("keys", path, "must hold a key").shown_value
    assert len(shown) == 80
    assert shown.startswith("'/ff")
    assert shown.endswith("keys.json'")
    assert ("…" in shown) == (length > 78)
