"""What another archive has of a patient or a study, and the request to send it here: C-FIND and C-MOVE.

A peer's identifiers count with their issuer, as everywhere; it may name another than the one that it was asked for, and
then it speaks of somebody else. Source: PS3.4 C (Query/Retrieve), C.6.2 (Study Root).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

from pydicom.dataset import Dataset
from pynetdicom.association import Association

from consilium.formats.dicom.header import optional_text
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import dicom_date_time, dicom_offset, file_time
from hospital.dicom.instance_header import is_uid, short_text
from hospital.dicom.peers import DicomPeer
from hospital.dicom.requesting import SUCCESS, PeerBusy, PeerRefuses, Requestor, context, shown
from hospital.store.received import Accession, PatientId

_FIND, _MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
_PENDING = (0xFF00, 0xFF01)
_SOME_FAILED = 0xB000
_MOST_ANSWERS = 20_000


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that a peer has; what it does not say is None.

    Attributes
    ----------
    time : datetime, optional
        Study date and time.
    instances : int, optional
        How many it has of it.
    """

    study: str
    patient: PatientId | None
    accession: Accession | None
    time: datetime | None
    modalities: tuple[str, ...]
    instances: int | None


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series that a peer has of a study; what it does not say is None."""

    series: str
    modality: str | None
    body_part: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a request to send."""

    completed: int
    failed: int
    warning: int


