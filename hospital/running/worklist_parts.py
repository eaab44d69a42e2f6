"""The worklists that are worked on, as gateway.yaml describes them, and what becomes of the studies of a work item."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage

from consilium.domain.errors import ConsiliumError
from consilium.formats.time_zone import TimeZone
from consilium.output.reported import derived_uid
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import DicomDestination, StowDestination
from hospital.configuration.worklist_settings import CodeSettings, WorklistSettings
from hospital.running.dicom_parts import DicomParts
from hospital.running.gateway_metrics import CountedEvents
from hospital.running.sources.study_fetching import StudyFetching
from hospital.store.gateway_store import Store
from hospital.store.state import DeliveryStage, QueuedDelivery, Revision, StudyChanged, StudyStage, StudyState
from hospital.studies.study_walk import NO_IMAGE, NO_ROUTE
from hospital.worklist.cancel_requests import CancelRequests
from hospital.worklist.performed_steps import NOT_SUPPORTED, UNSPECIFIED, Output
from hospital.worklist.performer import (
    ANSWERED,
    ASKED,
    DELIVERED,
    FETCHED,
    LOOK_EVERY,
    InputUnavailable,
    Performer,
    PerformerRules,
    Standing,
)
from hospital.worklist.performing import Performing, Wanted
from hospital.worklist.work_items import CodedConcept
from hospital.worklist.worklist_server import WorklistServer

_CLASSES = {
    "sr": str(Comprehensive3DSRStorage),
    "sc": str(SecondaryCaptureImageStorage),
    "seg": str(SegmentationStorage),
}
_ATTEMPTS = 20
Change = Callable[[str, StudyState | None], StudyState | None]
WITHDRAWN = "its work item was cancelled"


@dataclass(frozen=True, slots=True)
class FetchedStudies:
    """The studies of one worklist's work items; `hospital.worklist.performer.Studies`."""

    settings: GatewaySettings
    store: Store
    fetching: StudyFetching

    async def fetch(self, study: str) -> None:
        """See `Studies.fetch`."""
        try:
            await asyncio.to_thread(self.fetching.fetch, self.store, study)
        except (ConsiliumError, OSError) as error:
            raise InputUnavailable(
                str(error) if isinstance(error, ConsiliumError) else "the disk takes no more"
            ) from None

    async def begin(self, study: str) -> None:
        """See `Studies.begin`. A study that a person set aside stays so."""
        await asyncio.to_thread(self._saved, study, self._begun)

    async def withdraw(self, study: str) -> None:
        """See `Studies.withdraw`. A study that somebody sent, too, is answered all the same."""
        await asyncio.to_thread(self._saved, study, self._withdrawn)

    async def standing(self, study: str) -> Standing:
        """See `Studies.standing`."""
        return await asyncio.to_thread(self._standing, study)

    def _saved(self, study: str, change: Change) -> None:
        """The worker may save the same study at any moment: then it is read again."""
        for attempt in range(_ATTEMPTS):
            changed = change(study, self.store.studies.get(study))
            if changed is None:
                return
            try:
                self.store.studies.save(changed)
            except StudyChanged:
                if attempt == _ATTEMPTS - 1:
                    raise InputUnavailable("a study is being changed all the time") from None
            else:
                self.store.arrived.set()
                return

    def _begun(self, study: str, state: StudyState | None) -> StudyState | None:
        now = self.store.clock()
        if state is None:
            first = next((one for one in self.store.records.instances(study) if not one.ours), None)
            if first is None:
                raise InputUnavailable("no image of the study is there")
            return StudyState(study, first.patient, first.accession, StudyStage.ASSEMBLING, now, now, due=now)
        if state.by_hand or state.stage in (StudyStage.ASSEMBLING, StudyStage.REQUESTED):
            return None
        return replace(state, stage=StudyStage.ASSEMBLING, due=now, attempts=0, problem=None)

    def _withdrawn(self, study: str, state: StudyState | None) -> StudyState | None:
        if state is None or state.stage not in (StudyStage.ASSEMBLING, StudyStage.REQUESTED):
            return None
        if any(not one.requested and not one.ours for one in self.store.records.instances(study)):
            return None
        return replace(state, stage=StudyStage.IGNORED, due=None, problem=WITHDRAWN)

    def _standing(self, study: str) -> Standing:
        patients = self._patients(study)
        state = self.store.studies.get(study)
        if state is None or state.stage is StudyStage.ASSEMBLING:
            return Standing(FETCHED, "its input is there", patients)
        if state.stage is StudyStage.REQUESTED:
            return Standing(ASKED, "the model is asked", patients)
        if state.stage is StudyStage.ANSWERED:
            return self._delivered(study, patients)
        reason = NOT_SUPPORTED if state.problem in (NO_IMAGE, NO_ROUTE) else UNSPECIFIED
        return Standing(FETCHED, state.problem or "a person set the study aside", patients, given_up=reason)

    def _patients(self, study: str) -> frozenset[str]:
        named = {one.patient for one in self.store.records.instances(study) if one.patient is not None}
        return frozenset(same.value for one in named for same in self.store.patients.same(one))

    def _delivered(self, study: str, patients: frozenset[str]) -> Standing:
        revision = self.store.studies.revisions(study)[-1]
        sent = self.store.outbox.of_revision(study, revision.revision)
        objects = [one for one in sent if one.delivery.kind in _CLASSES]
        if any(one.stage is DeliveryStage.WAITING for one in objects):
            return Standing(ANSWERED, "its results are being delivered", patients)
        outputs = [self._output(revision, one) for one in objects if one.stage is DeliveryStage.SENT]
        if objects and not outputs:
            return Standing(ANSWERED, "no archive took its results", patients, given_up=UNSPECIFIED)
        return Standing(DELIVERED, "its results are delivered", patients, tuple(outputs))

    def _output(self, revision: Revision, sent: QueuedDelivery) -> Output:
        kind = sent.delivery.kind
        series = derived_uid(revision.study, str(revision.sources["model"]), kind)
        title, url = self._place(sent.delivery.destination, revision.study, series)
        return Output(revision.study, series, _CLASSES[kind], sent.delivery.key, title, url)

    def _place(self, name: str, study: str, series: str) -> tuple[str | None, str | None]:
        """AE title or URL whence objects can be had that were sent to a destination."""
        destination = self.settings.destinations.get(name)
        if isinstance(destination, DicomDestination):
            return self.settings.peers[destination.peer].ae_title, None
        if isinstance(destination, StowDestination):
            return None, f"{self.settings.dicomweb[destination.server].url}/studies/{study}/series/{series}"
        return None, None


