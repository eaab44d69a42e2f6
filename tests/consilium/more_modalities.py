"""Modalities that are installed for one test, beside the built-in ones."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from consilium.modalities import registry
from consilium.modalities.modality import Modality


def install(monkeypatch: pytest.MonkeyPatch, *names: str, first: bool = False) -> None:
    """Register modalities `names` until the test ends; `first`: in front of the built-in ones."""
    more = {name: Modality(name=name, display=name.title(), record=name, preparation="", encoder="") for name in names}
    installed = dict(registry.modalities())
    together = more | installed if first else installed | more
    monkeypatch.setattr(registry, "modalities", lambda: MappingProxyType(together))
