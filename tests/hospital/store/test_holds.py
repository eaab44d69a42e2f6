"""A study is held by every association that has added to it, until the last of them ends."""

from __future__ import annotations

import pytest

from hospital.store.holds import Holds


def test_a_study_is_held_until_its_last_association_ends() -> None:
    holds = Holds()
    with holds.association() as first:
        first.study("1.2")
        first.study("1.2")
        with holds.association() as second:
            second.study("1.2")
            second.study("1.3")
        assert holds.held("1.2")
        assert not holds.held("1.3")
    assert not holds.held("1.2")


def test_an_aborted_association_holds_nothing() -> None:
    holds = Holds()

    def abort() -> None:
        with holds.association() as hold:
            hold.study("1.2")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        abort()

    assert not holds.held("1.2")
