"""Objects that are sent by C-STORE, by pynetdicom as the other side."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    VideoEndoscopicImageStorage,
)
from pynetdicom import evt

from hospital.dicom.acceptor import AssociationLimits
from hospital.dicom.peers import Caller, DicomPeer, Refusal, refusal_reason
from hospital.dicom.reception import Fate, ObjectLimits
from hospital.dicom.requesting import PeerUnreachable, Requestor
from hospital.store.received import Accession, PatientId, ReceivedRejection, StoreFull, StoreUnavailable
from tests.hospital.dicom.listening import NOW, OURS, PEER, Listening, eventually, listening
from tests.hospital.dicom.samples import encoded, radiograph, rejection_note, uid, without_pixels


def _rejection(association: object) -> tuple[int, int, int]:
    primitive = association.acceptor.primitive  # type: ignore[attr-defined]
    return primitive.result, primitive.result_source, primitive.diagnostic


def test_what_is_acknowledged_is_there_whole_with_what_identifies_it(tmp_path: Path) -> None:
    sent = radiograph(1)
    with listening(tmp_path) as listener:
        assert listener.send(sent) == [0x0000]
        (row,) = listener.inbox.instances
        stored = listener.stored()
    file = pydicom.dcmread(BytesIO(stored))
    assert stored.endswith(encoded(sent))
    assert stored[128:132] == b"DICM"
    assert file.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    assert file.file_meta.TransferSyntaxUID == row.transfer_syntax == ExplicitVRLittleEndian
    assert (row.sop_instance, row.series, row.study) == (sent.SOPInstanceUID, sent.SeriesInstanceUID, uid("study", "A"))
    assert row.digest == hashlib.sha256(encoded(sent)).hexdigest()
    assert row.patient == PatientId("P-A", "NORTH")
    assert row.accession == Accession("ACC-A", None)
    assert (row.source, row.received, row.requested, row.ours) == ("pacs", NOW, False, False)


def test_the_files_are_encrypted(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        listener.send(radiograph(1, PatientName="Unmistakable^Name"))
        on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(on_disk) > 2000
    assert b"Unmistakable" not in on_disk


def test_an_instance_that_comes_again_is_acknowledged_and_leaves_one_file(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        assert listener.send(radiograph(1), radiograph(1)) == [0, 0]
        assert listener.send(radiograph(1)) == [0]
        assert len(listener.inbox.instances) == len(list(listener.files.names())) == 1
        assert listener.receiver.counts == {Fate.STORED: 1, Fate.KNOWN: 2}


def test_other_content_under_the_same_uid_is_kept_beside_the_first(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        listener.send(radiograph(1), radiograph(1, StudyID="2"))
        first, second = listener.inbox.instances
        assert first.sop_instance == second.sop_instance
        assert first.digest != second.digest
        assert {listener.stored(0)[-3000:], listener.stored(1)[-3000:]} > {listener.stored(0)[-3000:]}


def test_one_instance_from_several_associations_at_once(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: listener.send(radiograph(1), radiograph(2)), range(4)))
        assert answers == [[0, 0]] * 4
        assert len(listener.inbox.instances) == len(list(listener.files.names())) == 2
        assert listener.left() == []


def test_what_no_model_reads_counts_for_its_study_and_is_not_kept(tmp_path: Path) -> None:
    report = without_pixels(radiograph(1), SOPClassUID=ComprehensiveSRStorage, Modality="SR")
    private = without_pixels(radiograph(2), SOPClassUID="1.3.12.2.1107.5.9.1")
    with listening(tmp_path) as listener:
        assert listener.send(report, private) == [0, 0]
        assert [row.file for row in listener.inbox.instances] == [None, None]
        assert listener.inbox.instances[0].digest == hashlib.sha256(encoded(report)).hexdigest()
        assert list(listener.files.names()) == []
        assert listener.receiver.counts == {Fate.NOT_KEPT: 2}


def test_our_own_results_are_recognised_by_their_equipment_and_by_their_uid(tmp_path: Path) -> None:
    equipment = Dataset()
    equipment.Manufacturer = "Consilium"
    marked = radiograph(1, ContributingEquipmentSequence=[equipment])
    renamed, sent = radiograph(2, Manufacturer="CONSILIUM"), radiograph(3)
    with listening(tmp_path, sent=lambda name: name == sent.SOPInstanceUID) as listener:
        assert listener.send(marked, renamed, sent, radiograph(4)) == [0] * 4
        assert [row.ours for row in listener.inbox.instances] == [True, True, True, False]
        assert [row.file is None for row in listener.inbox.instances] == [True, True, True, False]
        assert len(list(listener.files.names())) == 1


def test_a_rejection_note_names_what_it_rejects(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        assert listener.send(rejection_note(1, 3), rejection_note(2, title="113000")) == [0, 0]
        (rejection,) = [one for one in listener.inbox.records.values() if isinstance(one, ReceivedRejection)]
    assert rejection.study == uid("study", "A")
    assert rejection.instances == (uid("instance", "A", 1), uid("instance", "A", 3))
    assert rejection.code.value == "113001"


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_native_encoding_is_read(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    dataset = radiograph(1)
    dataset.file_meta.TransferSyntaxUID = syntax
    with listening(tmp_path) as listener:
        association = listener.associate((dataset.SOPClassUID, syntax))
        assert association.send_c_store(dataset).Status == 0
        association.release()
        (row,) = listener.inbox.instances
        assert row.transfer_syntax == syntax
        assert row.patient == PatientId("P-A", "NORTH")
        assert pydicom.dcmread(BytesIO(listener.stored())).PatientName == "Sample^Anna"


def test_a_context_is_accepted_where_its_encoding_is_read_or_its_content_dropped(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        image = radiograph(1).SOPClassUID
        asked = [(image, JPEG2000Lossless), (image, MPEG2MPML), (VideoEndoscopicImageStorage, MPEG2MPML)]
        association = listener.associate(*asked, "1.2.840.10008.5.1.4.1.2.2.1")
        accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
        association.release()
    assert accepted == {asked[0], asked[2]}


def test_umlauts_without_a_character_set_and_missing_type_2_attributes(tmp_path: Path) -> None:
    declared = radiograph(1, SpecificCharacterSet=None, PatientName="Mxller", PatientID="Mxller")
    umlauts = encoded(declared).replace(b"Mxller", "Müller".encode("latin-1"))
    bare = radiograph(
        2,
        **dict.fromkeys(
            (
                "AccessionNumber",
                "PatientID",
                "IssuerOfPatientID",
                "PatientSex",
                "PatientBirthDate",
                "StudyDate",
                "StudyTime",
            )
        ),
        ViewPosition=None,
        StationName=None,
        TimezoneOffsetFromUTC=None,
    )
    with listening(tmp_path) as listener:
        association = listener.associate((bare.SOPClassUID, ExplicitVRLittleEndian))
        assert association.send_c_store(pydicom.dcmread(BytesIO(_file(umlauts)))).Status == 0
        assert association.send_c_store(bare).Status == 0
        association.release()
        first, second = listener.inbox.instances
    assert first.patient == PatientId("Müller", "NORTH")
    assert (second.patient, second.accession) == (None, None)
    assert (second.description.acquired, second.description.age, second.description.view) == (None, None, None)


def _file(data_set: bytes) -> bytes:
    from hospital.dicom.reception import Announced, file_meta

    sample = radiograph(1)
    return file_meta(Announced(sample.SOPClassUID, sample.SOPInstanceUID, ExplicitVRLittleEndian)) + data_set


def test_issuers_have_the_names_of_the_configuration(tmp_path: Path) -> None:
    peer = DicomPeer("pacs", "SENDER", host="127.0.0.1", patient_issuer="house", accession_issuer="ris")
    with listening(tmp_path, (peer,), issuers={"NORTH": "north-campus"}) as listener:
        listener.send(radiograph(1), radiograph(2, IssuerOfPatientID=None), radiograph(3, IssuerOfPatientID="ELSE"))
        issuers = [row.patient and row.patient.issuer for row in listener.inbox.instances]
        assert listener.inbox.instances[0].accession == Accession("ACC-A", "ris")
    assert issuers == ["north-campus", "house", "ELSE"]


def test_an_object_without_its_uids_or_with_others_than_announced_is_refused(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        association = listener.associate(radiograph(1).SOPClassUID)
        lacking, good = radiograph(1, StudyInstanceUID=None), radiograph(2)
        assert association.send_c_store(lacking).Status == 0xC000
        other = radiograph(3)
        other.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        assert _sent_as(association, other, "1.2.3.4") == 0xA900
        assert association.send_c_store(good).Status == 0
        association.release()
        assert [row.sop_instance for row in listener.inbox.instances] == [good.SOPInstanceUID]
        assert listener.left() == []
        assert len(list(listener.files.names())) == 1


def _sent_as(association: object, dataset: Dataset, instance: str) -> int:
    """The status of sending `dataset` under another SOP Instance UID than its own."""
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dataset.SOPClassUID, instance
    request.DataSet = BytesIO(encoded(dataset))
    association._reactor_checkpoint.clear()  # type: ignore[attr-defined]
    context = association.accepted_contexts[0].context_id  # type: ignore[attr-defined]
    association.dimse.send_msg(request, context)  # type: ignore[attr-defined]
    _, answer = association.dimse.get_msg(block=True)  # type: ignore[attr-defined]
    association._reactor_checkpoint.set()  # type: ignore[attr-defined]
    return int(answer.Status)


def test_what_the_gateway_asked_for_is_told_apart(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        association = listener.associate(radiograph(1).SOPClassUID)
        for number, originator in enumerate((None, OURS, "WORKSTATION")):
            assert association.send_c_store(radiograph(number), originator_aet=originator, originator_id=1).Status == 0
        association.release()
        assert [row.requested for row in listener.inbox.instances] == [False, True, False]


def test_a_study_is_held_as_long_as_the_association_is_open(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        association = listener.associate(radiograph(1).SOPClassUID)
        assert not listener.holds.held(uid("study", "A"))
        association.send_c_store(radiograph(1))
        assert listener.holds.held(uid("study", "A"))
        association.release()
        assert eventually(lambda: not listener.holds.held(uid("study", "A")))


def test_titles_and_addresses_that_are_not_known_are_rejected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = DicomPeer("other", "ELSEWHERE", host="192.0.2.1")
    with listening(tmp_path, (PEER, elsewhere)) as listener:
        assert _rejection(listener.associate(called="PACS")) == (1, 1, 7)
        assert _rejection(listener.associate(calling="NOBODY")) == (1, 1, 3)
        assert _rejection(listener.associate(calling="ELSEWHERE")) == (1, 1, 3)
        assert listener.scp.refusals == {"called": 1, "calling": 2}
        where, known = "a DICOM association was refused:", "the peers' titles: SENDER, ELSEWHERE"
        assert [one.getMessage() for one in caplog.records if one.name == "consilium.gateway"] == [
            f"{where} called: 'SENDER' at 127.0.0.1 called 'PACS', this gateway is CONSILIUM",
            f"{where} calling: 'NOBODY' at 127.0.0.1 is no peer; {known}",
            f"{where} calling: 'ELSEWHERE' at 127.0.0.1 calls from another address than its own; {known}",
        ]
        association = listener.associate()
        assert association.send_c_echo().Status == 0
        association.release()


def test_the_title_of_a_stranger_is_logged_in_printable_characters_and_no_longer_than_a_title() -> None:
    stranger = Caller(OURS, "\x1b[31m\n" + "X" * 40, "192.0.2.7")
    peers = [DicomPeer(str(number), f"CT{number}") for number in range(23)]
    reason = refusal_reason(peers, stranger, OURS, Refusal.CALLING)
    assert reason is not None
    assert reason.startswith("'?[31m?XXXXXXXXXX' at 192.0.2.7 is no peer; the peers' titles: CT0, CT1, ")
    assert reason.endswith("CT19 and 3 more")


def test_a_connection_from_an_unknown_address_is_closed_before_a_word(tmp_path: Path) -> None:
    with listening(tmp_path, (DicomPeer("other", "SENDER", host="192.0.2.1"),)) as listener:
        assert not listener.associate().is_established
        assert eventually(lambda: listener.scp.refusals == {"address": 1})


def test_while_the_store_is_full_associations_are_rejected_for_the_time_being(tmp_path: Path) -> None:
    room = [False]
    with listening(tmp_path, has_room=lambda: room[0]) as listener:
        assert _rejection(listener.associate()) == (2, 3, 2)
        room[0] = True
        assert listener.send(radiograph(1)) == [0]


@pytest.mark.parametrize("error", [StoreFull("full"), StoreUnavailable("locked"), OSError(28, "No space left")])
def test_what_cannot_be_stored_is_not_acknowledged_and_ends_the_association(tmp_path: Path, error: Exception) -> None:
    with listening(tmp_path) as listener:
        listener.inbox.error = error
        association = listener.associate(radiograph(1).SOPClassUID)
        assert association.send_c_store(radiograph(1)).get("Status") is None
        assert eventually(lambda: association.is_aborted)
        listener.inbox.error = None
        assert listener.send(radiograph(1)) == [0]
        assert eventually(lambda: listener.left() == [])


def test_one_association_more_than_may_be_is_rejected_for_the_time_being(tmp_path: Path) -> None:
    with listening(tmp_path, limits=AssociationLimits(associations=2)) as listener:
        first, second = listener.associate(), listener.associate()
        assert _rejection(listener.associate()) == (2, 3, 2)
        first.release()
        assert eventually(lambda: listener.associate().is_established)
        second.release()


def test_an_object_that_is_too_large_ends_its_association_and_no_other(tmp_path: Path) -> None:
    with listening(tmp_path, object_limits=ObjectLimits(bytes=100_000)) as listener:
        other = listener.associate(radiograph(1).SOPClassUID)
        association = listener.associate(radiograph(1).SOPClassUID)
        assert association.send_c_store(radiograph(1, side=512)).get("Status") is None
        assert other.send_c_store(radiograph(2)).Status == 0
        other.release()
        assert eventually(lambda: listener.left() == [])
        assert [row.sop_instance for row in listener.inbox.instances] == [uid("instance", "A", 2)]


def test_no_refusal_writes_who_the_patient_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(tmp_path) as listener:
        association = listener.associate(radiograph(1).SOPClassUID)
        refused = radiograph(1, StudyInstanceUID="unmistakable"), radiograph(2, SOPInstanceUID="unmistakable")
        assert [association.send_c_store(one).Status for one in refused] == [0xC000] * 2
        listener.inbox.error = ValueError("Unmistakable")
        assert association.send_c_store(radiograph(3)).Status == 0x0110
        association.release()
    assert len(caplog.records) >= 3
    assert "unmistakable" not in " ".join(record.getMessage() for record in caplog.records).casefold()


def test_a_sender_that_stops_listening_leaves_the_others_alone(tmp_path: Path) -> None:
    """The peer aborts after its first object; the second of another association arrives."""
    with listening(tmp_path) as listener:
        leaving, staying = (listener.associate(radiograph(1).SOPClassUID) for _ in range(2))
        assert leaving.send_c_store(radiograph(1)).Status == 0
        leaving.abort()
        assert staying.send_c_store(radiograph(2)).Status == 0
        staying.release()
        assert len(listener.inbox.instances) == 2


def test_a_listener_that_stops_aborts_what_is_open(tmp_path: Path) -> None:
    aborted: list[object] = []
    with listening(tmp_path) as listener:
        listener.associate(evt_handlers=[(evt.EVT_ABORTED, aborted.append)])
    assert eventually(lambda: len(aborted) == 1)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    from consilium.domain.errors import InputError

    with listening(tmp_path) as listener, pytest.raises(InputError, match=f"127.0.0.1:{listener.port}.*must be free"):
        _second(listener, tmp_path)


def _second(listener: Listening, folder: Path) -> None:
    from hospital.dicom.storage_scp import StorageListener, StorageScp

    StorageScp(StorageListener(OURS, "127.0.0.1", listener.port, (PEER,)), listener.receiver, listener.holds).start()


@pytest.mark.parametrize(
    ("calling", "called", "why"),
    [
        (PEER.ae_title, "PACS", "rejected by its Service User: Called AE title not recognised (1,1,7)"),
        ("NOBODY", OURS, "rejected by its Service User: Calling AE title not recognised (1,1,3)"),
    ],
)
def test_who_asks_is_told_why_there_was_no_association(tmp_path: Path, calling: str, called: str, why: str) -> None:
    with listening(tmp_path) as listener:
        peer = DicomPeer("gateway", called, host="127.0.0.1", port=listener.port)
        address = f"127.0.0.1:{listener.port} ({called})"
        with pytest.raises(PeerUnreachable) as rejected:
            Requestor(calling).echo(peer)
        assert str(rejected.value) == f"gateway: there was no association with {address}: {why}"
    with pytest.raises(PeerUnreachable) as closed:
        Requestor(calling).echo(peer)
    assert str(closed.value) == f"gateway: there was no association with {address}: connection refused"
