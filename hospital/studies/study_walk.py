"""One study's way: assembled, complete, asked, answered; its results go into the outbox.

A step reads everything anew and ends in one transaction, so that a process may die anywhere in it: what it had asked of
the service is asked again under the same key, and what it had not committed was never done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from consilium.api.schemas import ExplanationAnswer
from consilium.domain.errors import InputError
from hospital.store.clock import Clock
from hospital.store.gateway_store import Store
from hospital.store.received import StoreUnavailable
from hospital.store.state import Delivery, Revision, StudyChanged, StudyStage, StudyState, UnkeptAnswer
from hospital.studies.answered_study import AnsweredStudy, BuildDeliveries, BuildWithdrawals
from hospital.studies.asking.explanation_jobs import AttemptLost, Explained, ExplanationJobs, ServiceAway, StudyRefused
from hospital.studies.asking.page_removals import unkept_removal
from hospital.studies.asking.sent_files import sent_files
from hospital.studies.asking.study_request import StudyRequest
from hospital.studies.assembly import Assembled, assemble, request_of
from hospital.studies.rules.addressees import addressee_of, is_wrong
from hospital.studies.rules.completeness import Verdict, completeness
from hospital.studies.rules.matching import MatchedRecords, SeveralPatients
from hospital.studies.rules.patient_aliases import PatientAliases
from hospital.studies.rules.revision_digest import next_sources, read_images, revision_digest
from hospital.studies.rules.routing import Route, Routed, routed
from hospital.studies.wanted_priors import want_priors

logger = logging.getLogger("consilium.gateway")

MOST_ATTEMPTS = 5
"""How often the service may give one request up before a person must look."""
OPEN = (StudyStage.ASSEMBLING, StudyStage.REQUESTED)
_LOOK_EVERY = timedelta(seconds=10)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)

SEVERAL_PATIENTS = "its objects name several patients, whom no merge joins"
NO_IMAGE = "no image is there that the model could read"
NO_ROUTE = "no route takes it"


class SourceListing(Protocol):
    """Asks a source what it has of a study."""

    async def instances(self, source: str, study: str) -> frozenset[str] | None:
        """SOP Instance UIDs; None where the source cannot be asked or gives no answer."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the way of a study leads through.

    Attributes
    ----------
    services : mapping of str to ExplanationJobs
        By the name that routes give.
    build : callable
        Makes the objects of an answer for the destinations.
    withdraw : callable
        Makes what takes an answer back from the wrong addressee.
    """

    store: Store
    routes: Sequence[Route]
    services: Mapping[str, ExplanationJobs]
    sources: SourceListing
    build: BuildDeliveries
    withdraw: BuildWithdrawals
    clock: Clock


class StudyWalk:
    """Takes one study as far as it goes. One call at a time per study."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._store = surroundings.store
        self._now = surroundings.clock

    async def step(self, study: str) -> StudyState | None:
        """Take a study a step on its way; its state then, None where there is nothing to do, or not now."""
        try:
            state = await asyncio.to_thread(self._store.studies.get, study)
            if state is None or state.stage not in OPEN:
                return None
            return await self._guarded(state)
        except StudyChanged:
            return None
        except StoreUnavailable:
            logger.warning("the store takes no commit now; the study is looked at again")
            return None

    async def _guarded(self, state: StudyState) -> StudyState:
        """What nobody foresaw in one study keeps no other one waiting, and is tried again a few times."""
        try:
            return await self._advance(state)
        except (StudyChanged, StoreUnavailable):
            raise
        except InputError as error:
            return await self._fail(state, f"no result can be made: {error.field} {error.rule}")
        except Exception as error:
            logger.exception("a step of a study failed")
            return await self._fail(state, f"a step failed: {type(error).__name__}", tries=MOST_ATTEMPTS)

    async def _fail(self, state: StudyState, problem: str, tries: int = 1) -> StudyState:
        """With the state as it was saved last."""
        latest = await asyncio.to_thread(self._store.studies.get, state.study) or state
        attempts = latest.attempts + 1
        if attempts >= tries:
            return await self._end(latest, StudyStage.FAILED, problem)
        due = self._now() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempts)
        return await self._save(replace(latest, attempts=attempts, due=due, problem=problem))

    async def _advance(self, state: StudyState) -> StudyState:
        aliases = PatientAliases(self._store.patients.same)
        try:
            found = await asyncio.to_thread(assemble, self._store, state.study, aliases, self._now())
        except SeveralPatients:
            return await self._end_alone(state, StudyStage.FAILED, SEVERAL_PATIENTS)
        if found is None:
            return await self._end_alone(state, StudyStage.IGNORED, NO_IMAGE)
        if not found.images:
            state = await asyncio.to_thread(self._taken_back, state, found)
            return await self._end_alone(state, StudyStage.IGNORED, NO_IMAGE)
        found = await asyncio.to_thread(self._withdrawn, found, aliases)
        chosen = routed(self._around.routes, found.images, found.priority)
        state = replace(state, patient=found.identity.patient, accession=found.identity.accession)
        if chosen is None:
            state = await asyncio.to_thread(self._taken_back, state, found)
            return await self._end_alone(state, StudyStage.IGNORED, NO_ROUTE)
        await asyncio.to_thread(want_priors, self._store, found, chosen.route, aliases)
        verdict = await self._completeness(found, chosen)
        state = replace(state, route=chosen.route.name)
        if not verdict.complete:
            return await self._save(replace(state, stage=StudyStage.ASSEMBLING, due=verdict.again))
        return await self._ask(state, replace(found, images=chosen.images), chosen.route, verdict, aliases)

    def _withdrawn(self, found: Assembled, aliases: PatientAliases) -> Assembled:
        """The study with its answers taken back that were sent for somebody else; called on a thread.

        Where the last one was: the receiver may have an earlier one, for the same patient, that it had not superseded.
        """
        if not found.answered or not self._went_astray(found.answered[-1], found, aliases):
            return found
        astray = [one for one in found.answered if self._went_astray(one, found, aliases)]
        withdrawn = self._withdraw(astray)
        logger.warning("an answer is withdrawn: its study, or the order that it was sent to, is another patient's")
        kept = {one.revision: one for one in withdrawn}
        return replace(found, answered=tuple(kept.get(one.revision, one) for one in found.answered))

    def _taken_back(self, state: StudyState, found: Assembled) -> StudyState:
        """Take the answers to a study back of whose images none is left that was not rejected; called on a thread."""
        rejected = [one for one in state.unkept if found.current.faulty.issuperset(one.images)]
        self._store.outbox.put(unkept_removal(state.study, one) for one in rejected)
        standing = [one for one in found.answered if not one.withdrawn]
        if standing and read_images(standing[-1].sources) <= found.current.faulty:
            self._withdraw(standing)
            logger.warning("an answer is withdrawn: all images that it read were rejected")
        return replace(state, unkept=tuple(one for one in state.unkept if one not in rejected))

    def _withdraw(self, revisions: Sequence[Revision]) -> list[Revision]:
        now = self._now()
        return self._store.studies.withdraw(revisions, lambda one, sent: self._around.withdraw(one, sent, now))

    def _went_astray(self, revision: Revision, found: Assembled, aliases: PatientAliases) -> bool:
        """Whether an answer that nobody took back was sent for somebody else."""
        whom = revision.addressee
        if whom is None or revision.withdrawn:
            return False
        order = None if whom.order is None else self._store.records.latest_order(whom.order)
        return is_wrong(whom, found.identity, order, aliases)

    async def _completeness(self, found: Assembled, chosen: Routed) -> Verdict:
        rules, now = chosen.route.completeness, self._now()
        new = found.arrived(None, self._store.holds.held(found.identity.study))
        if new is None:  # what came since the last answer are records of another kind
            return Verdict()
        verdict = completeness(new, rules, now, _LOOK_EVERY)
        if verdict.proof or "count" not in rules.proofs or now < new.last + rules.quiet or new.open_associations:
            return verdict
        source = max(found.unanswered, key=lambda one: one.received).source
        listed = await self._around.sources.instances(source, found.identity.study)
        if listed is not None:
            # Results that were delivered to the source need not come back.
            listed -= await asyncio.to_thread(self._store.outbox.keys, found.identity.study)
        seen = found.arrived(listed, self._store.holds.held(found.identity.study)) or new
        return completeness(seen, rules, now, _LOOK_EVERY)

    async def _ask(
        self, state: StudyState, found: Assembled, route: Route, verdict: Verdict, aliases: PatientAliases
    ) -> StudyState:
        service = self._around.services[route.service]
        try:
            reads = await service.model()
            request, matched = await asyncio.to_thread(request_of, self._store, found, aliases, reads)
            sources = next_sources(request.sources(reads.digest), found.answered)
            if sources is None:
                return await self._end(state, StudyStage.ANSWERED, None)
            digest = revision_digest(sources)
            if state.revision != digest:
                state = replace(state, attempts=0)
            state = await self._save(replace(state, stage=StudyStage.REQUESTED, revision=digest, problem=None))
            explained = await service.explain(request, self._files(found), digest, state.attempts, route.reading_group)
        except StudyRefused as error:
            return await self._end(state, StudyStage.FAILED, str(error))
        except ServiceAway as error:
            return await self._again(state, error)
        return await self._answer(state, found, route, verdict, matched, explained, service)

    def _files(self, found: Assembled) -> _Files:
        return _Files(self._store, found)

    async def _answer(
        self,
        state: StudyState,
        found: Assembled,
        route: Route,
        verdict: Verdict,
        matched: MatchedRecords,
        explained: Explained,
        service: ExplanationJobs,
    ) -> StudyState:
        warnings = (*((verdict.warning,) if verdict.warning else ()), *explained.request.warnings)
        answer = explained.answer
        answer = answer.model_copy(update={"warnings": (*answer.warnings, *warnings)})
        asked = explained.request.sources(answer.model.manifest_digest)
        sources = next_sources(asked, found.answered)
        if sources is None:
            return await self._end(state, StudyStage.ANSWERED, None)
        revision = Revision(
            revision=revision_digest(sources),
            study=state.study,
            number=len(found.answered) + 1,
            time=found.at,
            sources=sources,
            answer=answer.model_dump_json().encode(),
            warnings=warnings,
            addressee=addressee_of(found.identity, explained.request.images, matched),
        )
        study = await self._answered_study(revision, answer, found, matched, explained.request, route)
        deliveries = await asyncio.to_thread(self._deliveries, study, found.answered)
        done = replace(
            state,
            stage=StudyStage.ANSWERED,
            due=None,
            revision=revision.revision,
            job=explained.job,
            attempts=0,
            warnings=warnings,
            problem=None,
            unkept=(),
        )
        try:
            done = await asyncio.to_thread(self._store.studies.answer, done, revision, deliveries)
        except StudyChanged:
            if route.reading_group is not None and answer.result_id is not None:
                unkept = UnkeptAnswer(route.service, str(answer.result_id), tuple(sorted(read_images(sources))))
                await asyncio.to_thread(self._note_unkept, state.study, unkept)
            raise
        await service.forget(explained.job)
        return done

    def _note_unkept(self, study: str, unkept: UnkeptAnswer) -> None:
        """With the state as others leave it: they may be changing it."""
        for _ in range(MOST_ATTEMPTS):
            latest = self._store.studies.get(study)
            if latest is None or unkept in latest.unkept:
                return
            with suppress(StudyChanged):
                self._store.studies.save(replace(latest, unkept=(*latest.unkept, unkept)))
                return
        logger.error("an answer stays on a reading page that was not kept: its study is being changed all the time")

    def _deliveries(self, study: AnsweredStudy, answered: Sequence[Revision]) -> list[Delivery]:
        """What is to be sent of an answer, each after what takes back any earlier one at its destination."""
        made = self._around.build(study)
        keys = tuple(one.key for former in answered if former.withdrawn for one in self._withdrawals(former))
        return [replace(one, after=(*one.after, *keys)) for one in made]

    def _withdrawals(self, revision: Revision) -> Sequence[Delivery]:
        sent = self._store.outbox.of_revision(revision.study, revision.revision)
        return self._around.withdraw(revision, sent, self._now())

    async def _answered_study(
        self,
        revision: Revision,
        answer: ExplanationAnswer,
        found: Assembled,
        matched: MatchedRecords,
        request: StudyRequest,
        route: Route,
    ) -> AnsweredStudy:
        return AnsweredStudy(
            revision=revision,
            answer=answer,
            patient=found.identity.patient,
            accession=found.identity.accession,
            images=request.images,
            files=tuple(await self._files(found)(request)),
            orders=matched.orders,
            records=dict(request.records),
            previous=found.answered[-1] if found.answered else None,
            destinations=route.destinations,
        )

    async def _again(self, state: StudyState, error: ServiceAway) -> StudyState:
        """Later, and more and more rarely; what the service gave up is asked under another key."""
        lost = isinstance(error, AttemptLost)
        attempts = state.attempts + lost
        if attempts >= MOST_ATTEMPTS:
            return await self._end(state, StudyStage.FAILED, f"{error}, {attempts} times")
        logger.warning("a study is asked about again later: %s", error)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempts)
        return await self._save(replace(state, attempts=attempts, due=self._now() + pause, problem=str(error)))

    async def _end_alone(self, state: StudyState, stage: StudyStage, problem: str) -> StudyState:
        """Of nobody, or for nobody: no prior stays beside it."""
        await asyncio.to_thread(self._store.priors.withdraw, state.study)
        return await self._end(state, stage, problem)

    async def _end(self, state: StudyState, stage: StudyStage, problem: str | None) -> StudyState:
        return await self._save(replace(state, stage=stage, due=None, problem=problem))

    async def _save(self, state: StudyState) -> StudyState:
        return await asyncio.to_thread(self._store.studies.save, state)


class _Files:
    """The files of a request, read when they are wanted."""

    def __init__(self, store: Store, found: Assembled) -> None:
        self._store = store
        self._patient = found.identity.patient

    async def __call__(self, request: StudyRequest) -> Sequence[bytes]:
        return await asyncio.to_thread(sent_files, self._store.files, request.images, self._patient)
