from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from service.packaging.pins import closure, requirements


def test_a_closure_reaches_what_dependencies_need_and_pins_what_is_installed() -> None:
    pinned = closure("consilium", "serve")
    assert pinned["fastapi"] == version("fastapi")
    assert pinned["h11"] == version("h11"), "of uvicorn"
    assert pinned["cryptography"] == version("cryptography"), "of pyjwt's extra"
    assert not {"consilium", "pip", "pytest", "lightning"} & pinned.keys()


def test_an_extra_adds_and_nothing_changes() -> None:
    bare = closure("consilium")
    assert "torch" not in bare
    assert bare.items() < closure("consilium", "model").items()


def test_the_installer_is_no_requirement() -> None:
    assert "pip" not in closure("pip-api")


def test_what_is_not_installed_cannot_be_pinned() -> None:
    with pytest.raises(PackageNotFoundError):
        closure("consilium-that-is-not-there")


def test_lines_are_sorted_and_exact() -> None:
    lines = requirements("pip-audit").splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(names)
    assert f"packaging=={version('packaging')}" in lines