@dataclass(frozen=True, slots=True)
class QueryRetrieve:
    """One archive, asked by DIMSE; to be called on a thread.

    Attributes
    ----------
    issuers : mapping
        What issuers call themselves → their name in the configuration.
    """

    requestor: Requestor
    peer: DicomPeer
    zone: TimeZone
    issuers: Mapping[str, str] = field(default_factory=dict)

    def studies_of(self, patient: PatientId, since: date | None = None, until: date | None = None) -> list[FoundStudy]:
        """Every study of a patient, the latest first, of the days from `since` to `until`.

        Raises
        ------
        PeerFailure
        """
        days = "" if since is None and until is None else f"{_day(since)}-{_day(until)}"
        found = self._studies(PatientID=_literal(patient.value), StudyDate=days)
        same = [one for one in found if one.patient == patient]
        return sorted(same, key=lambda one: one.time.timestamp() if one.time else 0.0, reverse=True)

    def study(self, study: str) -> FoundStudy | None:
        """One study; None where the peer has none.

        Raises
        ------
        PeerFailure
        """
        found = [one for one in self._studies(StudyInstanceUID=study) if one.study == study]
        return found[0] if found else None

    def count(self, study: str) -> int:
        """How many instances the peer has of a study; where it does not say, they are counted.

        Raises
        ------
        PeerFailure
        """
        found = self.study(study)
        if found is None:
            return 0
        return len(self.instances(study)) if found.instances is None else found.instances

    def series_of(self, study: str) -> list[FoundSeries]:
        """The series of a study.

        Raises
        ------
        PeerFailure
        """
        with self._association(_FIND) as association:
            return self._series(association, study)

    def instances(self, study: str, series: Sequence[str] = ()) -> frozenset[str]:
        """SOP Instance UIDs that the peer has of a study, or of `series` of it.

        Raises
        ------
        PeerFailure
        """
        with self._association(_FIND) as association:
            named = series or [one.series for one in self._series(association, study)]
            return frozenset(self._instances(association, study, named))

    def has(self, study: str, series: str, instance: str) -> bool:
        """Whether the peer has an instance.

        Raises
        ------
        PeerFailure
        """
        keys = _image_keys(study, series, instance)
        with self._association(_FIND) as association:
            return instance in {optional_text(one, "SOPInstanceUID") for one in self._find(association, keys)}

    def move(self, study: str, series: Sequence[str] = ()) -> Moved:
        """Have a study, or series of it, sent to the gateway, whose listener tells by the originator that it asked.

        Raises
        ------
        PeerFailure
        """
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = ("SERIES" if series else "STUDY"), study
        if series:
            keys.SeriesInstanceUID = list(series)
        status: int | None = None
        with self._association(_MOVE) as association:
            for answer, _ in association.send_c_move(keys, self.requestor.ae_title, _MOVE):
                status = answer.get("Status")
        if status not in (SUCCESS, _SOME_FAILED):
            raise PeerBusy(f"{self.peer.name}: C-MOVE was answered {shown(status)}")
        counts = ("NumberOfCompletedSuboperations", "NumberOfFailedSuboperations", "NumberOfWarningSuboperations")
        return Moved(*(int(answer.get(keyword) or 0) for keyword in counts))

    def _studies(self, **keys: str) -> list[FoundStudy]:
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        for keyword in (
            *("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyDate", "StudyTime"),
            *("TimezoneOffsetFromUTC", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
        ):
            setattr(wanted, keyword, keys.get(keyword, ""))
        with self._association(_FIND) as association:
            return [found for one in self._find(association, wanted) if (found := self._found(one)) is not None]

    def _found(self, answer: Dataset) -> FoundStudy | None:
        study, patient = optional_text(answer, "StudyInstanceUID"), short_text(answer, "PatientID")
        accession, count = short_text(answer, "AccessionNumber"), optional_text(answer, "NumberOfStudyRelatedInstances")
        if not is_uid(study):
            return None
        issuer = short_text(answer, "IssuerOfPatientID")
        named = self.issuers.get(issuer, issuer) or self.peer.patient_issuer
        offset = dicom_offset(optional_text(answer, "TimezoneOffsetFromUTC"))
        moment = dicom_date_time(optional_text(answer, "StudyDate"), optional_text(answer, "StudyTime") or "00", offset)
        return FoundStudy(
            study,
            PatientId(patient, named) if patient else None,
            Accession(accession, self.peer.accession_issuer) if accession else None,
            file_time(moment, "StudyDate", self.zone)[0],
            tuple(sorted(_values(answer, "ModalitiesInStudy"))),
            int(count) if count.isdecimal() else None,
        )

    def _series(self, association: Association, study: str) -> list[FoundSeries]:
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "SERIES", study
        keys.SeriesInstanceUID = keys.Modality = keys.BodyPartExamined = ""
        found = {
            uid: FoundSeries(uid, short_text(one, "Modality") or None, short_text(one, "BodyPartExamined") or None)
            for one in self._find(association, keys)
            if is_uid(uid := optional_text(one, "SeriesInstanceUID"))
        }
        return list(found.values())

    def _instances(self, association: Association, study: str, series: Iterable[str]) -> Iterator[str]:
        for one in series:
            for answer in self._find(association, _image_keys(study, one, "")):
                if is_uid(found := optional_text(answer, "SOPInstanceUID")):
                    yield found

    def _find(self, association: Association, keys: Dataset) -> Iterator[Dataset]:
        status: int | None = None
        for number, (answer, identifier) in enumerate(association.send_c_find(keys, _FIND)):
            status = answer.get("Status")
            if number >= _MOST_ANSWERS:
                raise PeerRefuses(f"{self.peer.name}: C-FIND gave over {_MOST_ANSWERS} answers")
            if status in _PENDING and identifier is not None:
                yield identifier
        if status != SUCCESS:
            raise PeerBusy(f"{self.peer.name}: C-FIND was answered {shown(status)}")

    @contextmanager
    def _association(self, sop_class: str) -> Iterator[Association]:
        with self.requestor.association(self.peer, [context(sop_class)]) as association:
            if not association.accepted_contexts:
                raise PeerRefuses(f"{self.peer.name}: Query/Retrieve is not offered")
            yield association


def _image_keys(study: str, series: str, instance: str) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "IMAGE", study
    keys.SeriesInstanceUID, keys.SOPInstanceUID = series, instance
    return keys


def _day(day: date | None) -> str:
    return "" if day is None else f"{day:%Y%m%d}"


def _literal(value: str) -> str:
    """`value` as a key that matches no more than itself, or somewhat more, which the answers are searched for."""
    return value.replace("*", "?")


def _values(answer: Dataset, keyword: str) -> set[str]:
    try:
        value = answer.get(keyword)
    except Exception:  # noqa: BLE001 - whatever pydicom raises on a broken value
        return set()
    return {str(one)[:16] for one in ([value] if isinstance(value, str) else value or []) if one}
