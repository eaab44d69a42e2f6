"""The key of the store: made once, closed to others, and what it seals opens nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.domain.errors import InputError
from hospital.store.keys import StoreKey, Unsealable, open_key

KEY = StoreKey(bytes(range(32)))


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "store.key"

    first, again = open_key(path), open_key(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert first.digest("patient", "1") == again.digest("patient", "1")


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    open_key(path)
    path.chmod(0o640)

    with pytest.raises(InputError, match="must be closed to other users"):
        open_key(path)


@pytest.mark.parametrize("content", [b"", b"no key", b"c2hvcnQ="])
def test_what_is_no_key_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(InputError, match="must hold 32 bytes in base64"):
        open_key(path)
    assert path.read_bytes() == content


def test_lists_of_values_that_join_alike_have_different_digests() -> None:
    lists = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", None), ("abc", ""), ("abc", "-")]

    assert len({KEY.digest("patient", *values) for values in lists}) == len(lists)
    assert KEY.digest("patient", "1") != KEY.digest("study", "1")


def test_what_is_sealed_opens_in_its_place_alone() -> None:
    sealed = KEY.seal(b"content", "record 1")

    assert KEY.unseal(sealed, "record 1") == b"content"
    for data, place in [(sealed, "record 2"), (sealed[:-1], "record 1"), (b"", "record 1")]:
        with pytest.raises(Unsealable):
            KEY.unseal(data, place)
