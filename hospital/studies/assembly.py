"""What is there of one study: read from the store, matched, and put into a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hospital.store.gateway_store import Store
from hospital.store.received import ReceivedInstance, ReceivedStep
from hospital.store.state import Revision
from hospital.studies.asking.study_request import StudyRequest, study_request
from hospital.studies.rules.clock_checks import study_time
from hospital.studies.rules.completeness import Arrived
from hospital.studies.rules.current_records import (
    CurrentInstances,
    current_instances,
    current_notes,
    current_observations,
    current_orders,
)
from hospital.studies.rules.matching import (
    MatchedRecords,
    PatientRecords,
    StudyIdentity,
    identity_of,
    match,
    orders_of,
)
from hospital.studies.rules.model_inputs import ModelInputs
from hospital.studies.rules.patient_aliases import PatientAliases
from hospital.studies.rules.routing import Priority


@dataclass(frozen=True, slots=True)
class Assembled:
    """The objects of one study, and whom they are of.

    Attributes
    ----------
    received : tuple of ReceivedInstance
        All of them, the results of this gateway too.
    current : CurrentInstances
        Those that count.
    images : tuple of ReceivedInstance
        Those of `current` that were kept because a model may read them.
    answered : tuple of Revision
        What was answered before, the latest last.
    at : datetime
        When this was read.
    priority : str
        ``stat`` where an order for the study is.
    """

    identity: StudyIdentity
    received: tuple[ReceivedInstance, ...]
    current: CurrentInstances
    images: tuple[ReceivedInstance, ...]
    steps: tuple[ReceivedStep, ...]
    answered: tuple[Revision, ...]
    at: datetime
    priority: Priority = "routine"

    @property
    def unanswered(self) -> list[ReceivedInstance]:
        """Objects that came after the last answer."""
        since = self.answered[-1].time if self.answered else None
        return [one for one in self.received if not one.ours and (since is None or one.received > since)]

    def arrived(self, listed: frozenset[str] | None, held: bool) -> Arrived | None:
        """What completeness is judged by; None where no object came since the last answer.

        Parameters
        ----------
        listed : frozenset of str or None
            SOP Instance UIDs that the source has now; None where it does not say.
        held : bool
            Whether an association is open that added to the study.
        """
        new = self.unanswered
        if not new:
            return None
        here = {one.sop_instance for one in self.received}
        return Arrived(
            first=min(one.received for one in new),
            last=max(one.received for one in new),
            instances=len(here),
            open_associations=int(held),
            views=frozenset(one.description.view for one in self.images if one.description.view),
            counted=None if listed is None else len(here | listed),
            announced=_announced(self.steps, here),
        )


def assemble(store: Store, study: str, aliases: PatientAliases, now: datetime) -> Assembled | None:
    """What is there of a study; None where there are no objects but the gateway's own.

    Raises
    ------
    SeveralPatients
    """
    received = store.records.instances(study)
    current = current_instances(received, store.records.rejections(study))
    others = [one for one in received if not one.ours]
    if not others:
        return None
    identity = identity_of(current.used or others, aliases)
    return Assembled(
        identity=identity,
        received=tuple(received),
        current=current,
        images=tuple(one for one in current.used if one.file is not None),
        steps=tuple(store.records.steps(study)),
        answered=tuple(store.studies.revisions(study)),
        at=now,
        priority=_priority(store, identity, aliases),
    )


def _priority(store: Store, identity: StudyIdentity, aliases: PatientAliases) -> Priority:
    stored = current_orders(store.records.orders(study=identity.study, accession=identity.accession))
    return "stat" if any(one.priority == "stat" for one in orders_of(identity, stored, aliases)) else "routine"


def request_of(
    store: Store, assembled: Assembled, aliases: PatientAliases, reads: ModelInputs
) -> tuple[StudyRequest, MatchedRecords]:
    """What the service is to be asked of a study, and the records beside its images."""
    images, identity = assembled.images, assembled.identity
    when = study_time([one.description.acquired for one in images], _first_receipt(images))
    known = () if identity.patient is None else aliases.all_of(identity.patient)
    stored = PatientRecords(
        observations=current_observations(store.records.observations(known)),
        notes=current_notes(store.records.notes(known)),
        orders=current_orders(store.records.orders(study=identity.study, accession=identity.accession, patients=known)),
        updates=store.records.updates(known),
    )
    matched = match(identity, images, stored, aliases, when.reference, reads)
    return study_request(images, matched, when, reads), matched


def _first_receipt(images: Sequence[ReceivedInstance]) -> datetime:
    return min(image.received for image in images)


def _announced(steps: Sequence[ReceivedStep], here: set[str]) -> dict[str, bool]:
    """What the steps name, and whether it is here; a step in progress is itself not here."""
    found = {instance: instance in here for step in steps for instance in step.instances}
    return found | {step.step: False for step in steps if step.state == "in progress"}
