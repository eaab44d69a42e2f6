from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from service.serving import garbage_collection as garbage


class Node:
    """One that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _taken_back() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_set_aside_is_not_walked_over_and_what_comes_later_is_collected() -> None:
    garbage.set_aside(collect=True)
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 10_000
    node = weakref.ref(Node())
    gc.collect()
    assert node() is None


def test_an_old_model_that_was_set_aside_can_be_collected_once_it_was_taken_back() -> None:
    assert not garbage.take_back(), "nothing was set aside"
    gc.disable()
    try:
        node = weakref.ref(Node())
        garbage.set_aside(collect=False)
        gc.collect()
        assert node() is not None
        assert garbage.take_back()
        gc.collect()
        assert node() is None
    finally:
        gc.enable()
