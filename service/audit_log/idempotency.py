"""Idempotency keys: of several requests with one key, one is answered, and the others get the very same answer.

A claim lies in the audit log, so that all processes agree. Key and body stand there as pseudonyms, the answer
encrypted, because it holds what its caller wrote (a reference, a code in a warning) and must come back byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import SupportsBytes
from uuid import UUID, uuid4

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consilium.domain.errors import InputError
from service.audit_log.database import AuditLogUnavailable, Database
from service.audit_log.entries import Claim
from service.audit_log.pseudonyms import AuditLogKeys, Kind
from service.audit_log.tables import ClaimRow
from service.http.problems import Unavailable

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_LONGEST_KEY = 255
_ATTEMPTS = 5
_DELETED_AT_ONCE = 500
_PROBE_BYTES = 1 << 16


class IdempotencyMismatch(InputError):
    """A key that came before, with another body."""

    def __init__(self) -> None:
        super().__init__(HEADER, "a key that was used before", "must come with the same body as before")


class InFlight(Unavailable):
    """Another request with the same key is being answered."""

    status = HTTPStatus.CONFLICT

    def __init__(self) -> None:
        super().__init__("Another request with this idempotency key is being answered.", retry_after_s=1)


def check_key(given: str | None) -> str | None:
    """The header's value.

    Raises
    ------
    InputError
        Where it is empty, too long, or not of printable ASCII.
    """
    if given is None or (0 < len(given) <= _LONGEST_KEY and given.isascii() and given.isprintable()):
        return given
    raise InputError(HEADER, given, f"must have 1 to {_LONGEST_KEY} printable ASCII characters")


def _digest(body: Iterable[SupportsBytes]) -> str:
    """SHA-256 of the SHA-256 of each part: no two bodies whose parts differ share one."""
    digests = (hashlib.sha256(bytes(part)).digest() for part in body)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def claim(
    database: Database,
    keys: AuditLogKeys,
    caller: str,
    idempotency_key: str,
    body: Iterable[SupportsBytes],
    lease_s: float,
    process: UUID | None = None,
) -> Claim | bytes:
    """The claim, or the answer that was given before.

    Parameters
    ----------
    body : iterable of bytes or what gives them
        Its parts as they came. The boundaries of a multipart body are no part of it: a client that tries again draws
        new ones.
    lease_s : float
        After how long a process that neither answered nor gave the claim back must have crashed.
    process : UUID, optional
        The process that claims, with which the claim can be freed.

    Raises
    ------
    IdempotencyMismatch, InFlight, AuditLogUnavailable
    """
    name, digest = f"{caller}\0{idempotency_key}", _digest(body)
    for _ in range(_ATTEMPTS):
        try:
            with database.writing() as session:
                return _claim(session, keys, name, digest, lease_s, process)
        except IntegrityError:
            continue  # Another process claimed it between our look and our insert.
    raise AuditLogUnavailable("audit log: an idempotency key could not be claimed")


def _claim(
    session: Session, keys: AuditLogKeys, name: str, body: str, lease_s: float, process: UUID | None
) -> Claim | bytes:
    now = datetime.now(UTC)
    names = keys.pseudonyms(Kind.IDEMPOTENCY_KEY, name)
    for row in session.scalars(select(ClaimRow).where(ClaimRow.key.in_(names)).with_for_update()):
        if row.expires <= now:
            session.delete(row)
            session.flush()
        elif row.body != keys[row.key_id].pseudonym(Kind.BODY, body):
            raise IdempotencyMismatch
        elif row.answer is None:
            raise InFlight
        else:
            return keys[row.key_id].decrypt(row.answer)
    newest = keys.newest
    made = Claim(newest.pseudonym(Kind.IDEMPOTENCY_KEY, name), newest.id, uuid4())
    session.add(
        ClaimRow(
            key=made.key,
            key_id=made.key_id,
            body=newest.pseudonym(Kind.BODY, body),
            owner=made.owner,
            expires=now + timedelta(seconds=lease_s),
            process=process,
        )
    )
    session.flush()
    return made


def held(session: Session, given: Claim) -> ClaimRow | InFlight:
    """The row of `given`, locked; `InFlight` where another request took it over."""
    row = session.get(ClaimRow, given.key, with_for_update=True)
    return row if row is not None and row.owner == given.owner else InFlight()


def keep(row: ClaimRow, keys: AuditLogKeys, answer: bytes, until: datetime, result_id: UUID | None = None) -> None:
    """Keep the `answer` that `row` claims, for replay; where it is of a result, it is purged with it."""
    row.answer = keys[row.key_id].encrypt(answer)
    row.result_id = result_id
    row.expires = until


def release(database: Database, given: Claim) -> None:
    """Give a claim back that was not answered, so that the caller can try again at once."""
    mine = (ClaimRow.key == given.key, ClaimRow.owner == given.owner, ClaimRow.answer.is_(None))
    with database.writing() as session:
        session.execute(delete(ClaimRow).where(*mine))


def free(database: Database, dead: Collection[UUID]) -> int:
    """Give back what the `dead` processes claimed and did not answer; how many claims there were."""
    theirs = (ClaimRow.process.in_(dead), ClaimRow.answer.is_(None))
    with database.writing() as session:
        return len(session.scalars(delete(ClaimRow).where(*theirs).returning(ClaimRow.key)).all())


def probe(database: Database) -> None:
    """Write and delete about as much as an answer takes.

    Raises
    ------
    AuditLogUnavailable
        Where nothing can be recorded.
    """
    name = f"probe {uuid4()}"
    row = ClaimRow(key=name, key_id="", body="", owner=uuid4(), expires=datetime.now(UTC), answer=bytes(_PROBE_BYTES))
    with database.writing() as session:
        session.add(row)
        session.flush()
        session.execute(delete(ClaimRow).where(ClaimRow.key == name))


def expire(database: Database) -> int:
    """Delete claims and answers whose time is over; how many there were."""
    # Of several processes each takes those that no other one is deleting.
    over = select(ClaimRow.key).where(ClaimRow.expires <= datetime.now(UTC)).with_for_update(skip_locked=True)
    deleted = 0
    while True:
        with database.writing() as session:
            keys = session.scalars(over.limit(_DELETED_AT_ONCE)).all()
            session.execute(delete(ClaimRow).where(ClaimRow.key.in_(keys)))
        deleted += len(keys)
        if len(keys) < _DELETED_AT_ONCE:
            return deleted
