"""Priors are fetched for the readers of a study: of the same person alone, and never answered themselves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hospital.dicom.query_retrieve import FoundSeries, FoundStudy, Moved
from hospital.dicom.requesting import PeerUnreachable
from hospital.running.prior_parts import PriorPart
from hospital.running.sources.prior_finder import PriorFinder, PriorSource
from hospital.store.inbox import Watermark
from hospital.store.prior_searches import PriorSearch
from hospital.store.received import PatientId, PatientMerge, ReceivedInstance
from hospital.store.state import StudyStage
from hospital.studies.asking.explanation_jobs import ExplanationJobs
from hospital.studies.rules.prior_rules import PriorRules
from hospital.studies.rules.routing import Conditions
from hospital.studies.study_walk import StudyWalk, Surroundings
from tests.hospital.studies.hospital_double import Hospital, withdraw
from tests.hospital.studies.records import CLINIC, NOON, STUDY, WARD, instance
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
RULES = PriorRules(("pacs",), most=2, years=5, modalities=frozenset({"DX"}), body_parts=frozenset({"CHEST"}), objects=3)
FORMER, OTHER, THIRD = (PatientId(value, "WARD") for value in ("17", "18", "19"))


def image(study: str, number: int = 1, days: float = 30, **given: Any) -> ReceivedInstance:
    described = {"acquired": NOON - timedelta(days=days), "body_part": "CHEST"} | given
    named = {"sop_instance": f"{study}.1.{number}", "study": study, "series": f"{study}.1", "requested": True}
    return instance(number, study, **(named | described))


@dataclass
class Pacs:
    """An archive that has these studies, and sends what it is asked for.

    Attributes
    ----------
    claims : dict
        Study → the patient of whom it says that the study is, unless it is the one of its images.
    sends_less : int
        How many images of a study stay behind.
    """

    hospital: Hospital
    studies: dict[str, list[ReceivedInstance]] = field(default_factory=dict)
    claims: dict[str, PatientId] = field(default_factory=dict)
    away: bool = False
    sends_less: int = 0
    asked: list[PatientId] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)

    def add(self, *images: ReceivedInstance) -> None:
        self.studies[images[0].study] = list(images)

    def studies_of(self, patient: PatientId, since: date | None, until: date | None) -> list[FoundStudy]:
        if self.away:
            raise PeerUnreachable("pacs: there was no association")
        self.asked.append(patient)
        found = []
        for study, images in self.studies.items():
            whose = self.claims.get(study, images[0].patient)
            if whose == patient:
                modalities = tuple({str(one.description.modality) for one in images})
                found.append(FoundStudy(study, whose, None, images[0].description.acquired, modalities, len(images)))
        return found

    def series_of(self, study: str) -> list[FoundSeries]:
        told = {one.series: one.description for one in self.studies[study]}
        return [FoundSeries(uid, one.modality, one.body_part) for uid, one in told.items()]

    def instances(self, study: str, series: Sequence[str]) -> frozenset[str]:
        return frozenset(one.sop_instance for one in self.studies[study] if one.series in series)

    def move(self, study: str, series: Sequence[str]) -> Moved:
        self.moved.append(study)
        wanted = [one for one in self.studies[study] if one.series in series]
        sent = wanted[: len(wanted) - self.sends_less]
        self.hospital.receive(*sent)
        return Moved(len(sent), self.sends_less, 0)

    def source(self) -> PriorSource:
        return PriorSource(self.studies_of, self.series_of, self.instances, self.move)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path, priors=RULES)
    yield made
    made.store.close()


@pytest.fixture
def pacs(hospital: Hospital) -> Pacs:
    return Pacs(hospital)


def part(hospital: Hospital, pacs: Pacs) -> PriorPart:
    finder = PriorFinder(hospital.store, [hospital.route], {"pacs": pacs.source()}, {"main": hospital.jobs})
    return PriorPart(hospital.store, finder, ["pacs"])


async def arrived(hospital: Hospital, *images: ReceivedInstance) -> None:
    """A study that was looked at once, and is not complete yet."""
    hospital.receive(*(images or (instance(),)))
    await hospital.worker.turn()
    hospital.clock.move(seconds=61)
    await hospital.worker.turn()
    await hospital.worker.settled()


async def searched(hospital: Hospital, pacs: Pacs, turns: int = 1) -> PriorSearch:
    made = part(hospital, pacs)
    for _ in range(turns):
        await made.turn()
        hospital.clock.move(minutes=6)
    found = hospital.store.priors.get(STUDY)
    assert found is not None
    return found


def shown(hospital: Hospital) -> list[bytes]:
    """The images of every prior that the service was given."""
    return [data for one in hospital.service.beside.values() for data in one["images"]]


def content(*images: ReceivedInstance) -> list[bytes]:
    return [one.digest.encode() for one in images]


async def test_the_latest_priors_are_shown_beside_the_study_and_answered_by_nobody(
    hospital: Hospital, pacs: Pacs
) -> None:
    for number, days in enumerate((400, 30, 90)):
        pacs.add(image(f"1.8.{number}", days=days))
    await arrived(hospital)

    search = await searched(hospital, pacs)

    assert search.handed == ("1.8.1", "1.8.2"), "no more than the route asks for"
    assert (search.due, search.problem) == (None, None)
    assert shown(hospital) == content(image("1.8.1"), image("1.8.2"))
    for one in hospital.service.beside.values():
        assert one["reading_group"] == "chest"
        assert one["beside"] == hashlib.sha256(STUDY.encode()).hexdigest()
    await hospital.work(minutes=5)
    assert [len(asked.images) for asked in hospital.service.asked] == [1], "the study alone, without its priors"
    assert hospital.store.studies.get("1.8.1") is None
    assert not await part(hospital, pacs).turn(), "it is over"


async def test_a_study_waits_for_no_prior(hospital: Hospital, pacs: Pacs) -> None:
    pacs.away = True
    await arrived(hospital)
    state = hospital.store.studies.get(STUDY)
    assert state is not None
    assert state.stage is StudyStage.ANSWERED
    pending = await searched(hospital, pacs)
    assert (pending.problem, pending.attempts) == ("pacs: there was no association", 1)

    last = await searched(hospital, pacs, turns=8)

    assert (last.due, last.problem) == (None, "pacs: there was no association")


async def test_a_source_that_comes_back_is_asked_again(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8"))
    pacs.away = True
    await arrived(hospital)
    await searched(hospital, pacs)
    pacs.away = False
    assert (await searched(hospital, pacs)).handed == ("1.8",)


async def test_what_does_not_fit_is_not_fetched(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8.1", modality="CT"))
    pacs.add(image("1.8.2", body_part="KNEE"))
    pacs.add(*(image("1.8.3", number) for number in range(4)))
    pacs.add(image("1.8.4", days=6 * 365))
    chest, knee = image("1.8.5"), image("1.8.5", 2, series="1.8.5.2", body_part="KNEE")
    pacs.add(chest, knee)
    await arrived(hospital)

    search = await searched(hospital, pacs)

    assert (search.handed, pacs.moved) == (("1.8.5",), ["1.8.5"])
    assert shown(hospital) == content(chest)


async def test_the_priors_of_another_issuer_s_patient_are_not_asked_for(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8", patient=CLINIC))
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ()
    assert pacs.asked == [WARD]


async def test_objects_that_name_another_patient_than_the_source_does_are_not_shown(
    hospital: Hospital, pacs: Pacs, caplog: pytest.LogCaptureFixture
) -> None:
    pacs.add(image("1.8", patient=CLINIC))
    pacs.claims["1.8"] = WARD
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ()
    assert hospital.service.beside == {}
    assert "a prior is not shown" in caplog.text
    assert "4711" not in caplog.text


async def test_a_patient_without_an_issuer_has_no_priors(hospital: Hospital, pacs: Pacs) -> None:
    await arrived(hospital, instance(patient=PatientId("4711", None)))
    assert hospital.store.priors.get(STUDY) is None


async def test_a_merge_has_the_former_number_asked_for(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8", patient=FORMER))
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ()
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    await hospital.work(minutes=2)
    assert (await searched(hospital, pacs)).handed == ("1.8",)
    assert pacs.asked == [WARD, WARD, FORMER]


async def test_a_prior_under_a_number_that_is_another_persons_after_all_is_taken_back(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8.1"))
    pacs.add(image("1.8.2", patient=FORMER))
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ("1.8.1", "1.8.2")

    hospital.receive(PatientMerge(OTHER, FORMER, "adt", NOON + timedelta(minutes=1)))
    await hospital.work(minutes=2)
    hospital.service.away = True
    assert len((await searched(hospital, pacs, turns=9)).taken_back) == 2, "it is tried until it is done"
    hospital.service.away = False
    search = await searched(hospital, pacs)

    assert (search.handed, search.taken_back) == (("1.8.1",), ())
    assert shown(hospital) == content(image("1.8.1"))


async def test_a_prior_of_which_objects_are_missing_is_not_shown_until_they_come(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8", 1), image("1.8", 2))
    pacs.sends_less = 1
    await arrived(hospital)
    assert (await searched(hospital, pacs)).problem == "1 of 2 objects of a prior are not here"
    pacs.sends_less = 0
    assert (await searched(hospital, pacs)).handed == ("1.8",)
    assert len(shown(hospital)) == 2


async def test_a_study_of_its_own_is_shown_as_it_is_and_not_answered_anew(hospital: Hospital, pacs: Pacs) -> None:
    own = replace(image("1.8"), requested=False)
    await arrived(hospital, own)
    pacs.add(own)
    await arrived(hospital)

    assert await part(hospital, pacs).turn()
    assert (await searched(hospital, pacs)).handed == ("1.8",)

    assert pacs.moved == []
    await hospital.work(minutes=5)
    assert len(hospital.store.studies.revisions("1.8")) == 1


async def test_a_full_disk_fetches_nothing(hospital: Hospital, pacs: Pacs, monkeypatch: pytest.MonkeyPatch) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    monkeypatch.setattr(Watermark, "has_room", property(lambda _: False))
    assert (await searched(hospital, pacs)).problem == "the disk of the store is beyond its watermark"
    assert pacs.moved == []


async def test_a_service_that_is_away_gets_each_prior_once_when_it_is_back(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8.1"))
    pacs.add(image("1.8.2", days=60))
    await arrived(hospital)
    hospital.service.away = True
    assert (await searched(hospital, pacs)).problem == "the service cannot be reached"
    hospital.service.away = False
    assert (await searched(hospital, pacs)).handed == ("1.8.1", "1.8.2")
    assert pacs.moved == ["1.8.1", "1.8.2"], "what is here is not fetched again"


async def test_a_prior_that_the_service_refuses_makes_room_for_the_next(hospital: Hospital, pacs: Pacs) -> None:
    for number in range(3):
        pacs.add(image(f"1.8.{number}", days=30 + number))
    broken = content(image("1.8.0"))
    hospital.service.refuse = lambda asked: (
        {"field": "images[0]", "rule": "must be whole"} if asked.images == broken else None
    )
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ("1.8.1", "1.8.2")


async def test_a_search_goes_on_after_a_death(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    again = hospital.restarted()
    assert (await searched(again, Pacs(again, pacs.studies))).handed == ("1.8",)
    again.store.close()


@pytest.fixture
async def former(hospital: Hospital, pacs: Pacs) -> ReceivedInstance:
    """A prior under a former number, before the study arrives."""
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    prior = image("1.8.2", patient=FORMER)
    pacs.add(prior)
    return prior


async def corrected(hospital: Hospital) -> None:
    """The former number turns out to be somebody else's."""
    hospital.receive(PatientMerge(OTHER, FORMER, "adt", NOON + timedelta(hours=1)))
    for _ in range(3):
        await hospital.work(minutes=2)


