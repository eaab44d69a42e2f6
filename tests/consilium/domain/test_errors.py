from __future__ import annotations

import pytest

from consilium.domain.errors import CohortError, InputError, Problem


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


def test_of_many_problems_alike_the_first_are_written_out_and_the_others_counted() -> None:
    problems = [Problem("studies", row, "age", "old", "must be a number") for row in range(2, 40)]
    other = Problem("studies", 40, "sex", "x", "must be F or M")

    lines = str(CohortError([*problems, other])).splitlines()

    assert lines[0] == "39 problem(s):"
    assert lines[1:11] == [f"  {problem}" for problem in problems[:10]]
    assert lines[11:] == [f"  {other}", "  studies, age: 28 more, must be a number"]