@dataclass
class WorklistPart:
    """One worklist; `hospital.running.parts.Part`."""

    name: str
    given: WorklistSettings
    performing: Performing
    cancel_requests: CancelRequests
    http: httpx.AsyncClient
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def listening(self) -> str:
        return f"worklist {self.name}, searched every {self.given.every.total_seconds():.0f} s"

    async def start(self) -> None:
        look_every, every = LOOK_EVERY.total_seconds(), self.given.every.total_seconds()
        work = self.performing.run(every, min(look_every, every))
        self._tasks = [
            asyncio.create_task(work, name=f"worklist {self.name}"),
            asyncio.create_task(self.cancel_requests.run(), name=f"cancel requests {self.name}"),
        ]

    async def stop(self) -> None:
        """What is claimed stays so; the next start goes on with it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.http.aclose()

    def count(self, events: CountedEvents) -> None:
        description = "Work items by worklist and what became of them"
        labels, counts = ("worklist", "outcome"), self.performing.performer.counts
        events.add("consilium_gateway_work_items", description, labels, counts, self.name)


def worklist_parts(settings: GatewaySettings, store: Store, dicom: DicomParts) -> list[WorklistPart]:
    """A part for each worklist.

    Raises
    ------
    InputError
        A token or certificate cannot be read.
    """
    return [_part(name, given, settings, store, dicom) for name, given in settings.worklists.items()]


def _part(
    name: str, given: WorklistSettings, settings: GatewaySettings, store: Store, dicom: DicomParts
) -> WorklistPart:
    http, zone = worklist_client(f"worklists.{name}", given), TimeZone(settings.time_zone)
    server = WorklistServer(name, http)
    studies = FetchedStudies(settings, store, dicom.fetching(given.inputs))
    rules = PerformerRules(_concept(given.station), given.ae_title, zone, given.give_up)
    performer = Performer(server, store.claims, studies, rules, store.clock)
    codes = frozenset((one.value, one.scheme) for one in given.codes)
    wanted = Wanted(codes, given.station.value, zone, given.at_once, lambda: store.inbox.has_room)
    performing = Performing(server, store.claims, performer, wanted, store.clock)
    heard = performing.request_cancellation, performing.channel_opened
    requests = CancelRequests(name, http, given.ae_title, *heard)
    return WorklistPart(name, given, performing, requests, http)


def worklist_client(field: str, given: WorklistSettings) -> httpx.AsyncClient:
    """Connections to a worklist.

    Raises
    ------
    InputError
    """
    return httpx.AsyncClient(
        base_url=given.url,
        headers=given.headers(field),
        verify=given.tls.context(f"{field}.tls"),
        timeout=given.timeout_s,
    )


def _concept(given: CodeSettings) -> CodedConcept:
    return CodedConcept(given.value, given.scheme, given.meaning)
