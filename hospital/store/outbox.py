"""The outbox: what is to be delivered, kept byte for byte until it arrived or was given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from consilium.databases.database import Database
from consilium.domain.errors import InputError
from hospital.store.clock import Clock
from hospital.store.keys import StoreKey
from hospital.store.rows.sealed_records import study_digest
from hospital.store.rows.tables import DeliveryRow
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery


@dataclass(frozen=True, slots=True)
class _Described:
    """What is sealed of a delivery beside its content."""

    key: str
    study: str | None
    revision: str | None
    after: tuple[str, ...]


_AT_ONCE = 200
_BEGUN = "an attempt has no answer yet"
_DESCRIBED = TypeAdapter(_Described)


class Outbox:
    """Deliveries in the store. Synchronous: call it on a thread. It calls `wake` when there is something to send."""

    def __init__(self, database: Database, key: StoreKey, clock: Clock, wake: Callable[[], None]) -> None:
        self._database = database
        self._key = key
        self._clock = clock
        self.wake = wake

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries in; those whose key is known at their destination are passed over."""
        with self._database.writing() as session:
            for delivery in deliveries:
                self.add(session, delivery)
        self.wake()

    def next(self, destination: str) -> QueuedDelivery | None:
        """The oldest delivery of a destination that is due and waits for no other one."""
        wanted = (
            select(DeliveryRow)
            .where(
                DeliveryRow.destination == destination,
                DeliveryRow.stage == DeliveryStage.WAITING,
                DeliveryRow.due <= self._clock(),
            )
            .order_by(DeliveryRow.number)
            .limit(_AT_ONCE)
        )
        with self._database.reading() as session:
            rows = session.scalars(wanted)
            row = next((row for row in rows if not self._waits(session, row)), None)
            return None if row is None else self._opened(row)

    def next_due(self, destination: str) -> datetime | None:
        """When the next delivery of a destination is due."""
        waiting = (DeliveryRow.destination == destination, DeliveryRow.stage == DeliveryStage.WAITING)
        with self._database.reading() as session:
            return session.scalar(select(func.min(DeliveryRow.due)).where(*waiting))

    def begin(self, number: int) -> bool:
        """Note, before it is tried, that a delivery may arrive from now on; False where it is to be sent no more."""
        still = (DeliveryRow.number == number, DeliveryRow.stage == DeliveryStage.WAITING)
        noted = update(DeliveryRow).where(*still).values(problem=func.coalesce(DeliveryRow.problem, _BEGUN))
        with self._database.writing() as session:
            return session.scalars(noted.returning(DeliveryRow.number)).first() is not None

    def sent(self, number: int) -> None:
        """It arrived; its content is no longer kept."""
        self._end(number, DeliveryStage.SENT, None, attempts=DeliveryRow.attempts + 1)

    def failed(self, number: int, due: datetime, problem: str) -> None:
        """It did not arrive, and is to be tried again at `due`, unless it was given up meanwhile."""
        waits = DeliveryRow.stage == DeliveryStage.WAITING
        self._change(number, waits, due=due, problem=problem, attempts=DeliveryRow.attempts + 1)

    def dead(self, number: int, problem: str) -> None:
        """The destination refuses it for good; its content stays, for `retry`. Not where it was given up meanwhile."""
        ended = self._clock()
        attempts, waits = DeliveryRow.attempts + 1, DeliveryRow.stage == DeliveryStage.WAITING
        self._change(number, waits, stage=DeliveryStage.DEAD, problem=problem, ended=ended, attempts=attempts)

    def postpone(self, destination: str, due: datetime, problem: str) -> None:
        """Try nothing of a destination before `due`: it cannot be reached. No attempt is counted."""
        waiting = (DeliveryRow.destination == destination, DeliveryRow.stage == DeliveryStage.WAITING)
        with self._database.writing() as session:
            session.execute(update(DeliveryRow).where(*waiting, DeliveryRow.due < due).values(due=due, problem=problem))

    def expire(self, destination: str, before: datetime, number: int | None = None) -> int:
        """Make dead letters of what waits for a destination since before `before`; of `number` alone, where given."""
        where = [
            DeliveryRow.destination == destination,
            DeliveryRow.stage == DeliveryStage.WAITING,
            DeliveryRow.created < before,
        ]
        if number is not None:
            where.append(DeliveryRow.number == number)
        values = {"stage": DeliveryStage.DEAD, "ended": self._clock()}
        with self._database.writing() as session:
            numbers = session.scalars(update(DeliveryRow).where(*where).values(values).returning(DeliveryRow.number))
            return len(numbers.all())

    def waiting(self, destination: str) -> int:
        """How many deliveries wait for a destination."""
        where = (DeliveryRow.destination == destination, DeliveryRow.stage == DeliveryStage.WAITING)
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(DeliveryRow).where(*where)) or 0

    def oldest(self) -> dict[str, datetime]:
        """By destination, since when the delivery waits that waits longest."""
        wanted = select(DeliveryRow.destination, func.min(DeliveryRow.created))
        waiting = wanted.where(DeliveryRow.stage == DeliveryStage.WAITING).group_by(DeliveryRow.destination)
        with self._database.reading() as session:
            return {row[0]: row[1] for row in session.execute(waiting)}

    def unaddressed(self, limit: int = 100) -> list[QueuedDelivery]:
        """Deliveries whose destination knows the patient by no identifier, the latest first."""
        dead = (DeliveryRow.stage == DeliveryStage.DEAD, DeliveryRow.content.is_(None))
        with self._database.reading() as session:
            rows = session.scalars(select(DeliveryRow).where(*dead).order_by(DeliveryRow.number.desc()).limit(limit))
            return [self._opened(row) for row in rows]

    def retry(self, number: int) -> QueuedDelivery:
        """Send a delivery now that waits or is dead; from now on it is tried for as long as a new one.

        Raises
        ------
        InputError
            There is none, it ended otherwise, it was never made, or it would be sent out of order.
        """
        queued = self._require(number, DeliveryStage.WAITING, DeliveryStage.DEAD)
        if queued.unaddressed:
            raise InputError("NUMBER", number, "must be a delivery with an addressee: its destination knows nobody")
        self._require_turn(number)
        now = self._clock()
        self._change(number, stage=DeliveryStage.WAITING, due=now, created=now, ended=None)
        self.wake()
        return self._require(number)

    def drop(self, number: int) -> QueuedDelivery:
        """Give a delivery up that waits or is dead.

        Raises
        ------
        InputError
        """
        self._require(number, DeliveryStage.WAITING, DeliveryStage.DEAD)
        self._end(number, DeliveryStage.DROPPED, None)
        return self._require(number)

    def listed(
        self, *, destination: str | None = None, stages: Sequence[DeliveryStage] = (), limit: int = 100
    ) -> list[QueuedDelivery]:
        """Deliveries, the latest first, without their contents."""
        wanted = select(DeliveryRow).order_by(DeliveryRow.number.desc()).limit(limit)
        if destination is not None:
            wanted = wanted.where(DeliveryRow.destination == destination)
        if stages:
            wanted = wanted.where(DeliveryRow.stage.in_(stages))
        with self._database.reading() as session:
            return [self._opened(row, content=False) for row in session.scalars(wanted)]

    def holds(self, key: str, destinations: Iterable[str]) -> bool:
        """Whether something was ever put in under `key` for one of these destinations."""
        with self._database.reading() as session:
            for destination in destinations:
                same = (DeliveryRow.destination == destination, DeliveryRow.key == self._place(destination, key))
                if session.scalar(select(DeliveryRow.number).where(*same)) is not None:
                    return True
        return False

    def keys(self, study: str) -> frozenset[str]:
        """Of everything that was put in for a study, for whatever destination."""
        wanted = select(DeliveryRow).where(DeliveryRow.study == study_digest(self._key, study))
        with self._database.reading() as session:
            return frozenset(self._opened(row, content=False).delivery.key for row in session.scalars(wanted))

    def of_revision(self, study: str, revision: str) -> list[QueuedDelivery]:
        """What was put in for one answer to a study, without contents."""
        with self._database.reading() as session:
            return self.read_revision(session, study, revision)

    def read_revision(self, session: Session, study: str, revision: str) -> list[QueuedDelivery]:
        """As `of_revision`, within a transaction."""
        where = (DeliveryRow.study == study_digest(self._key, study), DeliveryRow.revision == revision)
        rows = session.scalars(select(DeliveryRow).where(*where).order_by(DeliveryRow.number))
        return [self._opened(row, content=False) for row in rows]

    def counts(self) -> dict[tuple[str, DeliveryStage], int]:
        """How many deliveries of each destination are in each stage."""
        counted = select(DeliveryRow.destination, DeliveryRow.stage, func.count())
        with self._database.reading() as session:
            rows = session.execute(counted.group_by(DeliveryRow.destination, DeliveryRow.stage)).all()
        return {(row[0], DeliveryStage(row[1])): row[2] for row in rows}

    def add(self, session: Session, delivery: Delivery) -> None:
        """As `put`, within a transaction."""
        place = self._place(delivery.destination, delivery.key)
        described = _Described(delivery.key, delivery.study, delivery.revision, delivery.after)
        now = self._clock()
        unaddressed = delivery.problem is not None
        values = {
            "destination": delivery.destination,
            "key": place,
            "kind": delivery.kind,
            "stage": DeliveryStage.DEAD if unaddressed else DeliveryStage.WAITING,
            "attempts": 0,
            "created": now,
            "due": now,
            "ended": now if unaddressed else None,
            "problem": delivery.problem,
            "study": study_digest(self._key, delivery.study),
            "revision": delivery.revision,
            "after": [self._place(delivery.destination, key) for key in delivery.after],
            "body": self._key.seal(_DESCRIBED.dump_json(described), f"delivery {place}"),
            "content": None if unaddressed else self._key.seal(delivery.content, f"content {place}"),
        }
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        added = dialect.insert(DeliveryRow).values(values)
        # What was superseded and is wanted again, because a correction was taken back, is sent after all.
        superseded = DeliveryRow.stage == DeliveryStage.SUPERSEDED
        keys = (DeliveryRow.destination, DeliveryRow.key)
        session.execute(added.on_conflict_do_update(index_elements=keys, set_=values, where=superseded))

    def supersede(self, session: Session, study: str, revision: str = "") -> None:
        """Within a transaction: what was not sent of other revisions of `study` than `revision` is not any more.

        Nor is what a person could send by `retry`. What withdraws a revision is of none, and is sent.
        """
        others = (DeliveryRow.study == study_digest(self._key, study), DeliveryRow.revision != revision)
        dead = (DeliveryRow.stage == DeliveryStage.DEAD) & DeliveryRow.content.is_not(None)
        values = {"stage": DeliveryStage.SUPERSEDED, "ended": self._clock(), "content": None}
        unsent = (DeliveryRow.stage == DeliveryStage.WAITING) | dead
        session.execute(update(DeliveryRow).where(*others, unsent).values(values))

    def _place(self, destination: str, key: str) -> str:
        return self._key.digest("delivery", destination, key)

    def _waits(self, session: Session, row: DeliveryRow) -> bool:
        if not row.after:
            return False
        before = (DeliveryRow.destination == row.destination, DeliveryRow.key.in_(row.after))
        return session.scalar(select(DeliveryRow.number).where(*before, DeliveryRow.stage == "waiting")) is not None

    def _end(self, number: int, stage: DeliveryStage, problem: str | None, **more: Any) -> None:
        self._change(number, stage=stage, problem=problem, ended=self._clock(), content=None, **more)

    def _change(self, number: int, *where: ColumnElement[bool], **values: Any) -> None:
        with self._database.writing() as session:
            session.execute(update(DeliveryRow).where(DeliveryRow.number == number, *where).values(values))

    def _require(self, number: int, *stages: DeliveryStage) -> QueuedDelivery:
        with self._database.reading() as session:
            row = session.get(DeliveryRow, number)
            if row is None:
                raise InputError(
                    "NUMBER", number, "must be the number of a delivery; `consilium gateway outbox list` has them"
                )
            if stages and row.stage not in stages:
                raise InputError("NUMBER", number, f"must be a delivery that waits or is dead; it is {row.stage}")
            return self._opened(row, content=False)

    def _require_turn(self, number: int) -> None:
        """What takes an answer back must not be sent behind the one that came in its place: it would take that back."""
        with self._database.reading() as session:
            row = session.get_one(DeliveryRow, number)
            same = (DeliveryRow.destination == row.destination, DeliveryRow.study == row.study)
            others = session.scalars(select(DeliveryRow).where(*same).order_by(DeliveryRow.number)).all()
            before = [one.number for one in others if one.key in row.after and one.stage == DeliveryStage.DEAD]
            behind = [one.number for one in others if row.key in one.after and one.stage == DeliveryStage.SENT]
        if before:
            raise InputError("NUMBER", number, f"must come after delivery {before[0]}: retry or drop that one first")
        if behind:
            rule = f"must not come after delivery {behind[0]}, which was sent in its place: drop it, and look there"
            raise InputError("NUMBER", number, rule)

    def _opened(self, row: DeliveryRow, *, content: bool = True) -> QueuedDelivery:
        known = _DESCRIBED.validate_json(self._key.unseal(row.body, f"delivery {row.key}"))
        held = content and row.content is not None
        data = self._key.unseal(row.content or b"", f"content {row.key}") if held else b""
        delivery = Delivery(known.key, row.destination, row.kind, data, known.study, known.revision, known.after)
        stage = DeliveryStage(row.stage)
        return QueuedDelivery(
            row.number,
            delivery,
            stage,
            row.attempts,
            row.created,
            row.due,
            row.ended,
            row.problem,
            unaddressed=stage is DeliveryStage.DEAD and row.content is None,
        )