async def test_a_prior_is_taken_back_although_the_person_had_grown_meanwhile(
    hospital: Hospital, pacs: Pacs, former: ReceivedInstance
) -> None:
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ("1.8.2",)
    pacs.away = True
    hospital.receive(PatientMerge(WARD, THIRD, "adt", NOON + timedelta(minutes=1)))
    await hospital.work(minutes=2)
    grown = await searched(hospital, pacs)
    assert (set(grown.patients), grown.handed) == ({WARD, FORMER, THIRD}, ("1.8.2",))
    assert shown(hospital) == content(former), "once"

    await corrected(hospital)

    assert (await searched(hospital, pacs)).shown == ()
    assert shown(hospital) == []


async def test_priors_of_a_study_that_names_several_patients_after_all_are_taken_back(
    hospital: Hospital, pacs: Pacs, former: ReceivedInstance
) -> None:
    await arrived(hospital, instance(), instance(2, patient=FORMER))
    assert (await searched(hospital, pacs)).handed == ("1.8.2",)

    await corrected(hospital)

    state = hospital.store.studies.get(STUDY)
    assert state is not None
    assert state.stage is StudyStage.FAILED
    last = await searched(hospital, pacs)
    assert (last.handed, last.due, last.problem) == ((), None, None)
    assert shown(hospital) == []


