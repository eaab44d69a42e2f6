"""Performed procedure steps (MPPS) and instance availability notifications (IAN), as proofs that a study is complete.

Source: PS3.4 F.7 (MPPS), PS3.4 R and PS3.3 C.4.23 (IAN), PS3.7 C (statuses).
"""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydicom.dataset import Dataset
from pynetdicom import evt

from consilium.formats.dicom.elements import sequence_items
from consilium.formats.dicom.header import optional_text
from hospital.dicom.instance_header import is_uid
from hospital.dicom.reception import Receiver
from hospital.dicom.storage_classes import AVAILABILITY
from hospital.store.received import ReceivedStep, StoreFull, StoreUnavailable

Answer = tuple[int, Dataset | None]
State = Literal["in progress", "completed", "discontinued"]

_SUCCESS, _INVALID_VALUE, _PROCESSING_FAILURE, _UNKNOWN_STEP, _NO_RESOURCES = 0x0000, 0x0106, 0x0110, 0x0112, 0x0213
_STATES: dict[str, State] = {"IN PROGRESS": "in progress", "COMPLETED": "completed", "DISCONTINUED": "discontinued"}
_IMAGES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
_LOG = logging.getLogger("consilium.gateway")


class ProcedureSteps:
    """Takes the notices of every association.

    The end of a step does not name its study: that of its beginning is looked up in the store, so that a step may end
    after a restart.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def created(self, event: evt.Event) -> Answer:
        """Answer an N-CREATE: a step begins, or instances are available."""
        return self._answered(event, self._created)

    def changed(self, event: evt.Event) -> Answer:
        """Answer an N-SET: a step goes on or ends."""
        return self._answered(event, self._changed)

    def _answered(self, event: evt.Event, take: Any) -> Answer:
        try:
            return take(event), None
        except (StoreFull, StoreUnavailable):
            status, reason = _NO_RESOURCES, "store"
        except Exception as error:  # noqa: BLE001 - hostile bytes make pydicom raise anything at all
            status, reason = _PROCESSING_FAILURE, type(error).__name__
        _LOG.warning("a procedure step was answered 0x%04X: %s", status, reason)
        return status, None

    def _created(self, event: evt.Event) -> int:
        request: Any = event.request
        given, step = event.attribute_list, str(request.AffectedSOPInstanceUID or "")
        if not is_uid(step):
            return _INVALID_VALUE
        if request.AffectedSOPClassUID == AVAILABILITY:
            self._add(event, step, optional_text(given, "StudyInstanceUID"), "completed", _available(given))
            return _SUCCESS
        scheduled = sequence_items(given, "ScheduledStepAttributesSequence")
        study = optional_text(scheduled[0], "StudyInstanceUID") if scheduled else ""
        self._add(event, step, study, "in progress", ())
        return _SUCCESS

    def _changed(self, event: evt.Event) -> int:
        request: Any = event.request
        given, step = event.modification_list, str(request.RequestedSOPInstanceUID or "")
        begun = self._receiver.begun(step)
        if begun is None or begun.state != "in progress":
            return _UNKNOWN_STEP
        written = optional_text(given, "PerformedProcedureStepStatus")
        if written not in (*_STATES, ""):
            return _INVALID_VALUE
        state = _STATES.get(written, "in progress")
        self._add(event, step, begun.study, state, _performed(given))
        return _SUCCESS

    def _add(self, event: evt.Event, step: str, study: str, state: State, instances: tuple[str, ...]) -> None:
        """A step without a study, as of an emergency, is acknowledged: it proves nothing."""
        association: Any = event.assoc
        if is_uid(study):
            record = ReceivedStep(step, study, state, instances, self._receiver.clock(), association.peer.name)
            self._receiver.inbox.add(record)


def _available(notification: Dataset) -> tuple[str, ...]:
    """SOP Instance UIDs of an IAN, but those that it says cannot be had."""
    return tuple(
        instance
        for series in sequence_items(notification, "ReferencedSeriesSequence")
        for one in sequence_items(series, "ReferencedSOPSequence")
        if is_uid(instance := optional_text(one, "ReferencedSOPInstanceUID"))
        and optional_text(one, "InstanceAvailability") != "UNAVAILABLE"
    )


def _performed(step: Dataset) -> tuple[str, ...]:
    """SOP Instance UIDs that a step names as made."""
    return tuple(
        instance
        for series in sequence_items(step, "PerformedSeriesSequence")
        for keyword in _IMAGES
        for one in sequence_items(series, keyword)
        if is_uid(instance := optional_text(one, "ReferencedSOPInstanceUID"))
    )
