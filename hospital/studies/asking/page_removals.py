"""Answers that are withdrawn leave the service's reading page, whenever the service can be reached."""

from __future__ import annotations

from hospital.delivery.destinations import Unreachable
from hospital.store.state import Delivery, QueuedDelivery, Revision, UnkeptAnswer
from hospital.studies.answered_study import answer_of
from hospital.studies.asking.explanation_jobs import ExplanationJobs, ServiceAway


def page_lane(service: str) -> str:
    """The lane of a service in the outbox; no destination of gateway.yaml can be called so."""
    return f"page of {service}"


def page_removal(service: str, revision: Revision) -> list[Delivery]:
    """What takes the answer of a revision from the page of a service; nothing where the service recorded none."""
    result_id = answer_of(revision).result_id
    if result_id is None:
        return []
    key = f"withdrawn {revision.revision}"
    return [Delivery(key, page_lane(service), "page", str(result_id).encode(), revision.study)]


def unkept_removal(study: str, unkept: UnkeptAnswer) -> Delivery:
    """What takes an answer from a page that the gateway did not keep."""
    content, key = unkept.result_id.encode(), f"unkept {unkept.result_id}"
    return Delivery(key, page_lane(unkept.service), "page", content, study)


class PageRemovals:
    """Sends removals to one service; `hospital.delivery.destinations.DeliverySender`."""

    def __init__(self, jobs: ExplanationJobs) -> None:
        self._jobs = jobs

    async def send(self, queued: QueuedDelivery) -> None:
        """See `DeliverySender.send`."""
        try:
            await self._jobs.take_answer_back(queued.delivery.content.decode())
        except ServiceAway as error:
            raise Unreachable(str(error)) from None

    async def close(self) -> None:
        """Studies are asked about over the same connections: they stay."""
