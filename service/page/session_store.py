"""Sessions in the audit log's database, and what happened at the entrance. Synchronous: `sessions` runs it on threads.

A row holds the digest of the secret in the cookie, so that whoever reads the database can open no session; who it is
of is sealed for its row, so that whoever writes the database can grant nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consilium.api.schemas import OwnSessionsAnswer, SessionAnswer, SignInAnswer
from service.audit_log.database import Database
from service.audit_log.pseudonyms import AuditLogKeys, Unsealable
from service.audit_log.tables import SessionRow, SignInRow, SpentStateRow
from service.scopes import Scope

logger = logging.getLogger("consilium.service")

Method = Literal["api_key", "oidc"]
Event = Literal["signed_in", "refused", "signed_out", "replaced", "revoked"]
_SECRET_BYTES = 32
_SEEN_EVERY = timedelta(seconds=30)
"""How exactly it is noted when a session was last used: a write each time would be one for every image."""
MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, as it was then. `name` is for the page's corner: nothing is decided by it."""

    caller: str
    name: str
    method: Method
    scopes: frozenset[Scope]
    groups: frozenset[str]

    def to_json(self, browser: str | None) -> bytes:
        given = {"name": self.name, "scopes": sorted(self.scopes), "groups": sorted(self.groups), "browser": browser}
        return json.dumps(given).encode()


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A session that has not ended."""

    session_id: UUID
    identity: Identity
    ends: datetime


class SessionStore:
    """The sessions, and the log of who came and went.

    Parameters
    ----------
    idle, longest : timedelta
        After how long without a request, and after how long at all, a session ends.
    """

    def __init__(self, database: Database, keys: AuditLogKeys, idle: timedelta, longest: timedelta) -> None:
        self._database = database
        self._keys = keys
        self._idle = idle
        self._longest = longest

    def open(self, identity: Identity, replaced: str | None, request_id: str, browser: str | None = None) -> str:
        """Begin a session in a `browser`, and end the one of the secret `replaced`; give the new one's secret."""
        now, secret, session_id = _now(), secrets.token_hex(_SECRET_BYTES), uuid4()
        row = SessionRow(
            session_id=session_id,
            digest=_digest(secret),
            caller=identity.caller,
            method=identity.method,
            identity=self._keys.newest.seal(
                identity.to_json(browser), _place(session_id, identity.caller, identity.method)
            ),
            created=now,
            seen=now,
            ends=now + self._longest,
        )
        with self._database.writing() as session:
            self._forget(session, now)
            former = _by_secret(session, replaced)
            if former is not None:
                session.delete(former)
                session.add(_event("replaced", former, request_id, now))
            session.add(row)
            session.add(_event("signed_in", row, request_id, now))
        return secret

    def find(self, secret: str, *, in_use: bool) -> KnownSession | None:
        """The session of `secret`, noted as `in_use` now or not; None where there is none or it has ended."""
        now = _now()
        with self._database.reading() as session:
            row = _by_secret(session, secret)
            identity = self._identity(row) if row is not None and self._is_open(row, now) else None
            if row is None or identity is None:
                return None
            found = KnownSession(row.session_id, identity, row.ends)
            is_due = in_use and now - row.seen >= min(_SEEN_EVERY, self._idle / 4)
        if is_due:
            with self._database.writing() as session:
                held = session.get(SessionRow, found.session_id)
                if held is not None:
                    held.seen = max(held.seen, now)
        return found

    def sign_out(self, secret: str, request_id: str) -> None:
        """End the session of `secret`, where there is one."""
        with self._database.writing() as session:
            row = _by_secret(session, secret)
            if row is not None:
                session.delete(row)
                session.add(_event("signed_out", row, request_id, _now()))

    def revoke(self, session_id: UUID, actor: str, request_id: str, *, of_caller: bool) -> bool:
        """End another's session, or all `of_caller` whose it is; whether there was one."""
        now = _now()
        with self._database.writing() as session:
            row = session.get(SessionRow, session_id)
            if row is None:
                return False
            ended = session.scalars(select(SessionRow).where(*_of(row))).all() if of_caller else [row]
            for one in ended:
                session.delete(one)
                session.add(_event("revoked", one, request_id, now, actor))
            return True

    def refused(self, method: Method, request_id: str) -> None:
        """Note that somebody could not sign in."""
        with self._database.writing() as session:
            session.add(SignInRow(event_id=uuid4(), time=_now(), event="refused", method=method, request_id=request_id))

    def spend(self, state: str, expires: datetime) -> bool:
        """Take the issuer's answer to `state`; False where it was taken before."""
        try:
            with self._database.writing() as session:
                session.add(SpentStateRow(digest=_digest(state), expires=expires))
        except IntegrityError:
            return False
        return True

    def listed(self) -> list[SessionAnswer]:
        """The sessions that have not ended, newest first."""
        with self._database.reading() as session:
            return self._answers(session)

    def own(self, secret: str) -> OwnSessionsAnswer | None:
        """Those of the caller whose session has `secret`; None where it has ended."""
        with self._database.reading() as session:
            row = _by_secret(session, secret)
            if row is None or not self._is_open(row, _now()):
                return None
            return OwnSessionsAnswer(current=row.session_id, sessions=tuple(self._answers(session, *_of(row))))

    def end_own(self, secret: str, session_id: UUID | None, request_id: str) -> int:
        """End a session of the caller whose session has `secret`, or all but this one; how many."""
        now = _now()
        with self._database.writing() as session:
            own = _by_secret(session, secret)
            if own is None or not self._is_open(own, now):
                return 0
            which = (
                SessionRow.session_id != own.session_id if session_id is None else SessionRow.session_id == session_id
            )
            ended = session.scalars(select(SessionRow).where(*_of(own), which)).all()
            for row in ended:
                session.delete(row)
                session.add(_event("revoked", row, request_id, now, own.caller))
            return len(ended)

    def events(self, before: datetime | None, limit: int) -> list[SignInAnswer]:
        """What happened at the entrance, newest first."""
        wanted = select(SignInRow).order_by(SignInRow.time.desc(), SignInRow.event_id).limit(limit)
        if before is not None:
            wanted = wanted.where(SignInRow.time < before)
        with self._database.reading() as session:
            return [SignInAnswer.model_validate(row, from_attributes=True) for row in session.scalars(wanted)]

    def _answers(self, session: Session, *which: ColumnElement[bool]) -> list[SessionAnswer]:
        now = _now()
        wanted = select(SessionRow).where(SessionRow.ends > now, SessionRow.seen > now - self._idle, *which)
        rows = session.scalars(wanted.order_by(SessionRow.created.desc()).limit(MOST_LISTED)).all()
        return [
            SessionAnswer.model_validate(row, from_attributes=True).model_copy(update={"browser": self._browser(row)})
            for row in rows
        ]

    def _browser(self, row: SessionRow) -> str | None:
        held = self._held(row)
        return None if held is None else held.get("browser")

    def _is_open(self, row: SessionRow, now: datetime) -> bool:
        return now < row.ends and now < row.seen + self._idle

    def _held(self, row: SessionRow) -> dict[str, Any] | None:
        """What was sealed for the row; None where the key that sealed it is gone, or the row was changed."""
        try:
            held: dict[str, Any] = json.loads(
                self._keys.unseal(row.identity, _place(row.session_id, row.caller, row.method))
            )
        except Unsealable as error:
            logger.error("%s", error)
            return None
        return held

    def _identity(self, row: SessionRow) -> Identity | None:
        """Who the session is of, as `_held`."""
        held = self._held(row)
        if held is None:
            return None
        scopes = frozenset(Scope(scope) for scope in held["scopes"])
        method: Method = "oidc" if row.method == "oidc" else "api_key"
        return Identity(row.caller, held["name"], method, scopes, frozenset(held["groups"]))

    def _forget(self, session: Session, now: datetime) -> None:
        """Delete what has ended by itself."""
        ended = (SessionRow.ends <= now) | (SessionRow.seen <= now - self._idle)
        session.execute(delete(SessionRow).where(ended))
        session.execute(delete(SpentStateRow).where(SpentStateRow.expires <= now))


def _now() -> datetime:
    return datetime.now(UTC)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _place(session_id: UUID, caller: str, method: str) -> str:
    return f"session {session_id} of {method} {caller}"


def _by_secret(session: Session, secret: str | None) -> SessionRow | None:
    if secret is None:
        return None
    return session.scalars(select(SessionRow).where(SessionRow.digest == _digest(secret))).one_or_none()


def _of(row: SessionRow) -> tuple[ColumnElement[bool], ...]:
    """The sessions of the same caller."""
    return SessionRow.caller == row.caller, SessionRow.method == row.method


def _event(event: Event, row: SessionRow, request_id: str, now: datetime, actor: str | None = None) -> SignInRow:
    return SignInRow(
        event_id=uuid4(),
        time=now,
        event=event,
        method=row.method,
        caller=row.caller,
        session_id=row.session_id,
        actor=actor,
        request_id=request_id,
    )
