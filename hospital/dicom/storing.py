"""Results sent to an archive by C-STORE, and the proof that it has them. Source: PS3.4 B.2.3 and GG; PS3.7 C.

A success says that the archive took an object, not that it can be found there: it is looked for afterwards (C-FIND), or
the archive commits itself to it where it offers that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, generate_uid
from pynetdicom import build_context, evt

from hospital.dicom.notices.commitments import Commitments
from hospital.dicom.peers import DicomPeer
from hospital.dicom.query_retrieve import QueryRetrieve
from hospital.dicom.requesting import SUCCESS, PeerBusy, PeerRefuses, Requestor, context, shown
from hospital.dicom.storage_classes import COMMITMENT

_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST_COMMITMENT = 1
_KNOWN_ALREADY = 0x0111
_WARNINGS = range(0xB000, 0xC000)
_LATER = (*range(0xA700, 0xA800), 0x0110, 0x0124, 0x0210, 0x0213)
"""Out of resources, processing failure, not authorised (as for now), duplicate invocation, resource limitation."""


def is_taken(status: int | None) -> bool | None:
    """What a C-STORE was answered: True for taken, False for never, None for perhaps later."""
    if status in (SUCCESS, _KNOWN_ALREADY) or status in _WARNINGS:
        return True
    return None if status is None or status in _LATER else False


@dataclass(frozen=True, slots=True)
class ArchiveStorage:
    """One archive that results are sent to; to be called on a thread.

    Attributes
    ----------
    query : QueryRetrieve, optional
        What finds an object that was sent; None where the archive has no Query/Retrieve.
    commitments : Commitments, optional
        Shared with the listener; None where the archive is not asked to commit itself.
    commit_s : float
        How long its answer is awaited.
    """

    requestor: Requestor
    peer: DicomPeer
    query: QueryRetrieve | None = None
    commitments: Commitments | None = field(default=None, repr=False)
    commit_s: float = 60

    def store(self, content: bytes) -> None:
        """Send one Part 10 file, and return when the archive is known to have it.

        Sent again with the same content under the same UID, it is there once.

        Raises
        ------
        PeerFailure
        """
        dataset = read_file(content)
        self._send(dataset)
        if self.commitments is not None:
            self._commit(dataset, self.commitments)
        if self.query is not None and not self.query.has(
            str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)
        ):
            raise PeerBusy(f"{self.peer.name}: what was sent is not found")

    def _send(self, dataset: Dataset) -> None:
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        contexts = [context(dataset.SOPClassUID)]
        if syntax.is_compressed:
            contexts.append(build_context(dataset.SOPClassUID, syntax))
        with self.requestor.association(self.peer, contexts) as association:
            try:
                status = association.send_c_store(dataset).get("Status")
            except ValueError:  # no context of it was accepted
                raise PeerRefuses(f"{self.peer.name}: takes no {dataset.SOPClassUID.name}") from None
        taken = is_taken(status)
        if not taken:
            failure = PeerBusy if taken is None else PeerRefuses
            raise failure(f"{self.peer.name}: C-STORE was answered {shown(status)}")

    def _commit(self, dataset: Dataset, commitments: Commitments) -> None:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
            dataset.SOPClassUID,
            dataset.SOPInstanceUID,
        )
        request = Dataset()
        request.TransactionUID = generate_uid(prefix=None)
        request.ReferencedSOPSequence = [reference]
        commitments.expect(request.TransactionUID)
        answer = self._answered(request, commitments)
        if answer is None:
            raise PeerBusy(f"{self.peer.name}: no storage commitment within {self.commit_s} s")
        if not answer:
            raise PeerBusy(f"{self.peer.name}: storage commitment was refused")

    def _answered(self, request: Dataset, commitments: Commitments) -> bool | None:
        """The answer, whether it comes over the association of the request or over one that the archive opens."""
        handlers: Sequence[Any] = [(evt.EVT_N_EVENT_REPORT, commitments.answer)]
        with self.requestor.association(self.peer, [context(COMMITMENT)], handlers=handlers) as association:
            if not association.accepted_contexts:
                raise PeerRefuses(f"{self.peer.name}: storage commitment is not offered")
            answer, _ = association.send_n_action(request, _REQUEST_COMMITMENT, COMMITMENT, _COMMITMENT_INSTANCE)
            if (status := answer.get("Status")) != SUCCESS:
                raise PeerBusy(f"{self.peer.name}: N-ACTION was answered {shown(status)}")
            return commitments.await_answer(request.TransactionUID, self.commit_s)


def read_file(content: bytes) -> Dataset:
    """A Part 10 file that is to be sent; `PeerRefuses` where it is none."""
    try:
        dataset = dcmread(BytesIO(content))
        _ = dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID
    except (InvalidDicomError, AttributeError):
        raise PeerRefuses("what is to be sent is no DICOM file") from None
    return dataset
