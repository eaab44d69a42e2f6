"""One DICOM object on its way into the store, whichever way it comes: C-STORE, STOW-RS, WADO-RS.

Bytes go straight into a sealed file, chunk by chunk; a digest of the data set and the beginning of it, for the header,
are all that is kept in memory. What `Reception.finish` returns from is on the disk and in a committed row.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from consilium.domain.errors import ConsiliumError, TooLarge
from consilium.formats.time_zone import TimeZone
from hospital.dicom.instance_header import (
    HEADER_BYTES,
    InstanceHeader,
    is_uid,
    read_instance_header,
    read_rejection,
)
from hospital.dicom.peers import DicomPeer
from hospital.dicom.storage_classes import KEY_OBJECTS, is_kept
from hospital.store.clock import Clock
from hospital.store.holds import Hold
from hospital.store.received import (
    Accession,
    Inbox,
    PatientId,
    Received,
    ReceivedInstance,
    ReceivedStep,
    StoreFull,
    StoreUnavailable,
)
from hospital.store.sealed_files import SealedFiles, SealedWriter

_PREAMBLE = b"\0" * 128 + b"DICM"
IMPLEMENTATION_CLASS = UID("2.25.197870329203711926347817418932474571131")
"""Implementation Class UID of the gateway (PS3.7 D.3.3.2)."""


class Fate(StrEnum):
    """What became of an object that arrived whole."""

    STORED = "stored"
    KNOWN = "known"
    """The same instance with the same content was there."""
    NOT_KEPT = "not kept"
    """Of a class that no model reads: it counts for its study, its content is dropped."""
    OURS = "ours"
    """A result of this gateway that came back."""


class Mismatch(ConsiliumError):
    """The data set is another instance, or of another class, than the one that was announced."""


@dataclass(frozen=True, slots=True)
class ObjectLimits:
    """How large an object may be, and how long its bytes may take to arrive."""

    bytes: int = 1 << 30
    seconds: float = 600


@dataclass(frozen=True, slots=True)
class Receiver:
    """What every way in shares.

    Attributes
    ----------
    sent : callable
        Whether the gateway itself sent an instance of this SOP Instance UID.
    begun : callable
        What was last received of a performed procedure step, by its SOP Instance UID.
    issuers : mapping
        What issuers call themselves → their name in the configuration.
    counts : Counter
        Objects by `Fate`, and by why they were refused.
    """

    files: SealedFiles
    inbox: Inbox
    clock: Clock
    zone: TimeZone
    limits: ObjectLimits = ObjectLimits()
    sent: Callable[[str], bool] = lambda _: False
    begun: Callable[[str], ReceivedStep | None] = lambda _: None
    issuers: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def start(self, announced: Announced) -> Reception:
        """A new object, whose bytes follow."""
        return Reception(self, announced)

    def named(self, issuer: str | None, default: str | None) -> str | None:
        """The issuer as the configuration names it; `default` where the object names none."""
        return default if issuer is None else self.issuers.get(issuer, issuer)


@dataclass(frozen=True, slots=True)
class Announced:
    """What is known of an object before its data set: what the command or the file meta information says."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str


