"""One search for priors: asked for, fetched, looked at, and given to the service for the readers of a study.

A prior is never a study of its own here: it comes as something that was asked for, and starts none. Whatever it says of
itself, it is shown only where every object of it names the patient, under an identifier that merges joined to the
study's. The request names the study to show it beside; the service compares no numbers of patients.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from consilium.domain.errors import ConsiliumError
from hospital.dicom.query_retrieve import FoundSeries, FoundStudy, Moved
from hospital.running.sources.study_fetching import Incomplete
from hospital.store.gateway_store import Store
from hospital.store.prior_searches import Offer, PriorOutcome, PriorSearch, ShownPrior
from hospital.store.received import PatientId, ReceivedInstance, StoreFull, StoreUnavailable
from hospital.studies.asking.explanation_jobs import ExplanationJobs, ServiceAway, StudyRefused
from hospital.studies.asking.sent_files import sent_files
from hospital.studies.rules.current_records import current_instances
from hospital.studies.rules.prior_rules import PriorRules
from hospital.studies.rules.routing import Route

logger = logging.getLogger("consilium.gateway")

_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
_MOST_LOOKED_AT = 50
"""Studies of one patient whose series are asked for."""


@dataclass(frozen=True, slots=True)
class PriorSource:
    """One system that may have priors; to be called on a thread. Its functions raise a `ConsiliumError`.

    Attributes
    ----------
    studies_of : callable
        Studies of a patient, from one day to another.
    series_of : callable
        Series of a study.
    instances : callable
        SOP Instance UIDs of series of a study.
    move : callable
        Has the system send series of a study; returns when it has.
    """

    studies_of: Callable[[PatientId, date | None, date | None], list[FoundStudy]]
    series_of: Callable[[str], list[FoundSeries]]
    instances: Callable[[str, Sequence[str]], frozenset[str]]
    move: Callable[[str, Sequence[str]], Moved]


class PriorFinder:
    """Takes searches as far as they go, one at a time.

    Parameters
    ----------
    asked : callable
        Gets the source and the patient of each question, on a thread.

    Attributes
    ----------
    counts : Counter of str
        Priors by what became of them, and searches that were given up.
    """

    def __init__(
        self,
        store: Store,
        routes: Sequence[Route],
        sources: Mapping[str, PriorSource],
        services: Mapping[str, ExplanationJobs],
        asked: Callable[[str, PatientId], None] = lambda *_: None,
    ) -> None:
        self.counts = Counter[str]()
        self._store, self._sources, self._services, self._asked = store, sources, services, asked
        self._routes = {route.name: route for route in routes}

    async def step(self, search: PriorSearch) -> PriorSearch:
        """Take a search further; the search as it is in the store then.

        Raises
        ------
        StoreUnavailable
        """
        try:
            return await self._stepped(search)
        except _Superseded as error:
            return error.by

    async def _stepped(self, search: PriorSearch) -> PriorSearch:
        problems: list[str] = []
        try:
            search = await self._without_others(search, problems)
            if not search.taken_back:
                if _is_late(search):
                    problems += [search.problem] if search.problem is not None else []
                else:
                    search = await self._looked(search, problems)
                if self._is_over(search, problems):
                    search = await self._reviewed(search, search.offers)
                search = await self._without_others(search, problems)
        except ServiceAway as error:
            problems.append(str(error))
        except (StoreUnavailable, _Superseded):
            raise
        except Exception as error:
            logger.exception("a search for priors failed")
            problems.append(f"a step failed: {type(error).__name__}")
        # With what was handed over before it broke off.
        known = await asyncio.to_thread(self._store.priors.get, search.study)
        return await self._left(_same(search, known), problems)

    async def _without_others(self, search: PriorSearch, problems: list[str]) -> PriorSearch:
        """Before anything else, what was shown of another person is taken back."""
        search = await self._reviewed(search, [one for one in search.offers if one.round != search.round])
        for prior in search.taken_back:
            service = self._services.get(prior.service)
            try:
                if service is not None:
                    await service.take_back(prior.prior)
            except ServiceAway as error:
                problems.append(str(error))
                continue
            if service is None:
                message = "prior %s cannot be taken back: gateway.yaml has no service %r any more; delete it there"
                logger.error(message, prior.prior, prior.service)
            self.counts["left behind" if service is None else "taken back"] += 1
            rest = tuple(one for one in search.taken_back if one != prior)
            search = await self._save(replace(search, taken_back=rest))
        return search

    async def _reviewed(self, search: PriorSearch, offers: Collection[Offer]) -> PriorSearch:
        """What a service keeps of hand-overs of which the answer was lost is taken back.

        Raises
        ------
        ServiceAway, StoreUnavailable
        """
        for name in dict.fromkeys(offer.service for offer in offers):
            service = self._services.get(name)
            if service is None:
                message = "a prior may be left behind: gateway.yaml has no service %r any more; look there"
                logger.error(message, name)
                self.counts["left behind"] += 1
            known = {one.prior for one in (*search.shown, *search.taken_back)}
            kept = [] if service is None else await service.priors_beside(search.study)
            lost = [ShownPrior(name, one) for one in kept if one not in known]
            rest = tuple(one for one in search.offers if one.service != name or one not in offers)
            search = await self._save(replace(search.without(lost), offers=rest, reviews=search.reviews + 1))
        return search

    def _asking(self, search: PriorSearch) -> tuple[PriorRules, ExplanationJobs] | None:
        """By which rules a search is made, and for which service; None where it is wanted no more."""
        route, service = self._routes.get(search.route), self._services.get(search.service)
        if not search.patients or route is None or route.priors is None or service is None:
            return None
        return route.priors, service

    async def _looked(self, search: PriorSearch, problems: list[str]) -> PriorSearch:
        asking = self._asking(search)
        if asking is None:
            return search
        rules, service = asking
        search = await self._decoded(search, service)
        found = (await asyncio.to_thread(self._found, search, rules, problems))[:_MOST_LOOKED_AT]
        search = await self._save(search.with_found((source, other.study) for source, other in found))
        for source, other in found:
            if len(search.handed) >= rules.most:
                break
            if other.study in search.handed or other.study in search.refused:
                continue
            try:
                images = await asyncio.to_thread(self._images, search, rules, self._sources[source], other.study)
                search = await self._handed_over(search, service, other.study, images)
            except (ServiceAway, StoreUnavailable):
                raise
            except _LeftOut as error:
                self.counts["left out"] += 1
                search = await self._save(search.with_outcome(other.study, PriorOutcome.LEFT_OUT, str(error)))
            except (ConsiliumError, OSError) as error:
                problem = str(error) if isinstance(error, ConsiliumError) else "the disk takes no more"
                problems.append(problem)
                search = await self._save(search.with_outcome(other.study, PriorOutcome.FAILED, problem))
            else:
                search = await self._decoded(search, service)
        return search

    async def _decoded(self, search: PriorSearch, service: ExplanationJobs) -> PriorSearch:
        """Wait until the service has decoded what it was given; what it cannot decode is not shown."""
        while (number := search.decoded) < len(search.shown):
            try:
                await service.until_decoded(search.shown[number].prior)
            except StudyRefused as error:
                handed, shown = list(search.handed), list(search.shown)
                back = shown.pop(number)
                del handed[number]
                left = replace(search, handed=tuple(handed), shown=tuple(shown))
                search = await self._refused(left.without([back]), search.handed[number], error)
            else:
                self.counts["shown"] += 1
                decoded = replace(search, decoded=number + 1)
                search = await self._save(decoded.with_outcome(search.handed[number], PriorOutcome.SHOWN))
        return search

    async def _refused(self, search: PriorSearch, prior: str, error: StudyRefused) -> PriorSearch:
        logger.warning("%s", error)
        self.counts["refused"] += 1
        refused = replace(search, refused=(*search.refused, prior))
        return await self._save(refused.with_outcome(prior, PriorOutcome.REFUSED, str(error)))

    def _is_over(self, search: PriorSearch, problems: Sequence[str]) -> bool:
        """Whether nothing more is looked for."""
        late = self._store.clock() >= search.until
        return self._asking(search) is None or not problems or late or self._has_enough(search)

    def _has_enough(self, search: PriorSearch) -> bool:
        asking = self._asking(search)
        most = 0 if asking is None else asking[0].most
        return len(search.handed) >= most and search.decoded == len(search.handed)

    async def _left(self, search: PriorSearch, problems: Sequence[str]) -> PriorSearch:
        """Ended, or to be gone on with."""
        now, problem = self._store.clock(), problems[0] if problems else None
        if self._is_over(search, problems) and not (search.taken_back or search.offers):
            if self._asking(search) is None:
                return await self._save(search.ended("it is wanted no more" if search.patients else None))
            if problem is None or self._has_enough(search):
                return await self._save(search.ended())
            self.counts["given up"] += 1
            logger.warning("priors of a study are not all shown: %s", problem)
            return await self._save(search.ended(problem))
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(search.attempts, 20))
        due = now + pause if search.taken_back or now >= search.until else min(search.until, now + pause)
        return await self._save(replace(search, due=due, attempts=search.attempts + 1, problem=problem))

    def _found(self, search: PriorSearch, rules: PriorRules, problems: list[str]) -> list[tuple[str, FoundStudy]]:
        """What the sources have of the patient; whether one of them gives no answer is said among `problems`."""
        found: list[tuple[str, FoundStudy]] = []
        for name in rules.sources:
            try:
                for patient in (one for one in search.patients if one.issuer is not None):
                    theirs = self._sources[name].studies_of(patient, *rules.days(search.taken))
                    found += [(name, one) for one in theirs]
                    self._asked(name, patient)
            except ConsiliumError as error:
                if isinstance(error, StoreUnavailable):
                    raise
                problems.append(str(error))
        return rules.candidates(found, search.study, search.taken, frozenset(search.patients))

    def _images(
        self, search: PriorSearch, rules: PriorRules, source: PriorSource, prior: str
    ) -> list[ReceivedInstance]:
        """The images of a prior that are shown, fetched where they are not here.

        Raises
        ------
        _LeftOut, ConsiliumError
        """
        fitting = source.series_of(prior)
        series = sorted(one.series for one in fitting if rules.fits(one.modality, one.body_part))
        listed = source.instances(prior, series) if series else frozenset()
        if not listed:
            raise _LeftOut("no series of it fits")
        if len(listed) > rules.objects:
            raise _LeftOut(f"{len(listed)} objects, of at most {rules.objects}")
        # What was sent to us is a study of its own: to fetch more of it would have it answered anew.
        if self._store.studies.get(prior) is None:
            self._fetch(source, prior, series, listed)
        missing = listed - self._here(prior) - self._store.outbox.keys(prior)
        if missing:
            raise Incomplete(f"{len(missing)} of {len(listed)} objects of a prior are not here")
        return self._shown(search, rules, prior, frozenset(series))

    def _fetch(self, source: PriorSource, prior: str, series: Sequence[str], listed: frozenset[str]) -> None:
        if listed <= self._here(prior):
            return
        if not self._store.inbox.has_room:
            raise StoreFull("the disk of the store is beyond its watermark")
        source.move(prior, series)

    def _here(self, study: str) -> frozenset[str]:
        return frozenset(one.sop_instance for one in self._store.records.instances(study))

    def _shown(
        self, search: PriorSearch, rules: PriorRules, prior: str, series: frozenset[str]
    ) -> list[ReceivedInstance]:
        received = self._store.records.instances(prior)
        if any(one.patient not in search.patients for one in received if not one.ours):
            why = "its objects name another patient than its source does"
            logger.warning("a prior is not shown: %s", why)
            raise _LeftOut(why)
        used = current_instances(received, self._store.records.rejections(prior)).used
        images = [
            one
            for one in used
            if one.file is not None
            and one.series in series
            and rules.fits(one.description.modality, one.description.body_part)
        ]
        latest = datetime.max.replace(tzinfo=UTC)
        return sorted(images, key=lambda one: (one.description.acquired or latest, one.sop_instance))

    async def _handed_over(
        self, search: PriorSearch, service: ExplanationJobs, prior: str, images: Sequence[ReceivedInstance]
    ) -> PriorSearch:
        """The search with the images of a prior handed over, or refused.

        Raises
        ------
        _LeftOut, ServiceAway, StoreUnavailable
        """
        reads = await service.model()
        chosen = images[: reads.images]
        files = await asyncio.to_thread(sent_files, self._store.files, chosen, search.patients[0])
        if not files:
            raise _LeftOut("no image of it is read")
        if sum(map(len, files)) > reads.body_bytes:
            raise _LeftOut("more bytes than the service takes")
        digests = sorted(one.digest for one in chosen)
        name = json.dumps([search.study, search.group, search.round, search.reviews, digests])
        offer = Offer(search.service, f"prior-{hashlib.sha256(name.encode()).hexdigest()}", search.round)
        others = tuple(one for one in search.offers if one != offer)
        fetched = replace(search, offers=(*others, offer)).with_outcome(prior, PriorOutcome.FETCHED)
        search = replace(await self._save(fetched), offers=others)
        try:
            given = await service.show_beside(search.study, files, search.group, offer.key)
        except StudyRefused as error:
            return await self._refused(search, prior, error)
        handed, shown = (*search.handed, prior), (*search.shown, ShownPrior(search.service, given))
        handed_over = replace(search, handed=handed, shown=shown)
        return await self._save(handed_over.with_outcome(prior, PriorOutcome.HANDED_OVER))

    async def _save(self, search: PriorSearch) -> PriorSearch:
        return _same(search, await asyncio.to_thread(self._store.priors.save, search))


class _LeftOut(Exception):
    """A prior is not shown; the message names nobody."""


def _is_late(search: PriorSearch) -> bool:
    """Whether nothing is left but what the service keeps of hand-overs whose answer was lost."""
    return bool(search.offers) and search.due is not None and search.due > search.until


class _Superseded(Exception):
    """Another search of the study was begun meanwhile."""

    def __init__(self, by: PriorSearch) -> None:
        super().__init__()
        self.by = by


def _same(search: PriorSearch, known: PriorSearch | None) -> PriorSearch:
    """The search as it is `known` in the store.

    Raises
    ------
    _Superseded
    """
    if known is not None and known.round != search.round:
        raise _Superseded(known)
    return known or search
