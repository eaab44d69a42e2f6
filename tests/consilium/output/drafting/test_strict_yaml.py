"""YAML that says a thing once, and where it is."""

from __future__ import annotations

import pytest

from consilium.domain.errors import InputError
from consilium.output.drafting.strict_yaml import strict_yaml


def test_what_is_said_is_read() -> None:
    assert strict_yaml("a: {b: [1, two]}\nc:\n  b: 3\n", "file") == {"a": {"b": [1, "two"]}, "c": {"b": 3}}
    assert strict_yaml("", "file") is None


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "value", "rule"),
    [
        pytest.param("a: 1\nb: 2\na: 3", "a", "must stand once in its mapping; it does again in line 3", id="twice"),
        pytest.param("x:\n  a: 1\n  a: 1", "a", "it does again in line 3", id="twice, deeper"),
        pytest.param(BOMB, "*a0", "must be written out, not referred to", id="bomb"),
        pytest.param("&a [*a]", "*a", "must be written out, not referred to", id="of itself"),
        pytest.param("a: [", None, "must be YAML", id="open"),
        pytest.param("a: 2020-13-45", None, "must be YAML", id="no date"),
        pytest.param("a: 0b_", None, "must be YAML", id="no number"),
        pytest.param("[" * 5000, None, "must be YAML", id="deep"),
        pytest.param("!!python/object/apply:os.system ['true']", None, "must be YAML", id="call"),
    ],
)
def test_what_is_lost_grows_or_is_no_yaml_is_refused(text: str, value: str | None, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        strict_yaml(text, "file")
    assert (caught.value.field, caught.value.value) == ("file", value)
    assert rule in caught.value.rule
