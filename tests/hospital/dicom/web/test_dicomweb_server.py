"""A DICOMweb server asked for studies: what it answers need not be believed."""

from __future__ import annotations

import gzip

import httpx
import pytest

from consilium.formats.time_zone import TimeZone
from hospital.dicom.peers import DicomPeer
from hospital.dicom.requesting import PeerBusy
from hospital.dicom.web.dicomweb_server import DicomWebServer
from hospital.store.received import PatientId


def test_a_few_bytes_that_would_be_many_are_not_unpacked() -> None:
    packed = gzip.compress(gzip.compress(b"[]"))

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, headers={"content-encoding": "gzip, gzip"}, stream=httpx.ByteStream(packed))

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://pacs/web")
    server = DicomWebServer(DicomPeer("pacs", "", patient_issuer="house"), client, TimeZone("UTC"))
    with client, pytest.raises(PeerBusy, match="pacs: the answer is compressed"):
        server.studies_of(PatientId("4711", "house"))


def test_an_answer_as_it_is_is_read() -> None:
    found = [{"0020000D": {"Value": ["1.2.3"]}, "00100020": {"Value": ["4711"]}}]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=found))
    with httpx.Client(transport=transport, base_url="http://pacs/web") as client:
        server = DicomWebServer(DicomPeer("pacs", "", patient_issuer="house"), client, TimeZone("UTC"))
        (one,) = server.studies_of(PatientId("4711", "house"))
    assert one.study == "1.2.3"


def test_an_answer_that_is_no_json_is_none_however_deep() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"[" * 100_000))
    with httpx.Client(transport=transport, base_url="http://pacs/web") as client:
        server = DicomWebServer(DicomPeer("pacs", "", patient_issuer="house"), client, TimeZone("UTC"))
        with pytest.raises(PeerBusy, match="pacs: the answer is no JSON"):
            server.studies_of(PatientId("4711", "house"))