@pytest.mark.parametrize("changed", [{"conditions": Conditions(modalities=frozenset({"CT"}))}, {"priors": None}])
async def test_priors_of_a_study_whose_route_wants_none_any_more_are_taken_back(
    hospital: Hospital, pacs: Pacs, changed: dict[str, Any]
) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    assert (await searched(hospital, pacs)).handed == ("1.8",)
    routes, services = [replace(hospital.route, **changed)], {"main": hospital.jobs}
    around = Surroundings(hospital.store, routes, services, hospital.sources, hospital.build, withdraw, hospital.clock)
    state = hospital.store.studies.get(STUDY)
    assert state is not None
    hospital.store.studies.save(replace(state, stage=StudyStage.ASSEMBLING))

    assert await StudyWalk(around).step(STUDY)

    await searched(hospital, pacs)
    assert shown(hospital) == []


async def test_what_is_handed_over_while_a_merge_is_corrected_is_taken_back(
    hospital: Hospital, pacs: Pacs, former: ReceivedInstance
) -> None:
    pacs.add(image("1.8.3", patient=FORMER, days=60))
    await arrived(hospital)
    loop, move, told = asyncio.get_running_loop(), pacs.move, []

    def moved(study: str, series: Sequence[str]) -> Moved:
        sent = move(study, series)
        if not told:
            told.append(study)
            asyncio.run_coroutine_threadsafe(corrected(hospital), loop).result(PATIENCE_S)
        return sent

    pacs.move = moved  # type: ignore[method-assign]
    before = await searched(hospital, pacs)
    assert (before.patients, hospital.service.kept) == ((WARD,), {}), "it is not handed over any more"
    assert pacs.moved == ["1.8.2"], "the search that was begun meanwhile goes on instead"

    after = await searched(hospital, pacs)

    assert (after.handed, after.taken_back, after.due) == ((), (), None)
    assert shown(hospital) == []


