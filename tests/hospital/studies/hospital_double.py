"""A gateway's inside without its listeners: a real store, a service's double, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from consilium.databases.database import read_url
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.received import ReceivedInstance
from hospital.store.state import Delivery, QueuedDelivery, Revision, StudyState
from hospital.studies.answered_study import AnsweredStudy
from hospital.studies.asking.explanation_jobs import ExplanationJobs
from hospital.studies.rules.completeness import CompletenessRules
from hospital.studies.rules.prior_rules import PriorRules
from hospital.studies.rules.routing import Conditions, Route
from hospital.studies.study_walk import Surroundings
from hospital.studies.worker import StudyWorker
from tests.hospital.clock import SetClock
from tests.hospital.studies.records import NOON, STUDY, minutes
from tests.hospital.studies.service_double import ServiceDouble

QUIET = timedelta(minutes=1)
DEADLINE = timedelta(minutes=30)


def build(study: AnsweredStudy) -> Sequence[Delivery]:
    """One delivery a destination, that says what it is about."""
    content = f"{study.revision.number} {study.patient and study.patient.value} {len(study.files)}".encode()
    revision = study.revision.revision
    return [Delivery(f"{name} {revision}", name, "sr", content, study.study, revision) for name in study.destinations]


def withdraw(revision: Revision, sent: Sequence[QueuedDelivery], _: datetime) -> list[Delivery]:
    """One delivery a destination that the revision may have reached, which says from whom it is taken back."""
    whom = revision.addressee and revision.addressee.patient
    reached = dict.fromkeys(one.delivery.destination for one in sent if one.may_have_arrived)
    content = f"withdrawn {revision.number} {whom and whom.value}".encode()
    return [Delivery(f"withdrawn {name} {revision.number}", name, "sr", content, revision.study) for name in reached]


@dataclass
class Sources:
    """What the PACS has of each study; None: it does not say."""

    listed: dict[str, frozenset[str]] | None = None

    async def instances(self, source: str, study: str) -> frozenset[str] | None:
        return None if self.listed is None else self.listed.get(study, frozenset())


@dataclass
class Hospital:
    """Opened anew (`restarted`) it is what is left after the process ended."""

    folder: Path
    clock: SetClock = field(default_factory=lambda: SetClock(NOON + minutes(10)))
    service: ServiceDouble = field(default_factory=ServiceDouble)
    sources: Sources = field(default_factory=Sources)
    proofs: tuple[Any, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    build: Any = build
    priors: PriorRules | None = None

    def __post_init__(self) -> None:
        url = read_url(f"sqlite:///{self.folder / 'store' / 'gateway.db'}", "store.url")
        self.store = Store(StoreLocation(url, self.folder / "store", self.folder / "key", free_bytes=1), self.clock)
        self.store.take()
        rules = CompletenessRules(QUIET, DEADLINE, self.proofs)
        group = None if self.priors is None else "chest"
        self.route = Route("chest", "main", ("pacs", "ris"), rules, self.conditions, group, self.priors)
        self.jobs = ExplanationJobs(self.service.client(), self.clock)
        around = Surroundings(
            self.store, [self.route], {"main": self.jobs}, self.sources, self._build, withdraw, self.clock
        )
        self.worker = StudyWorker(around)

    def _build(self, study: AnsweredStudy) -> Sequence[Delivery]:
        made: Sequence[Delivery] = self.build(study)
        return made

    def restarted(self) -> Hospital:
        self.store.close()
        given = (self.folder, self.clock, self.service, self.sources, self.proofs, self.conditions, self.build)
        return Hospital(*given, self.priors)

    def receive(self, *records: Any) -> None:
        """Instances get a file of their own, and the present as the time of their receipt."""
        self.store.inbox.add(*[self._filed(one) if isinstance(one, ReceivedInstance) else one for one in records])

    def _filed(self, one: ReceivedInstance) -> ReceivedInstance:
        content = None if one.file is None else self.store.files.write(one.digest.encode())
        return replace(one, file=content, received=self.clock())

    async def work(self, **after: float) -> StudyState | None:
        """Let the worker do what is to be done after some time; the state of the study then."""
        await self.worker.turn()
        self.clock.move(**after)
        await self.worker.turn()
        await self.worker.settled()
        return self.store.studies.get(STUDY)

    @property
    def outbox(self) -> list[QueuedDelivery]:
        """The first one first."""
        return self.store.outbox.listed()[::-1]

    @property
    def sent(self) -> list[str]:
        """What waits for the PACS: number of the revision, patient, number of files."""
        return [self.content(one) for one in self.outbox if one.delivery.destination == "pacs"]

    def content(self, queued: QueuedDelivery) -> str:
        found = self.store.outbox.next(queued.delivery.destination)
        return queued.stage.value if found is None or found.number != queued.number else found.delivery.content.decode()
