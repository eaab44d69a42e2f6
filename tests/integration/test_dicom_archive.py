"""Orthanc as the archive that is asked for priors and counts, and that results are sent to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from consilium.formats.time_zone import TimeZone
from hospital.dicom.notices.commitments import Commitments
from hospital.dicom.peers import DicomPeer
from hospital.dicom.query_retrieve import FoundSeries, FoundStudy, Moved, QueryRetrieve
from hospital.dicom.requesting import PeerBusy, PeerRefuses, PeerUnreachable, Requestor
from hospital.dicom.storing import ArchiveStorage
from hospital.store.received import Accession, PatientId
from tests.hospital.dicom.listening import OURS, listening
from tests.hospital.dicom.samples import encoded, part10, radiograph, uid, without_pixels
from tests.orthanc import Orthanc, free_ports

REQUESTOR = Requestor(OURS, connect_s=5, answer_s=20)


def _peer(orthanc: Orthanc) -> DicomPeer:
    return DicomPeer("pacs", orthanc.aet, "127.0.0.1", orthanc.dicom_port, accession_issuer="ris")


def _query(orthanc: Orthanc) -> QueryRetrieve:
    return QueryRetrieve(REQUESTOR, _peer(orthanc), TimeZone("UTC"), {"NORTH": "north"})


def _with_priors(orthanc: Orthanc) -> None:
    patient = {"PatientID": "P-A"}
    prior = radiograph(1, study="old", StudyDate="20250105", **patient)
    for one in (
        *(radiograph(1), radiograph(2), prior),
        radiograph(1, study="B"),
        radiograph(1, study="other", IssuerOfPatientID="SOUTH", **patient),
    ):
        orthanc.upload(part10(one))


def test_an_archive_that_answers_is_told_from_one_that_does_not(orthanc: Orthanc) -> None:
    REQUESTOR.echo(_peer(orthanc))
    with pytest.raises(PeerUnreachable, match="pacs: there was no association"):
        REQUESTOR.echo(replace(_peer(orthanc), port=free_ports(1)[0]))
    with pytest.raises(PeerRefuses, match="no address"):
        REQUESTOR.echo(DicomPeer("pacs", "ORTHANC"))


def test_the_studies_of_a_patient_are_those_of_identifier_and_issuer_together(orthanc: Orthanc) -> None:
    _with_priors(orthanc)
    found = _query(orthanc).studies_of(PatientId("P-A", "north"))
    assert [one.study for one in found] == [uid("study", "A"), uid("study", "old")]
    assert found[0] == FoundStudy(
        uid("study", "A"),
        PatientId("P-A", "north"),
        Accession("ACC-A", "ris"),
        datetime(2026, 1, 5, 9, 15, tzinfo=UTC),
        ("DX",),
        2,
    )
    assert _query(orthanc).studies_of(PatientId("P-A", "SOUTH"))[0].study == uid("study", "other")
    assert _query(orthanc).studies_of(PatientId("P-A", None)) == []
    assert _query(orthanc).studies_of(PatientId("*", "north")) == []


def test_studies_of_some_days_alone(orthanc: Orthanc) -> None:
    _with_priors(orthanc)
    query, patient = _query(orthanc), PatientId("P-A", "north")
    assert [one.study for one in query.studies_of(patient, until=date(2025, 6, 1))] == [uid("study", "old")]
    assert [one.study for one in query.studies_of(patient, since=date(2025, 6, 1))] == [uid("study", "A")]


def test_how_many_instances_a_study_has_and_which(orthanc: Orthanc) -> None:
    _with_priors(orthanc)
    query = _query(orthanc)
    assert (query.count(uid("study", "A")), query.count("1.2.3")) == (2, 0)
    assert query.instances(uid("study", "A")) == {uid("instance", "A", 1), uid("instance", "A", 2)}
    assert query.series_of(uid("study", "A")) == [FoundSeries(uid("series", "A"), "DX", "CHEST")]
    assert query.series_of("1.2.3") == []
    assert query.instances(uid("study", "A"), [uid("series", "A")]) == query.instances(uid("study", "A"))
    assert query.instances(uid("study", "A"), ["1.2.3"]) == frozenset()
    assert query.has(uid("study", "A"), uid("series", "A"), uid("instance", "A", 1))
    assert not query.has(uid("study", "A"), uid("series", "A"), uid("instance", "A", 9))


def test_what_is_moved_here_is_known_to_have_been_asked_for(orthanc: Orthanc, tmp_path: Path) -> None:
    _with_priors(orthanc)
    with listening(tmp_path, (_peer(orthanc),)) as listener:
        orthanc.register("gateway", OURS, listener.port)
        orthanc.push(uid("study", "A"), "gateway")
        assert _query(orthanc).move(uid("study", "old")) == Moved(1, 0, 0)
        asked = {row.study: row.requested for row in listener.inbox.instances}
    assert asked == {uid("study", "A"): False, uid("study", "old"): True}


def test_a_move_of_what_is_not_there_or_to_nowhere_is_an_error(orthanc: Orthanc) -> None:
    orthanc.upload(part10(radiograph(1)))
    with pytest.raises(PeerBusy, match="C-MOVE was answered 0xC000"):
        _query(orthanc).move("1.2.3")
    elsewhere = replace(_query(orthanc), requestor=replace(REQUESTOR, ae_title="NOWHERE"))
    with pytest.raises(PeerBusy, match="C-MOVE was answered 0x"):
        elsewhere.move(uid("study", "A"))


def _result(number: int = 1) -> Dataset:
    return without_pixels(
        radiograph(number), SOPClassUID=ComprehensiveSRStorage, Modality="SR", Manufacturer="Consilium"
    )


def test_a_result_is_stored_once_and_found(orthanc: Orthanc) -> None:
    storage = ArchiveStorage(REQUESTOR, _peer(orthanc), _query(orthanc))
    for _ in range(2):
        storage.store(part10(_result()))
    assert orthanc.instances(uid("study", "A")) == {uid("instance", "A", 1): ComprehensiveSRStorage}
    assert orthanc.download(uid("instance", "A", 1)).endswith(encoded(_result()))


def test_an_archive_commits_itself_over_an_association_of_its_own(orthanc: Orthanc, tmp_path: Path) -> None:
    commitments = Commitments()
    storage = ArchiveStorage(REQUESTOR, _peer(orthanc), None, commitments, commit_s=20)
    with listening(tmp_path, (_peer(orthanc),), commitments=commitments) as listener:
        orthanc.register("gateway", OURS, listener.port)
        storage.store(part10(_result()))
    assert len(orthanc.instances(uid("study", "A"))) == 1


def test_what_the_archive_does_not_answer_is_no_commitment(orthanc: Orthanc) -> None:
    orthanc.register("gateway", OURS, free_ports(1)[0])
    storage = ArchiveStorage(REQUESTOR, _peer(orthanc), None, Commitments(), commit_s=1)
    with pytest.raises(PeerBusy, match="no storage commitment within 1 s"):
        storage.store(part10(_result()))


def test_an_object_that_is_acknowledged_and_not_there_is_sent_again_later(orthanc: Orthanc, tmp_path: Path) -> None:
    """The archive that took it is not the one that is asked."""
    with listening(tmp_path, (DicomPeer("us", OURS, "127.0.0.1"),)) as other:
        elsewhere = DicomPeer("elsewhere", OURS, "127.0.0.1", other.port)
        with pytest.raises(PeerBusy, match="what was sent is not found"):
            ArchiveStorage(REQUESTOR, elsewhere, _query(orthanc)).store(part10(_result()))
        assert len(other.inbox.instances) == 1


def test_what_is_no_file_is_refused_before_it_is_sent(orthanc: Orthanc) -> None:
    with pytest.raises(PeerRefuses, match="no DICOM file"):
        ArchiveStorage(REQUESTOR, _peer(orthanc)).store(b"no file")
