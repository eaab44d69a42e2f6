"""DICOMweb with real peers: dicomweb-client and Orthanc send to the gateway; Orthanc is pulled from and sent to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import sleep

import httpx
import pytest
import requests
import uvicorn
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage
from requests.exceptions import HTTPError
from starlette.applications import Starlette
from starlette.routing import Mount

from consilium.formats.time_zone import TimeZone
from hospital.dicom.peers import DicomPeer
from hospital.dicom.query_retrieve import FoundSeries, Moved
from hospital.dicom.requesting import PeerBusy, PeerRefuses, PeerUnreachable
from hospital.dicom.web.dicomweb_server import DicomWebServer
from hospital.dicom.web.stow_in import StowIn, WebSender, sender_by_token
from hospital.store.received import PatientId
from tests.hospital.dicom.listening import Listening, listening
from tests.hospital.dicom.samples import encoded, part10, radiograph, uid, without_pixels
from tests.orthanc import Orthanc, free_ports
from tests.patience import PATIENCE_S

TOKEN = "a token of the tests"
PEER = DicomPeer("pacs", "PACS", patient_issuer="house")


@contextmanager
def _serving(listener: Listening) -> Iterator[str]:
    sender = sender_by_token([WebSender(PEER, sha256(TOKEN.encode()).hexdigest())])
    stow = StowIn(listener.receiver, listener.holds, sender)
    (port,) = free_ports(1)
    app = Starlette(routes=[Mount("/dicom-web", routes=stow.routes())])
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listening]:
    with listening(tmp_path) as running:
        yield running


@pytest.fixture
def url(listener: Listening) -> Iterator[str]:
    with _serving(listener) as root:
        yield root


def _client(url: str, token: str = TOKEN) -> DICOMwebClient:
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {token}"
    return DICOMwebClient(url, session=session)


def _read(dataset: Dataset) -> Dataset:
    """`dataset` as it comes from a file, with its whole file meta information."""
    return dcmread(BytesIO(part10(dataset)))


def _server(orthanc: Orthanc) -> DicomWebServer:
    http = httpx.Client(base_url=orthanc.dicomweb, timeout=PATIENCE_S, trust_env=False)
    return DicomWebServer(PEER, http, TimeZone("UTC"), {"NORTH": "north"})


def test_dicomweb_client_stores_a_study(listener: Listening, url: str) -> None:
    sent = [_read(radiograph(number)) for number in (1, 2)]
    answer = _client(url).store_instances(sent, study_instance_uid=uid("study", "A"))
    stored = [one.ReferencedSOPInstanceUID for one in answer.ReferencedSOPSequence]
    assert stored == [one.SOPInstanceUID for one in sent]
    assert "FailedSOPSequence" not in answer
    assert listener.stored().endswith(encoded(sent[0]))
    assert {row.source for row in listener.inbox.instances} == {"pacs"}
    assert not listener.holds.held(uid("study", "A"))


def test_dicomweb_client_is_told_which_instances_failed(listener: Listening, url: str) -> None:
    """One of another study than was announced."""
    sent = [_read(radiograph(1)), _read(radiograph(1, study="B"))]
    answer = _client(url).store_instances(sent, study_instance_uid=uid("study", "A"))
    (stored,), (failed,) = answer.ReferencedSOPSequence, answer.FailedSOPSequence
    assert (stored.ReferencedSOPInstanceUID, failed.ReferencedSOPInstanceUID) == (
        sent[0].SOPInstanceUID,
        sent[1].SOPInstanceUID,
    )
    assert failed.FailureReason == 0xA900
    assert len(listener.inbox.instances) == 1


def test_dicomweb_client_without_the_token_stores_nothing(listener: Listening, url: str) -> None:
    with pytest.raises(HTTPError, match="401"):
        _client(url, "another").store_instances([_read(radiograph(1))])
    assert listener.inbox.instances == []


def test_orthanc_pushes_a_study_by_stow(orthanc: Orthanc, listener: Listening, url: str) -> None:
    for number in (1, 2):
        orthanc.upload(part10(radiograph(number)))
    orthanc.register_dicomweb("gateway", f"{url}/", HttpHeaders={"Authorization": f"Bearer {TOKEN}"})
    orthanc.push_dicomweb(uid("study", "A"), "gateway")
    assert {row.sop_instance for row in listener.inbox.instances} == {uid("instance", "A", n) for n in (1, 2)}


def test_a_study_is_found_counted_and_pulled(orthanc: Orthanc, listener: Listening) -> None:
    for one in (radiograph(1), radiograph(2), radiograph(1, study="B")):
        orthanc.upload(part10(one))
    server = _server(orthanc)
    (found,) = server.studies_of(PatientId("P-A", "north"))
    assert (found.study, found.modalities, found.instances) == (uid("study", "A"), ("DX",), 2)
    assert server.studies_of(PatientId("P-A", "south")) == []
    assert (server.count(uid("study", "A")), server.count("1.2.3")) == (2, 0)
    assert server.instances(uid("study", "A")) == {uid("instance", "A", n) for n in (1, 2)}
    series = [uid("series", "A")]
    assert server.series_of(uid("study", "A")) == [FoundSeries(series[0], "DX", "CHEST")]
    assert server.instances(uid("study", "A"), series) == server.instances(uid("study", "A"))
    assert server.retrieve(uid("study", "B"), listener.receiver, listener.holds, [uid("series", "B")]) == Moved(1, 0, 0)
    assert server.retrieve(uid("study", "A"), listener.receiver, listener.holds) == Moved(2, 0, 0)
    assert {row.requested for row in listener.inbox.instances} == {True}
    digests = {row.sop_instance: row.digest for row in listener.inbox.instances}
    assert digests[uid("instance", "A", 1)] == sha256(encoded(radiograph(1))).hexdigest()
    # What is pushed afterwards is the same instance with the same content.
    listener.send(radiograph(1))
    assert len(listener.inbox.instances) == 3


def test_a_result_is_stored_once_and_found(orthanc: Orthanc) -> None:
    result = without_pixels(radiograph(1), SOPClassUID=ComprehensiveSRStorage, Modality="SR")
    for _ in range(2):
        _server(orthanc).store(part10(result))
    assert orthanc.instances(uid("study", "A")) == {result.SOPInstanceUID: ComprehensiveSRStorage}


def test_what_a_server_does_not_have_or_does_not_answer(orthanc: Orthanc, listener: Listening) -> None:
    server = _server(orthanc)
    with pytest.raises(PeerRefuses, match="pacs: answered 404"):
        server.retrieve("1.2.3", listener.receiver, listener.holds)
    nowhere = httpx.Client(base_url=f"http://127.0.0.1:{free_ports(1)[0]}", trust_env=False)
    with pytest.raises(PeerUnreachable, match="no answer"):
        replace(server, http=nowhere).count("1.2.3")


def _stub(respond: object) -> DicomWebServer:
    http = httpx.Client(base_url="http://server/dicom-web", transport=httpx.MockTransport(respond))  # type: ignore[arg-type]
    return DicomWebServer(PEER, http, TimeZone("UTC"))


def test_an_answer_that_ends_early_is_no_study(listener: Listening) -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(radiograph(1)) + b"\r\n--b\r\n"
    half = body + b"Content-Type: application/dicom\r\n\r\n" + part10(radiograph(2))[:2000]
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    server = _stub(lambda _: httpx.Response(200, headers=kind, content=half))
    with pytest.raises(PeerBusy, match="WADO-RS gave body that must be whole"):
        server.retrieve(uid("study", "A"), listener.receiver, listener.holds)
    assert [row.sop_instance for row in listener.inbox.instances] == [uid("instance", "A", 1)]
    assert listener.left() == []


@pytest.mark.parametrize(
    ("status", "failure"),
    [(401, PeerUnreachable), (403, PeerUnreachable), (503, PeerUnreachable), (429, PeerBusy), (500, PeerBusy)],
)
def test_a_server_that_refuses_for_now(status: int, failure: type[Exception]) -> None:
    with pytest.raises(failure, match=f"pacs: answered {status}"):
        _stub(lambda _: httpx.Response(status)).count("1.2.3")


@pytest.mark.parametrize(("reason", "failure"), [(0xA700, PeerBusy), (0x0110, PeerBusy), (0xC000, PeerRefuses)])
def test_a_failure_reason_says_whether_it_is_sent_again(reason: int, failure: type[Exception]) -> None:
    item = {"00081155": {"vr": "UI", "Value": ["1"]}, "00081197": {"vr": "US", "Value": [reason]}}
    answer = {"00081198": {"vr": "SQ", "Value": [item]}}
    with pytest.raises(failure, match=f"0x{reason:04X}"):
        _stub(lambda _: httpx.Response(409, json=answer)).store(part10(radiograph(1)))


def test_pages_are_followed() -> None:
    instances = [{"00080018": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(1500)]

    def respond(request: httpx.Request) -> httpx.Response:
        offset, limit = (int(request.url.params[name]) for name in ("offset", "limit"))
        return httpx.Response(200, json=instances[offset : offset + limit])

    assert len(_stub(respond).instances("1.2.3")) == 1500
