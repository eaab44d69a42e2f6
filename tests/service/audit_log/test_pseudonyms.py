from __future__ import annotations

import base64
import hashlib
import hmac
import stat
from pathlib import Path

import pytest
from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consilium.domain.errors import InputError
from service.audit_log.pseudonyms import AuditLogKey, AuditLogKeys, Kind, Unsealable, add_key, make_keys, read_keys

SECRET = bytes(range(32))


def test_a_new_file_is_its_owners_alone_and_a_second_attempt_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "audit-log.keys"
    make_keys(path)
    made = path.read_bytes()
    make_keys(path)
    assert path.read_bytes() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_pseudonym_is_a_keyed_digest_of_kind_and_value() -> None:
    key, other = AuditLogKey("a", SECRET), AuditLogKey("b", SECRET[::-1])
    patient = key.pseudonym(Kind.PATIENT, "Müller")
    assert patient == AuditLogKey("c", SECRET).pseudonym(Kind.PATIENT, "Müller")
    assert len({patient, key.pseudonym(Kind.STUDY, "Müller"), other.pseudonym(Kind.PATIENT, "Müller")}) == 3
    # RFC 5869: of an absent salt, 32 zero bytes; one block of output.
    extracted = hmac.digest(bytes(32), SECRET, hashlib.sha256)
    derived = hmac.digest(extracted, b"consilium audit-log: pseudonyms\x01", hashlib.sha256)
    assert patient == hmac.new(derived, "patient\0Müller".encode(), hashlib.sha256).hexdigest()


def test_an_answer_is_read_with_its_own_key_only() -> None:
    sealed = AuditLogKey("a", SECRET).encrypt(b"Jane Roe")
    assert b"Jane" not in sealed
    assert AuditLogKey("a", SECRET).decrypt(sealed) == b"Jane Roe"
    with pytest.raises(InvalidToken):
        AuditLogKey("a", SECRET[::-1]).decrypt(sealed)


def test_after_rotation_the_newest_signs_and_all_are_tried(key_file: Path) -> None:
    first = read_keys(key_file).newest
    both = add_key(key_file)
    assert [key.id for key in both] == [first.id, both.newest.id]
    assert both.newest.id != first.id
    assert both.pseudonyms(Kind.PATIENT, "x") == [key.pseudonym(Kind.PATIENT, "x") for key in (first, both.newest)]
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_adding_to_nothing_makes_one_key(tmp_path: Path) -> None:
    assert len(list(add_key(tmp_path / "audit-log.keys"))) == 1


GOOD = "a " + base64.b64encode(SECRET).decode()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "at least one key"),
        ("# only a comment\n", "at least one key"),
        (f"{GOOD}\n{GOOD}\n", "no key id twice"),
        (f"# old\n{GOOD}\nb {base64.b64encode(SECRET[1:]).decode()}\n", "line 3.*32 bytes in base64"),
        ("secret-without-an-id\n", "line 1.*32 bytes in base64"),
        (f"{GOOD}*\n", "line 1.*32 bytes in base64"),
    ],
)
def test_a_file_that_is_not_made_of_keys_is_refused_without_showing_them(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "audit-log.keys"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(InputError, match=rule) as caught:
        read_keys(path)
    assert not any(word in str(caught.value) for word in text.split() if len(word) > 8)


def test_a_file_that_others_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(InputError, match=r"CONSILIUM_AUDIT_LOG_KEYS.*closed to other users"):
        read_keys(key_file)
    key_file.chmod(0o640)
    assert read_keys(key_file).newest


def test_a_missing_file_is_named_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"FileNotFoundError.*consilium audit-log new-key"):
        read_keys(tmp_path / "none")


def test_what_is_sealed_is_opened_in_its_place_alone_and_by_the_key_that_it_names() -> None:
    old, new = AuditLogKey("a", SECRET), AuditLogKey("b", SECRET[::-1])
    keys = AuditLogKeys((old, new))
    sealed = old.seal(b"Jane Roe", "job 1")
    assert b"Jane" not in sealed
    assert sealed != old.seal(b"Jane Roe", "job 1"), "no two share a nonce"
    assert keys.unseal(sealed, "job 1") == b"Jane Roe"
    # By the library itself: key id, nonce, ciphertext and tag.
    derived = hmac.digest(
        hmac.digest(bytes(32), SECRET, hashlib.sha256), b"consilium audit-log: jobs\x01", hashlib.sha256
    )
    assert AESGCM(derived).decrypt(sealed[2:14], sealed[14:], b"job 1") == b"Jane Roe"
    for wrong, place in (
        (sealed, "job 2"),
        (b"b" + sealed[1:], "job 1"),
        (b"c" + sealed[1:], "job 1"),
        (sealed[:-1], "job 1"),
        (sealed[:9], "job 1"),
        (b"", "job 1"),
        (b"\xff:", "job 1"),
    ):
        with pytest.raises(Unsealable, match=f"{place}: none of the audit log's keys opens it"):
            keys.unseal(wrong, place)
