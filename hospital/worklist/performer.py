"""One work item's way: claimed, its input fetched, its studies answered and delivered, completed or given up.

The claim stands in the store, with its Transaction UID, before the worklist is asked for it: whichever step the process
ends in, the next one takes that step again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from consilium.domain.errors import ConsiliumError
from consilium.formats.time_zone import TimeZone
from hospital.store.claims import OPEN_CLAIMS, Claim, Claims, ClaimStage
from hospital.store.clock import Clock
from hospital.worklist import performed_steps
from hospital.worklist.performed_steps import INCOMPLETE, UNSPECIFIED, WRONG_ENTRY, Output, PerformedStep
from hospital.worklist.work_items import STATE, CodedConcept, WorkItem, read_work_item, text_of
from hospital.worklist.worklist_server import Conflict, WorkItemGone, WorklistAway, WorklistFailure, WorklistServer

logger = logging.getLogger("consilium.gateway")

LOOK_EVERY = timedelta(seconds=2)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
FETCHED, ASKED, ANSWERED, DELIVERED = 25, 50, 80, 100
"""Percent of the work on a study. What is answered is delivered, whatever is asked for then."""
ON_REQUEST = "somebody asked for its cancellation"
OTHER_PATIENT = "its input is of another patient than the work item"


class InputUnavailable(ConsiliumError):
    """The input of a work item cannot be had now. The message names neither patient nor identifier."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a study is.

    Attributes
    ----------
    percent : int
        Of the work on it; `DELIVERED`: its results are.
    description : str
    patients : frozenset of str
        Every Patient ID of the persons whom its objects name.
    outputs : tuple of Output
        That were delivered.
    given_up : CodedConcept, optional
        Why nothing will come of it; `description` says the same in words.
    """

    percent: int
    description: str
    patients: frozenset[str] = frozenset()
    outputs: tuple[Output, ...] = ()
    given_up: CodedConcept | None = None


class Studies(Protocol):
    """What becomes of the input."""

    async def fetch(self, study: str) -> None:
        """Have a study in the store. Raises `InputUnavailable`."""
        ...

    async def begin(self, study: str) -> None:
        """Have a fetched study answered. Raises `InputUnavailable` where no image of it is there."""
        ...

    async def standing(self, study: str) -> Standing: ...

    async def withdraw(self, study: str) -> None:
        """No answer is wanted any more; one that is there stays."""
        ...


@dataclass(frozen=True, slots=True)
class PerformerRules:
    """How work items are done.

    Attributes
    ----------
    station : CodedConcept
        Who does them.
    ae_title : str
        To whom the worklist reports what others ask.
    give_up : timedelta
        After the claim: then a work item whose input cannot be had is cancelled, and one that is not given to us left.
    """

    station: CodedConcept
    ae_title: str
    zone: TimeZone
    give_up: timedelta = timedelta(hours=1)


class Performer:
    """Takes claims of one worklist as far as they go. One call at a time per claim.

    Attributes
    ----------
    counts : Counter of str
        Work items by what became of them, and subscriptions that were refused.
    """

    def __init__(
        self, server: WorklistServer, claims: Claims, studies: Studies, rules: PerformerRules, clock: Clock
    ) -> None:
        self.counts = Counter[str]()
        self._server, self._claims, self._studies = server, claims, studies
        self._rules, self._now = rules, clock

    async def step(self, claim: Claim) -> Claim:
        """Take an open claim a step further; the claim as it was saved."""
        try:
            return await self._advance(claim)
        except WorkItemGone:
            await self._withdraw(claim)
            return await self._end(claim, ClaimStage.LOST, "the worklist has no such work item any more")
        except Conflict:
            return await self._contested(claim)
        except (WorklistAway, InputUnavailable) as error:
            return await self._again(claim, str(error))

    async def _advance(self, claim: Claim) -> Claim:
        if claim.stage is ClaimStage.CLAIMING:
            return await self._claim(claim)
        if claim.unheard:
            claim = await self._heard(claim)
        if claim.stage is ClaimStage.FETCHING:
            return await (self._cancel(claim, UNSPECIFIED, ON_REQUEST) if claim.cancel else self._fetch(claim))
        return await self._perform(claim)

    async def _claim(self, claim: Claim) -> Claim:
        try:
            await self._server.change_state(claim.item, claim.transaction, "IN PROGRESS")
        except Conflict:
            # It may be ours by an earlier attempt, whose answer was not seen: its owner alone may update it.
            told = performed_steps.progress(0, "claimed")
            await self._server.update(claim.item, claim.transaction, told)
        self.counts["claimed"] += 1
        await self._subscribe(claim)
        return await self._save(replace(claim, stage=ClaimStage.FETCHING, due=self._now(), attempts=0, problem=None))

    async def _subscribe(self, claim: Claim) -> None:
        try:
            await self._server.subscribe(claim.item, self._rules.ae_title)
        except WorklistFailure as error:
            self.counts["not subscribed"] += 1
            logger.warning("cancel requests of a work item will not be seen: %s", error)

    async def _heard(self, claim: Claim) -> Claim:
        """Subscribe again, and take account of what the work item says was asked meanwhile.

        A worklist need not repeat an event that nobody took, and may have forgotten who subscribed. PS3.4 CC.2.4.3.
        """
        await self._subscribe(claim)
        cancel = claim.cancel or (await self._item(claim)).cancel_requested
        return await self._save(replace(claim, cancel=cancel, unheard=False))

    async def _fetch(self, claim: Claim) -> Claim:
        try:
            for study in claim.studies:
                await self._studies.fetch(study)
            item = await self._item(claim)
            if item.cancel_requested:
                return await self._cancel(claim, UNSPECIFIED, ON_REQUEST)
            standings = [await self._studies.standing(study) for study in claim.studies]
            if item.patient is not None and not all(item.patient in one.patients for one in standings):
                return await self._cancel(claim, WRONG_ENTRY, OTHER_PATIENT)
            for study in claim.studies:
                await self._studies.begin(study)
        except InputUnavailable as error:
            if self._now() >= claim.began + self._rules.give_up:
                return await self._cancel(claim, INCOMPLETE, str(error))
            raise
        claim = await self._tell(claim, FETCHED, "its input is there")
        return await self._save(replace(claim, stage=ClaimStage.PERFORMING, due=self._now(), attempts=0, problem=None))

    async def _perform(self, claim: Claim) -> Claim:
        standings = [await self._studies.standing(study) for study in claim.studies]
        given_up = next((one for one in standings if one.given_up is not None), None)
        if given_up is not None and given_up.given_up is not None:
            return await self._cancel(claim, given_up.given_up, given_up.description)
        slowest = min(standings, key=lambda one: one.percent)
        if slowest.percent < ANSWERED and (claim.cancel or await self._is_asked_to_end(claim, slowest)):
            return await self._cancel(claim, UNSPECIFIED, ON_REQUEST)
        if slowest.percent >= DELIVERED:
            return await self._complete(claim, standings)
        claim = await self._tell(claim, max(FETCHED, slowest.percent), slowest.description)
        return await self._save(replace(claim, due=self._now() + LOOK_EVERY, attempts=0, problem=None))

    async def _is_asked_to_end(self, claim: Claim, standing: Standing) -> bool:
        """Whether the work item says so: before progress is told, which takes the place of what stands there."""
        if max(FETCHED, standing.percent) == claim.progress:
            return False
        return (await self._item(claim)).cancel_requested

    async def _tell(self, claim: Claim, percent: int, description: str) -> Claim:
        if percent == claim.progress:
            return claim
        await self._server.update(claim.item, claim.transaction, performed_steps.progress(percent, description))
        return replace(claim, progress=percent)

    async def _complete(self, claim: Claim, standings: Sequence[Standing]) -> Claim:
        outputs = [output for one in standings for output in one.outputs]
        code = (await self._item(claim)).code
        done = PerformedStep(self._rules.station, code, claim.began, self._now(), outputs)
        changes = {**performed_steps.progress(DELIVERED, "its results are delivered"), **done.as_json()}
        await self._server.update(claim.item, claim.transaction, changes)
        await self._server.change_state(claim.item, claim.transaction, "COMPLETED")
        return await self._end(claim, ClaimStage.COMPLETED, None)

    async def _cancel(self, claim: Claim, reason: CodedConcept, words: str) -> Claim:
        await self._withdraw(claim)
        done = PerformedStep(self._rules.station, (await self._item(claim)).code, claim.began, self._now())
        changes = {**performed_steps.discontinued(reason, words, self._now()), **done.as_json()}
        await self._server.update(claim.item, claim.transaction, changes)
        await self._server.change_state(claim.item, claim.transaction, "CANCELED")
        return await self._end(claim, ClaimStage.CANCELED, words)

    async def _item(self, claim: Claim) -> WorkItem:
        found = read_work_item(await self._server.retrieve(claim.item), self._rules.zone)
        if found is None or found.item != claim.item:
            raise WorklistAway(f"{claim.worklist}: answered with another work item")
        return found

    async def _withdraw(self, claim: Claim) -> None:
        """The studies that no other work item wants."""
        others = await asyncio.to_thread(self._claims.open, claim.worklist)
        wanted = {study for one in others if one.item != claim.item for study in one.studies}
        for study in claim.studies:
            if study not in wanted:
                await self._studies.withdraw(study)

    async def _contested(self, claim: Claim) -> Claim:
        """The worklist does not take what we say of the work item: it is ended, or not ours."""
        try:
            state = text_of(await self._server.retrieve(claim.item), STATE)
        except WorklistFailure as error:
            return await self._again(claim, str(error))
        if state == "SCHEDULED" and self._now() < claim.began + self._rules.give_up:
            return await self._again(replace(claim, stage=ClaimStage.CLAIMING), "the worklist did not take our claim")
        if claim.stage is ClaimStage.CLAIMING:
            return await self._end(claim, ClaimStage.LOST, "another performer has it")
        if state == "COMPLETED":
            return await self._end(claim, ClaimStage.COMPLETED, None)
        await self._withdraw(claim)
        if state == "CANCELED":
            return await self._end(claim, ClaimStage.CANCELED, claim.problem or "the worklist cancelled it")
        return await self._end(claim, ClaimStage.LOST, "the worklist does not know our claim")

    async def _again(self, claim: Claim, problem: str) -> Claim:
        """Later, and more and more rarely."""
        if claim.problem is None:
            logger.warning("a work item is tried again later: %s", problem)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(claim.attempts, 30))
        due = self._now() + pause
        return await self._save(replace(claim, due=due, attempts=claim.attempts + 1, problem=problem))

    async def _end(self, claim: Claim, stage: ClaimStage, problem: str | None) -> Claim:
        assert stage not in OPEN_CLAIMS
        self.counts[stage] += 1
        logger.info("a work item ended: %s%s", stage, f" ({problem})" if problem else "")
        return await self._save(replace(claim, stage=stage, problem=problem))

    async def _save(self, claim: Claim) -> Claim:
        return await asyncio.to_thread(self._claims.save, claim)
