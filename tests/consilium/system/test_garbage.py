from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from consilium.system.garbage import without_collection


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_no_garbage_is_collected_within_and_what_was_made_is_passed_over_afterwards() -> None:
    frozen = gc.get_freeze_count()
    with without_collection():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(made)


def test_collection_goes_on_where_the_block_raises() -> None:
    with pytest.raises(ValueError, match="no model"), without_collection():
        raise ValueError("no model")
    assert gc.isenabled()


def test_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
