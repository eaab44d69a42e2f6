"""A DICOMweb server that is asked (QIDO-RS), pulled from (WADO-RS) or sent to (STOW-RS). Source: PS3.18 10.4-10.6."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import uuid4

import httpx

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import dicom_date_time, dicom_offset, file_time
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, read_body, require_plain
from hospital.dicom.instance_header import is_uid
from hospital.dicom.peers import DicomPeer
from hospital.dicom.query_retrieve import FoundSeries, FoundStudy, Moved
from hospital.dicom.reception import Mismatch, Receiver
from hospital.dicom.requesting import PeerBusy, PeerFailure, PeerRefuses, PeerUnreachable
from hospital.dicom.storing import read_file
from hospital.dicom.web.related_parts import DICOM, DicomFile, RelatedParts, boundary_of
from hospital.store.holds import Holds
from hospital.store.received import Accession, PatientId

_JSON = "application/dicom+json"
_LATER = (408, 425, 429, 500, 502, 503, 504)
_LARGEST_ANSWER = 32 << 20
_PAGE = 1000
_MOST_FILES = 20_000
_LOG = logging.getLogger("consilium.gateway")
Item = Mapping[str, Any]
"""A data set in the DICOM JSON model (PS3.18 F)."""


@dataclass(frozen=True, slots=True)
class DicomWebServer:
    """One server; to be called on a thread.

    Attributes
    ----------
    peer : DicomPeer
        Its name, and whose identifiers it has.
    http : httpx.Client
        With the root of its DICOMweb services as base URL, its credentials, certificate and time-outs.
    issuers : mapping
        What issuers call themselves → their name in the configuration.
    """

    peer: DicomPeer
    http: httpx.Client = field(repr=False)
    zone: TimeZone
    issuers: Mapping[str, str] = field(default_factory=dict)

    def studies_of(self, patient: PatientId, since: date | None = None, until: date | None = None) -> list[FoundStudy]:
        """As `QueryRetrieve.studies_of`.

        Raises
        ------
        PeerFailure
        """
        wanted = {"PatientID": patient.value}
        if since is not None or until is not None:
            wanted["StudyDate"] = "-".join("" if day is None else f"{day:%Y%m%d}" for day in (since, until))
        same = [one for one in self._studies(wanted) if one.patient == patient]
        return sorted(same, key=lambda one: one.time.timestamp() if one.time else 0.0, reverse=True)

    def count(self, study: str) -> int:
        """How many instances the server has of a study.

        Raises
        ------
        PeerFailure
        """
        found = [one for one in self._studies({"StudyInstanceUID": study}) if one.study == study]
        if not found:
            return 0
        return len(self.instances(study)) if found[0].instances is None else found[0].instances

    def series_of(self, study: str) -> list[FoundSeries]:
        """As `QueryRetrieve.series_of`.

        Raises
        ------
        PeerFailure
        """
        found = self._search(f"/studies/{study}/series", {"includefield": "BodyPartExamined"})
        return [
            FoundSeries(uid, _text(one, "00080060") or None, _text(one, "00180015") or None)
            for one in found
            if is_uid(uid := _text(one, "0020000E"))
        ]

    def instances(self, study: str, series: Sequence[str] = ()) -> frozenset[str]:
        """SOP Instance UIDs that the server has of a study, or of `series` of it.

        Raises
        ------
        PeerFailure
        """
        found = (one for place in _places(study, series) for one in self._search(f"{place}/instances", {}))
        return frozenset(filter(is_uid, (_text(one, "00080018") for one in found)))

    def has(self, study: str, series: str, instance: str) -> bool:
        """Whether the server has an instance.

        Raises
        ------
        PeerFailure
        """
        found = self._search(f"/studies/{study}/series/{series}/instances", {"SOPInstanceUID": instance})
        return any(_text(one, "00080018") == instance for one in found)

    def retrieve(self, study: str, receiver: Receiver, holds: Holds, series: Sequence[str] = ()) -> Moved:
        """Pull a study, or series of it, into the store, file by file as they arrive; its instances count as asked for.

        Raises
        ------
        PeerFailure
            Also where the answer ended early; what arrived whole is stored.
        StoreFull, StoreUnavailable, OSError
        """
        counts = {"completed": 0, "failed": 0}
        with holds.association() as hold:

            def finished(file: DicomFile) -> None:
                try:
                    file.whole().finish(self.peer, requested=True, hold=hold, study=study)
                except (InputError, Mismatch) as error:
                    counts["failed"] += 1
                    _LOG.warning("an object that %s sent was refused: %s", self.peer.name, type(error).__name__)
                else:
                    counts["completed"] += 1

            for place in _places(study, series):
                self._pull(place, receiver, finished)
        return Moved(counts["completed"], counts["failed"], 0)

    def store(self, content: bytes) -> None:
        """Send one Part 10 file, and return when the server is known to have it.

        Raises
        ------
        PeerFailure
        """
        dataset = read_file(content)
        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
        answer = self._asked(
            "POST",
            "/studies",
            content=b"".join((head, content, f"\r\n--{boundary}--\r\n".encode())),
            headers={"Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}', "Accept": _JSON},
            accepted=(200, 202, 409),
        )
        if not _is_referenced(_item_of(answer), str(dataset.SOPInstanceUID)):
            failed = _failure_reason(_item_of(answer))
            failure = PeerBusy if failed is None or 0xA700 <= failed < 0xA800 or failed == 0x0110 else PeerRefuses
            shown = "no reason" if failed is None else f"0x{failed:04X}"
            raise failure(f"{self.peer.name}: STOW-RS did not store it ({answer.status_code}, {shown})")
        if not self.has(str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)):
            raise PeerBusy(f"{self.peer.name}: what was sent is not found")

    def _pull(self, place: str, receiver: Receiver, finished: Callable[[DicomFile], None]) -> None:
        with self._streamed(place, f'multipart/related; type="{DICOM}"; transfer-syntax=*') as answer:
            boundary = boundary_of(answer.headers.get("content-type", ""))
            with RelatedParts(boundary, receiver.start, finished, _MOST_FILES) as parts:
                for piece in answer.iter_bytes():
                    parts.feed(piece)
                parts.end()

    def _studies(self, wanted: Mapping[str, str]) -> list[FoundStudy]:
        fields = ("IssuerOfPatientID", "AccessionNumber", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
        found = self._search("/studies", {**wanted, "includefield": fields})
        return [self._found(one) for one in found if is_uid(_text(one, "0020000D"))]

    def _found(self, item: Item) -> FoundStudy:
        patient, issuer = _text(item, "00100020"), _text(item, "00100021")
        named = self.issuers.get(issuer, issuer) or self.peer.patient_issuer
        accession, count = _text(item, "00080050"), _text(item, "00201208")
        return FoundStudy(
            _text(item, "0020000D"),
            PatientId(patient, named) if patient else None,
            Accession(accession, self.peer.accession_issuer) if accession else None,
            self._time(item),
            tuple(sorted(str(one)[:16] for one in _values(item, "00080061"))),
            int(count) if count.isdecimal() else None,
        )

    def _time(self, item: Item) -> datetime | None:
        offset = dicom_offset(_text(item, "00080201"))
        moment = dicom_date_time(_text(item, "00080020"), _text(item, "00080030") or "00", offset)
        return file_time(moment, "StudyDate", self.zone)[0]

    def _search(self, path: str, wanted: Mapping[str, str | Sequence[str]]) -> Iterator[Item]:
        """Every match; servers give no more than some at once."""
        seen = 0
        while seen < _MOST_FILES:
            pages = {"limit": str(_PAGE), "offset": str(seen)}
            answer = self._asked(
                "GET", path, params={**wanted, **pages}, headers={"Accept": _JSON}, accepted=(200, 204)
            )
            found = [] if answer.status_code == 204 else _items_of(answer, self.peer.name)
            yield from found
            seen += len(found)
            if not found or len(found) < _PAGE:
                return
        raise PeerRefuses(f"{self.peer.name}: QIDO-RS gave over {_MOST_FILES} answers")

    def _asked(self, method: str, path: str, *, accepted: Sequence[int], **options: Any) -> httpx.Response:
        with self._sent(method, path, accepted, **options) as answer:
            try:
                content = read_body(answer, _LARGEST_ANSWER)
            except UnusableBody as error:
                raise PeerRefuses(f"{self.peer.name}: the answer {error}") from None
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)

    @contextmanager
    def _streamed(self, path: str, accept: str) -> Iterator[httpx.Response]:
        try:
            with self._sent("GET", path, (200, 206), headers={"Accept": accept}) as answer:
                yield answer
        except InputError as error:
            raise PeerBusy(f"{self.peer.name}: WADO-RS gave {error.field} that {error.rule}") from None

    @contextmanager
    def _sent(self, method: str, path: str, accepted: Sequence[int], **options: Any) -> Iterator[httpx.Response]:
        headers = {**options.pop("headers", {}), **AS_THEY_ARE}
        try:
            with self.http.stream(method, path, headers=headers, **options) as answer:
                if answer.status_code not in accepted:
                    raise self._refused(answer.status_code)
                require_plain(answer)
                yield answer
        except UnusableBody as error:
            raise PeerBusy(f"{self.peer.name}: the answer {error}") from None
        except httpx.TransportError as error:
            raise PeerUnreachable(f"{self.peer.name}: no answer ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise PeerBusy(f"{self.peer.name}: unusable answer ({type(error).__name__})") from None

    def _refused(self, status: int) -> PeerFailure:
        # Credentials expire and are changed; the objects are none the worse for it.
        failure = PeerUnreachable if status in (401, 403, 503) else PeerBusy if status in _LATER else PeerRefuses
        return failure(f"{self.peer.name}: answered {status}")


def _places(study: str, series: Sequence[str]) -> list[str]:
    """Where a study, or series of it, is found."""
    return [f"/studies/{study}/series/{one}" for one in series] or [f"/studies/{study}"]


def _items_of(answer: httpx.Response, name: str) -> list[Item]:
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        raise PeerBusy(f"{name}: the answer is no JSON") from None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _item_of(answer: httpx.Response) -> Item:
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _values(item: Item, tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(item: Item, tag: str) -> str:
    values = _values(item, tag)
    return str(values[0]).strip(" \0")[:256] if values and isinstance(values[0], str | int) else ""


def _is_referenced(item: Item, instance: str) -> bool:
    return any(isinstance(one, dict) and _text(one, "00081155") == instance for one in _values(item, "00081199"))


def _failure_reason(item: Item) -> int | None:
    reasons = [_text(one, "00081197") for one in _values(item, "00081198") if isinstance(one, dict)]
    return int(reasons[0]) if reasons and reasons[0].isdecimal() else None