async def test_what_is_handed_over_while_it_is_withdrawn_is_taken_back(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    at_hand_over(hospital, lambda: hospital.store.priors.withdraw(STUDY))
    assert [one.service for one in (await searched(hospital, pacs)).taken_back] == ["main"]
    assert (await searched(hospital, pacs)).due is None
    assert shown(hospital) == []


def at_hand_over(hospital: Hospital, does: Callable[[], None]) -> None:
    """Have something done between the first hand-over and its answer."""
    done: list[str] = []

    def before(request: httpx.Request) -> None:
        if request.method == "POST" and request.url.path == "/v1/studies" and not done:
            done.append(request.url.path)
            does()

    hospital.service.before_answer = before


def lost(*does: Callable[[], None]) -> Callable[[], None]:
    """The answer of the service does not arrive, and something else happens."""

    def losing() -> None:
        for one in does:
            one()
        raise httpx.ReadError("the answer was lost")

    return losing


async def test_a_hand_over_of_which_the_answer_was_lost_is_found_by_its_repetition(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    at_hand_over(hospital, lost())
    first = await searched(hospital, pacs)
    assert (first.handed, len(first.offers)) == ((), 1)
    assert [one.outcome for one in first.found] == ["fetched"]

    search = await searched(hospital, pacs)

    assert (search.handed, search.offers, search.due) == (("1.8",), (), None)
    assert len(hospital.service.kept) == 1
    assert shown(hospital) == content(image("1.8"))


async def test_a_hand_over_of_which_the_answer_was_lost_is_taken_back_where_it_is_wanted_no_more(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    at_hand_over(hospital, lost(lambda: hospital.store.priors.withdraw(STUDY)))
    await searched(hospital, pacs)
    assert shown(hospital) == content(image("1.8")), "the service keeps it"

    last = await searched(hospital, pacs)

    assert (last.offers, last.taken_back, last.due) == ((), (), None)
    assert shown(hospital) == []


async def test_a_hand_over_of_which_the_answer_was_lost_is_taken_back_and_made_anew_where_the_person_grew(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8.1"))
    pacs.add(image("1.8.2", days=60))
    await arrived(hospital)
    at_hand_over(hospital, lost(lambda: hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))))
    await searched(hospital, pacs)
    await hospital.work(minutes=2)

    search = await searched(hospital, pacs)

    assert (search.round, search.handed, search.offers, search.due) == (1, ("1.8.1", "1.8.2"), (), None)
    assert shown(hospital) == content(image("1.8.1"), image("1.8.2")), "each once"


async def test_a_lost_hand_over_whose_prior_the_source_has_no_more_is_taken_back_at_the_end(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    at_hand_over(hospital, lost(pacs.studies.clear))
    await searched(hospital, pacs)

    search = await searched(hospital, pacs)

    assert (search.handed, search.offers, search.due) == ((), (), None)
    assert shown(hospital) == []


async def test_a_lost_hand_over_is_looked_for_until_the_service_is_back_however_long_the_search_is_over(
    hospital: Hospital, pacs: Pacs
) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)

    def leave() -> None:
        hospital.service.away = True

    at_hand_over(hospital, lost(leave))
    pending = await searched(hospital, pacs, turns=12)
    assert (len(pending.offers), pending.due is None) == (1, False)
    hospital.service.away = False

    search = await searched(hospital, pacs)

    assert (search.offers, search.due, search.problem) == ((), None, "the service cannot be reached")
    assert shown(hospital) == []


async def test_of_each_prior_it_is_known_how_far_it_is_and_why_no_further(hospital: Hospital, pacs: Pacs) -> None:
    for number in range(4):
        pacs.add(image(f"1.8.{number}", days=30 + number))
    pacs.add(image("1.8.5", days=10, body_part="KNEE"))
    pacs.add(image("1.8.6", days=11, patient=CLINIC))
    pacs.claims["1.8.6"] = WARD
    broken = content(image("1.8.0"))
    hospital.service.decodes = lambda images: images != broken
    await arrived(hospital)

    search = await searched(hospital, pacs)

    assert {one.study: (one.outcome.value, one.reason) for one in search.found} == {
        "1.8.5": ("left out", "no series of it fits"),
        "1.8.6": ("left out", "its objects name another patient than its source does"),
        "1.8.0": ("refused", "the service refuses a prior: images[0] must be whole"),
        "1.8.1": ("shown", None),
        "1.8.2": ("shown", None),
        "1.8.3": ("found", None),
    }
    assert {one.source for one in search.found} == {"pacs"}


async def test_a_prior_that_could_not_be_fetched_says_why(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8", 1), image("1.8", 2))
    pacs.sends_less = 1
    await arrived(hospital)
    (found,) = (await searched(hospital, pacs)).found
    assert (found.outcome.value, found.reason) == ("failed", "1 of 2 objects of a prior are not here")


async def test_what_is_to_be_taken_back_is_although_its_route_asks_for_no_priors_any_more(
    hospital: Hospital, pacs: Pacs, former: ReceivedInstance
) -> None:
    await arrived(hospital)
    await searched(hospital, pacs)
    await corrected(hospital)
    hospital.service.away = True
    for routes in ([], [replace(hospital.route, priors=None)]):
        made = PriorPart(hospital.store, PriorFinder(hospital.store, routes, {}, {"main": hospital.jobs}), [])
        assert await made.turn()
        hospital.clock.move(minutes=6)
    assert shown(hospital) == content(former), "the service is away"
    hospital.service.away = False

    assert await made.turn()

    search = hospital.store.priors.get(STUDY)
    assert search is not None
    assert (search.taken_back, search.due, search.problem) == ((), None, "it is wanted no more")
    assert shown(hospital) == []


async def test_a_prior_in_a_service_that_is_not_described_any_more_is_said_to_be_left_there(
    hospital: Hospital, pacs: Pacs, former: ReceivedInstance, caplog: pytest.LogCaptureFixture
) -> None:
    await arrived(hospital)
    (given,) = (await searched(hospital, pacs)).shown
    await corrected(hospital)
    finder = PriorFinder(hospital.store, [], {}, {})
    assert await PriorPart(hospital.store, finder, []).turn()
    assert f"prior {given.prior} cannot be taken back: gateway.yaml has no service 'main' any more" in caplog.text
    assert finder.counts["left behind"] == 1


async def test_a_prior_that_cannot_be_decoded_is_not_shown_and_makes_room_for_the_next(
    hospital: Hospital, pacs: Pacs
) -> None:
    for number in range(3):
        pacs.add(image(f"1.8.{number}", days=30 + number))
    broken = content(image("1.8.0"))
    hospital.service.decodes = lambda images: images != broken
    await arrived(hospital)

    search = await searched(hospital, pacs)

    assert (search.handed, search.refused, search.decoded) == (("1.8.1", "1.8.2"), ("1.8.0",), 2)
    assert (search.taken_back, search.due) == ((), None)
    assert shown(hospital) == content(image("1.8.1"), image("1.8.2")), "what cannot be decoded is deleted"


async def test_a_prior_counts_as_shown_once_it_is_decoded(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8"))
    hospital.service.decodes = lambda _: None
    await arrived(hospital)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    jobs = ExplanationJobs(hospital.service.client(), hospital.clock, sleep)
    finder = PriorFinder(hospital.store, [hospital.route], {"pacs": pacs.source()}, {"main": jobs})
    made = PriorPart(hospital.store, finder, ["pacs"])
    assert await made.turn()
    pending = hospital.store.priors.get(STUDY)
    assert pending is not None
    assert (pending.handed, pending.decoded) == (("1.8",), 0)
    assert pending.problem == "the service has not decoded a prior yet"
    assert (finder.counts["shown"], 30 <= sum(waited) < 60) == (0, True)

    hospital.service.decodes = lambda _: True
    hospital.clock.move(minutes=6)
    assert await made.turn()

    done = hospital.store.priors.get(STUDY)
    assert done is not None
    assert (done.handed, done.decoded, done.due) == (("1.8",), 1, None)
    assert (finder.counts["shown"], len(hospital.service.kept)) == (1, 1)


async def test_an_error_that_nobody_thought_of_ends_with_the_time_of_the_search(hospital: Hospital, pacs: Pacs) -> None:
    pacs.add(image("1.8"))
    await arrived(hospital)
    pacs.series_of = lambda study: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    search = await searched(hospital, pacs, turns=9)
    assert (search.due, search.problem) == (None, "a step failed: ZeroDivisionError")


def test_nothing_of_the_patient_is_in_what_is_shown_of_a_search() -> None:
    search = PriorSearch(STUDY, "chest", "main", "chest", (WARD,), NOON, NOON, datetime.max)
    assert "4711" not in repr(search)
