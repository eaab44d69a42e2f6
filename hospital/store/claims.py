"""Work items that the gateway has claimed, and how far it is with each: what it goes on with after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter
from sqlalchemy import select

from consilium.databases.database import Database
from hospital.store.clock import Clock
from hospital.store.keys import StoreKey
from hospital.store.rows.tables import ClaimRow


class ClaimStage(StrEnum):
    """How far the work on a work item is."""

    CLAIMING = "claiming"
    """The claim may or may not have reached the worklist."""
    FETCHING = "fetching"
    """It is ours; its input is being fetched."""
    PERFORMING = "performing"
    """Its studies are being answered, and their results delivered."""
    COMPLETED = "completed"
    CANCELED = "canceled"
    LOST = "lost"
    """Another performer has it, or the worklist took it back."""


OPEN_CLAIMS = (ClaimStage.CLAIMING, ClaimStage.FETCHING, ClaimStage.PERFORMING)


@dataclass(frozen=True, slots=True)
class Claim:
    """One work item of one worklist.

    Attributes
    ----------
    worklist : str
        Name in the configuration.
    item : str
        UID of the work item.
    transaction : str
        Transaction UID: who knows it owns the work item.
    studies : tuple of str
        Study Instance UIDs of its input.
    began, due : datetime
        When it was claimed, and when to look at it next.
    attempts : int
        In a row that failed.
    progress : int
        Percent that the worklist was last told.
    cancel : bool
        Somebody asked for its cancellation.
    unheard : bool
        The event channel was closed since it was claimed: what was asked for then is looked for in the work item.
    problem : str, optional
        What the last attempt met, or why it was cancelled; without names and identifiers.
    """

    worklist: str
    item: str
    transaction: str = field(repr=False)
    stage: ClaimStage
    began: datetime
    due: datetime
    studies: tuple[str, ...] = ()
    attempts: int = 0
    progress: int = 0
    cancel: bool = False
    unheard: bool = False
    problem: str | None = None


_CLAIM = TypeAdapter(Claim)


class Claims:
    """Claims in the store. Synchronous: call it on a thread. Only the running gateway writes them."""

    def __init__(self, database: Database, key: StoreKey, clock: Clock) -> None:
        self._database = database
        self._key = key
        self._clock = clock

    def get(self, worklist: str, item: str) -> Claim | None:
        with self._database.reading() as session:
            row = session.get(ClaimRow, self._place(worklist, item))
            return None if row is None else self._opened(row)

    def save(self, claim: Claim) -> Claim:
        """Keep a claim; it is on the disk when this returns."""
        place = self._place(claim.worklist, claim.item)
        ended = None if claim.stage in OPEN_CLAIMS else self._clock()
        body = self._key.seal(_CLAIM.dump_json(claim), f"claim {place}")
        row = ClaimRow(
            claim=place, worklist=claim.worklist, stage=claim.stage.value, began=claim.began, ended=ended, body=body
        )
        with self._database.writing() as session:
            session.merge(row)
        return claim

    def open(self, worklist: str) -> list[Claim]:
        """Claims of a worklist that are not ended, the oldest first."""
        where = (ClaimRow.worklist == worklist, ClaimRow.stage.in_(OPEN_CLAIMS))
        with self._database.reading() as session:
            rows = session.scalars(select(ClaimRow).where(*where).order_by(ClaimRow.began))
            return [self._opened(row) for row in rows]

    def listed(self, *, stages: Sequence[ClaimStage] = (), limit: int = 100) -> list[Claim]:
        """Claims of all worklists, the latest first."""
        wanted = select(ClaimRow).order_by(ClaimRow.began.desc()).limit(limit)
        if stages:
            wanted = wanted.where(ClaimRow.stage.in_(stages))
        with self._database.reading() as session:
            return [self._opened(row) for row in session.scalars(wanted)]

    def _place(self, worklist: str, item: str) -> str:
        return self._key.digest("claim", worklist, item)

    def _opened(self, row: ClaimRow) -> Claim:
        return _CLAIM.validate_json(self._key.unseal(row.body, f"claim {row.claim}"))
