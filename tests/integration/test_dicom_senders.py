"""Real senders, dcmtk and Orthanc, against the listener."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, JPEGLSLossless

from hospital.dicom.peers import DicomPeer
from hospital.store.received import StoreFull
from tests.dcmtk import needs_dcmtk, run
from tests.hospital.dicom.listening import OURS, Listening, listening
from tests.hospital.dicom.samples import encoded, part10, radiograph, uid, without_pixels
from tests.orthanc import Orthanc

PEERS = (DicomPeer("dcmtk", "STORESCU", host="127.0.0.1"), DicomPeer("orthanc", "ORTHANC", host="127.0.0.1"))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listening]:
    with listening(tmp_path / "store", PEERS) as running:
        yield running


def _storescu(port: int, *arguments: str | Path) -> int:
    return run("storescu", "-aec", OURS, *arguments[:-1], "127.0.0.1", port, arguments[-1])


@needs_dcmtk
def test_a_folder_of_every_encoding_that_dcmtk_writes(tmp_path: Path, listener: Listening) -> None:
    for option in ("-xe", "-xb", "-xi", "-xd"):
        sent = radiograph(ord(option[2]))
        file = tmp_path / f"{option[1:]}.dcm"
        file.write_bytes(part10(sent))
        # Sent in the encoding that the file has, so that dcmtk converts it beforehand.
        converted = tmp_path / f"converted{option}.dcm"
        write = {"-xe": "+te", "-xb": "+tb", "-xi": "+ti", "-xd": "+td"}[option]
        assert run("dcmconv", write, file, converted) == 0
        assert _storescu(listener.port, option, converted) == 0
    assert [row.transfer_syntax for row in listener.inbox.instances] == [
        f"1.2.840.10008.1.2{end}" for end in (".1", ".2", "", ".1.99")
    ]
    assert {row.patient and row.patient.value for row in listener.inbox.instances} == {"P-A"}


@needs_dcmtk
def test_compressed_pixels_arrive_as_they_were_sent(tmp_path: Path, listener: Listening) -> None:
    plain, compressed = tmp_path / "a.dcm", tmp_path / "b.dcm"
    plain.write_bytes(part10(radiograph(1)))
    assert run("dcmcjpls", plain, compressed) == 0
    assert _storescu(listener.port, "-xt", compressed) == 0
    (row,) = listener.inbox.instances
    assert row.transfer_syntax == JPEGLSLossless
    data_set = compressed.read_bytes()[-2000:]
    assert listener.stored().endswith(data_set)


@needs_dcmtk
def test_dcmtk_under_another_title_is_refused(tmp_path: Path, listener: Listening) -> None:
    (tmp_path / "a.dcm").write_bytes(part10(radiograph(1)))
    assert _storescu(listener.port, "-aet", "NOBODY", tmp_path / "a.dcm") != 0
    assert listener.inbox.instances == []


def test_orthanc_pushes_a_study_in_which_a_report_stands(orthanc: Orthanc, listener: Listening) -> None:
    sent = [radiograph(1), radiograph(2), without_pixels(radiograph(3), SOPClassUID=ComprehensiveSRStorage)]
    _uploaded(orthanc, listener, *sent)
    orthanc.push(uid("study", "A"), "gateway")
    rows = {row.sop_instance: row for row in listener.inbox.instances}
    assert {name: row.file is None for name, row in rows.items()} == {
        one.SOPInstanceUID: one is sent[2] for one in sent
    }
    assert rows[sent[0].SOPInstanceUID].digest == hashlib.sha256(encoded(sent[0])).hexdigest()
    assert {row.source for row in rows.values()} == {"orthanc"}


def test_orthanc_notices_that_an_object_could_not_be_stored(orthanc: Orthanc, listener: Listening) -> None:
    _uploaded(orthanc, listener, radiograph(1), radiograph(2))
    listener.inbox.error = StoreFull("full")
    assert not _pushed(orthanc)
    listener.inbox.error = None
    assert _pushed(orthanc)
    assert len(listener.inbox.instances) == 2


def test_a_permissive_orthanc_counts_as_sent_what_was_rejected(orthanc: Orthanc, tmp_path: Path) -> None:
    """Nothing that a receiver says reaches it: why a source is asked afterwards how many instances a study has."""
    with listening(tmp_path / "full", PEERS, has_room=lambda: False) as full:
        _uploaded(orthanc, full, radiograph(1))
        assert _pushed(orthanc, permissive=True)
        assert full.inbox.instances == []


def _uploaded(orthanc: Orthanc, listener: Listening, *sent: Dataset) -> None:
    orthanc.register("gateway", OURS, listener.port)
    for one in sent:
        orthanc.upload(part10(one))


def _pushed(orthanc: Orthanc, *, permissive: bool = False) -> bool:
    """Whether Orthanc says that it sent everything."""
    (study,) = orthanc.http.post(
        "/tools/find", json={"Level": "Study", "Query": {"StudyInstanceUID": uid("study", "A")}}
    ).json()
    body = {"Resources": [study], "Synchronous": True, "Permissive": permissive}
    answer: httpx.Response = orthanc.http.post("/modalities/gateway/store", json=body)
    return answer.is_success and answer.json()["FailedInstancesCount"] == 0
