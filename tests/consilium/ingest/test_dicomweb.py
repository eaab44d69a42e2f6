"""A DICOMweb archive asked for studies and files: pages, retries, and answers that must not be believed."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from consilium.ingest import dicomweb
from consilium.ingest.dicomweb import (
    ArchiveTooSlow,
    DicomWeb,
    DicomWebError,
    FoundInstance,
    InstanceMissing,
    InstanceUnavailable,
)
from tests.patience import PATIENCE_S

ONE = FoundInstance("1.2", "1.2.3", "1.2.3.4", "Digital X-Ray Image Storage - For Presentation")
DX, SR = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.88.11"


def asked(
    answer: Callable[[httpx.Request], httpx.Response], pauses: list[float] | None = None, **more: int
) -> DicomWeb:
    pause = [].append if pauses is None else pauses.append
    return DicomWeb("http://pacs/web/", "secret", transport=httpx.MockTransport(answer), pause=pause, **more)


def study(uid: str) -> dict[str, object]:
    return {"0020000D": {"vr": "UI", "Value": [uid]}}


def instance(series: str, uid: str, kind: str | None = None) -> dict[str, object]:
    told = {} if kind is None else {"00080016": {"vr": "UI", "Value": [kind]}}
    return {"0020000E": {"vr": "UI", "Value": [series]}, "00080018": {"vr": "UI", "Value": [uid]}, **told}


def test_studies_come_page_by_page_each_once() -> None:
    everything = [study(f"1.{number}") for number in range(5)]

    def answer(request: httpx.Request) -> httpx.Response:
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        assert request.url.params["StudyDate"] == "20250101"
        assert request.headers["authorization"] == "Bearer secret"
        assert request.url.path == "/web/studies"
        return httpx.Response(200, json=everything[offset : offset + limit])

    with asked(answer, page=2) as archive:
        assert list(archive.studies({"StudyDate": "20250101"})) == [f"1.{number}" for number in range(5)]


def test_a_server_that_knows_no_pages_ends() -> None:
    with asked(lambda request: httpx.Response(200, json=[study("1.1"), study("1.2")])) as archive:
        assert list(archive.studies()) == ["1.1", "1.2"]


def test_nothing_matches() -> None:
    with asked(lambda request: httpx.Response(204)) as archive:
        assert list(archive.studies()) == []
        with pytest.raises(InstanceUnavailable, match="no instance"):
            archive.instances("1.2")


def test_instances_come_in_the_order_of_their_uids_with_their_kind() -> None:
    told = [instance("1.9", "1.9.1", SR), instance("1.3", "1.3.2"), instance("1.3", "1.3.1", DX)]
    with asked(lambda request: httpx.Response(200, json=told)) as archive:
        found = archive.instances("1.2")
    assert [(one.instance, one.may_hold_image) for one in found] == [("1.3.1", True), ("1.3.2", True), ("1.9.1", False)]
    assert found[0].kind.startswith("Digital X-Ray Image Storage")


def multipart(content: bytes, boundary: str = "b1") -> httpx.Response:
    body = (
        b"".join([b"--", boundary.encode(), b"\r\nContent-Type: application/dicom\r\n\r\n", content, b"\r\n--"])
        + boundary.encode()
        + b"--\r\n"
    )
    kind = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
    return httpx.Response(200, content=body, headers={"content-type": kind})


def test_an_instance_is_the_part_of_a_multipart_answer() -> None:
    content = b"\0" * 128 + b"DICM\r\n\r\n--b\r\n"

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/web/studies/1.2/series/1.2.3/instances/1.2.3.4"
        assert "transfer-syntax=*" in request.headers["accept"]
        return multipart(content)

    with asked(answer) as archive:
        assert archive.retrieve(ONE) == content


def test_a_cut_answer_and_one_that_is_too_large_are_refused() -> None:
    whole = multipart(b"x" * 1000)
    cut = httpx.Response(200, content=whole.content[:500], headers={"content-type": whole.headers["content-type"]})
    with asked(lambda request: cut) as archive, pytest.raises(InstanceUnavailable, match="whole multipart"):
        archive.retrieve(ONE)
    large = asked(lambda request: multipart(b"x" * 1000), most_bytes=900)
    with large, pytest.raises(InstanceUnavailable, match="larger than 900 bytes"):
        large.retrieve(ONE)


def test_an_answer_that_trickles_past_its_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(dicomweb.time, "monotonic", lambda: clock[0])

    def trickle() -> Iterator[bytes]:
        for _ in range(1000):
            clock[0] += 1.0
            yield b"x"

    slow = asked(lambda request: httpx.Response(200, content=trickle()), seconds=20)
    with slow, pytest.raises(ArchiveTooSlow, match="did not end"):
        slow.retrieve(ONE)
    assert clock[0] == 21.0


@pytest.mark.parametrize("endless", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a", b""])
def test_an_archive_that_never_ends_to_answer_is_cut_off(endless: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as one, suppress(OSError):
                one.recv(65536)
                one.sendall(endless)
                while endless:
                    one.sendall(endless if endless.endswith(b"\n") else b"a")
                    time.sleep(0.01)
                one.recv(1)

        serving = threading.Thread(target=answer)
        serving.start()
        archive = DicomWeb(f"http://127.0.0.1:{server.getsockname()[1]}/web", seconds=0.3, timeout=PATIENCE_S)
        with archive, pytest.raises(ArchiveTooSlow, match="in the time that it has"):
            archive.retrieve(ONE)
        serving.join(PATIENCE_S)
        assert not serving.is_alive()


def test_a_few_bytes_that_would_be_many_are_not_unpacked() -> None:
    packed = gzip.compress(gzip.compress(bytes(1 << 20)))

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        head = {"content-encoding": "gzip, gzip", "content-type": "application/dicom"}
        return httpx.Response(200, headers=head, stream=httpx.ByteStream(packed))

    with asked(answer) as archive, pytest.raises(DicomWebError, match="answer is compressed"):
        archive.retrieve(ONE)


def test_an_archive_that_stays_busy_is_given_up_in_time() -> None:
    pauses: list[float] = []
    busy = asked(lambda request: httpx.Response(503, headers={"retry-after": "30"}), pauses, seconds=20)
    with busy, pytest.raises(ArchiveTooSlow, match="cannot be reached"):
        busy.retrieve(ONE)
    assert pauses == []


def test_a_busy_archive_is_asked_again_after_the_time_that_it_names() -> None:
    answers = iter([httpx.Response(503, headers={"retry-after": "7"}), httpx.Response(429), multipart(b"there")])
    pauses: list[float] = []
    with asked(lambda request: next(answers), pauses) as archive:
        assert archive.retrieve(ONE) == b"there"
    assert pauses == [7, 2]


def test_an_archive_that_stays_away_is_an_error_without_names_of_studies() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    pauses: list[float] = []
    with asked(answer, pauses) as archive, pytest.raises(DicomWebError, match="cannot be reached") as raised:
        archive.instances("1.2.826")
    assert pauses == [1, 2, 4]
    assert "1.2.826" not in str(raised.value)


@pytest.mark.parametrize(("status", "error"), [(404, InstanceMissing), (410, InstanceMissing), (401, DicomWebError)])
def test_a_refusal_is_told_from_what_is_not_there(status: int, error: type[DicomWebError]) -> None:
    with asked(lambda request: httpx.Response(status)) as archive, pytest.raises(DicomWebError) as raised:
        archive.retrieve(ONE)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    "body", [b"no json", b"{}", b"[1]", b'[{"0020000D": {"Value": ["../../system"]}}]', b"[" * 100_000]
)
def test_an_answer_that_names_no_uid_is_refused(body: bytes) -> None:
    with asked(lambda request: httpx.Response(200, content=body)) as archive, pytest.raises(DicomWebError):
        list(archive.studies())