class Reception:
    """The bytes of one data set; to be used as a context manager, after which nothing is left of what is not stored."""

    def __init__(self, receiver: Receiver, announced: Announced) -> None:
        self.announced = announced
        self._receiver = receiver
        self._digest = hashlib.sha256()
        self._start = bytearray()
        self._size = 0
        self._began = time.monotonic()
        self._held = ExitStack()
        self._writer: SealedWriter | None = None
        # Under a malformed UID nothing can be stored; `finish` says so, and the association goes on.
        if is_kept(announced.sop_class) and is_uid(announced.sop_instance):
            self._writer = self._held.enter_context(receiver.files.writer())
            self._writer.write(file_meta(announced))

    def write(self, data: bytes) -> int:
        """Take more of the data set.

        Raises
        ------
        TooLarge
            It is larger than an object may be, or took longer.
        OSError
            The disk takes no more.
        """
        self._size += len(data)
        limits = self._receiver.limits
        if self._size > limits.bytes:
            raise TooLarge("data set", f"over {limits.bytes} bytes", f"must be at most {limits.bytes} bytes")
        if time.monotonic() - self._began > limits.seconds:
            raise TooLarge("data set", f"over {limits.seconds} s", f"must arrive within {limits.seconds} s")
        self._digest.update(data)
        if len(self._start) < HEADER_BYTES:
            self._start += data[: HEADER_BYTES - len(self._start)]
        if self._writer is not None:
            self._writer.write(data)
        return len(data)

    def finish(self, peer: DicomPeer, *, requested: bool, hold: Hold | None = None, study: str | None = None) -> Fate:
        """Store the object; it is on the disk when this returns.

        Parameters
        ----------
        peer : DicomPeer
            Whom it is from.
        requested : bool
            Whether the gateway asked for it.
        hold : Hold, optional
            Of the association; its study is held before it can be seen to be quiet.
        study : str, optional
            Study Instance UID that it must be of.

        Raises
        ------
        InputError
            It cannot be filed: its header cannot be read or lacks a UID.
        Mismatch
        StoreFull, StoreUnavailable, OSError
            Nothing was stored.
        """
        header = self._header()
        if study not in (None, header.uids.study):
            raise Mismatch("the data set must be of the study that was announced")
        if hold is not None:
            hold.study(header.uids.study)
        ours = header.ours or self._receiver.sent(header.uids.sop_instance)
        name = self._writer.commit() if self._writer is not None and not ours else None
        try:
            new = self._receiver.inbox.add(*self._records(header, peer, name, requested=requested, ours=ours))
        # Of any other error it is unknown whether a row names the file; the store removes those that none names.
        except (StoreFull, StoreUnavailable):
            if name is not None:
                self._receiver.files.remove(name)
            raise
        fate = Fate.OURS if ours else Fate.NOT_KEPT if name is None else Fate.STORED if new else Fate.KNOWN
        self._receiver.counts[fate] += 1
        return fate

    def discard(self) -> None:
        """Delete what is not stored."""
        self._held.close()

    def _header(self) -> InstanceHeader:
        whole = self._size == len(self._start)
        header = read_instance_header(
            bytes(self._start), self.announced.transfer_syntax, self._receiver.zone, whole=whole
        )
        if (header.uids.sop_class, header.uids.sop_instance) != (self.announced.sop_class, self.announced.sop_instance):
            raise Mismatch("the data set must be the instance that was announced")
        return header

    def _records(
        self, header: InstanceHeader, peer: DicomPeer, name: str | None, *, requested: bool, ours: bool
    ) -> list[Received]:
        received = self._receiver.clock()
        patient, accession = header.patient, header.accession
        instance = ReceivedInstance(
            sop_instance=header.uids.sop_instance,
            sop_class=header.uids.sop_class,
            series=header.uids.series,
            study=header.uids.study,
            patient=patient and PatientId(patient.value, self._receiver.named(patient.issuer, peer.patient_issuer)),
            accession=accession
            and Accession(accession.value, self._receiver.named(accession.issuer, peer.accession_issuer)),
            digest=self._digest.hexdigest(),
            file=name,
            received=received,
            source=peer.name,
            requested=requested,
            ours=ours,
            transfer_syntax=self.announced.transfer_syntax,
            description=header.description,
        )
        if self.announced.sop_class != KEY_OBJECTS or self._size > len(self._start):
            return [instance]
        rejections = read_rejection(bytes(self._start), self.announced.transfer_syntax, received, peer.name)
        return [instance, *rejections]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def file_meta(announced: Announced) -> bytes:
    """Preamble and file meta information of a Part 10 file, whatever the sender's own were."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(announced.sop_class)
    meta.MediaStorageSOPInstanceUID = UID(announced.sop_instance)
    meta.TransferSyntaxUID = UID(announced.transfer_syntax)
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS
    buffer = DicomBytesIO()
    buffer.write(_PREAMBLE)
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()
