"""Requests of STOW-RS that are cut, broken, foreign, too large or too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import MPEG2MPML, ComprehensiveSRStorage
from starlette.applications import Starlette

from hospital.dicom.peers import DicomPeer
from hospital.dicom.reception import Announced, Fate, ObjectLimits, file_meta
from hospital.dicom.web.stow_in import StowIn, StowLimits, WebSender, sender_by_token
from hospital.store.received import StoreFull
from tests.hospital.dicom.listening import Listening, listening
from tests.hospital.dicom.samples import encoded, part10, radiograph, uid, without_pixels

TYPE = 'multipart/related; type="application/dicom"; boundary=b'
AUTHORISED = {"Authorization": "Bearer secret", "Content-Type": TYPE}


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listening]:
    with listening(tmp_path) as running:
        yield running


def _body(*files: bytes) -> bytes:
    return b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + one for one in files) + b"\r\n--b--\r\n"


async def _post(listener: Listening, content: Any, path: str = "/studies", **options: Any) -> httpx.Response:
    sender = sender_by_token([WebSender(DicomPeer("web", "WEB"), sha256(b"secret").hexdigest())])
    headers = AUTHORISED | options.pop("headers", {})
    stow = StowIn(listener.receiver, listener.holds, sender, **options)
    transport = httpx.ASGITransport(Starlette(routes=stow.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.post(path, content=content, headers=headers)


def _sent(listener: Listening, *files: bytes, **options: Any) -> httpx.Response:
    return asyncio.run(_post(listener, _body(*files), **options))


def _uids(answer: httpx.Response, sequence: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.json().get(sequence, {}).get("Value", [])]


def test_what_is_referenced_is_stored_and_what_failed_says_why(listener: Listening) -> None:
    sent, lacking = radiograph(1), radiograph(2, StudyInstanceUID=None)
    answer = _sent(listener, part10(sent), part10(lacking), b"no file")
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/dicom+json")
    assert _uids(answer, "00081199") == [sent.SOPInstanceUID]
    failed = answer.json()["00081198"]["Value"]
    assert failed[0]["00081155"]["Value"] == [lacking.SOPInstanceUID]
    assert [one["00081197"]["Value"] for one in failed] == [[0xC000], [0xC000]]
    assert listener.stored().endswith(encoded(sent))
    assert listener.left() == []


def test_nothing_stored_is_a_conflict(listener: Listening) -> None:
    answer = _sent(listener, part10(radiograph(1)), path=f"/studies/{uid('study', 'B')}")
    assert (answer.status_code, _uids(answer, "00081199")) == (409, [])
    assert listener.inbox.instances == []


def test_an_encoding_that_is_not_read_is_named_as_the_reason(listener: Listening) -> None:
    dataset = radiograph(1)
    file = file_meta(Announced(dataset.SOPClassUID, dataset.SOPInstanceUID, MPEG2MPML)) + encoded(dataset)
    answer = _sent(listener, file)
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC122]


def test_what_is_not_read_is_acknowledged_and_not_kept(listener: Listening) -> None:
    report = without_pixels(radiograph(1), SOPClassUID=ComprehensiveSRStorage)
    assert _sent(listener, part10(report)).status_code == 200
    assert listener.receiver.counts == {Fate.NOT_KEPT: 1}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": ""}, 401),
        ({"Accept": "application/dicom+xml"}, 406),
        ({"Content-Type": "application/dicom"}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b'}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, 400),
        ({"Content-Type": f"multipart/related; boundary={'b' * 300}"}, 400),
    ],
)
def test_a_request_that_is_refused_before_its_body(listener: Listening, headers: dict[str, str], status: int) -> None:
    answer = _sent(listener, part10(radiograph(1)), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert listener.inbox.instances == []


@pytest.mark.parametrize("content", [b"", b"garbage", _body(), _body(part10(radiograph(1)))[:-500]])
def test_a_body_that_is_not_whole_is_a_bad_request(listener: Listening, content: bytes) -> None:
    assert asyncio.run(_post(listener, content)).status_code == 400
    assert listener.left() == []


def test_more_files_than_may_be_are_too_many(listener: Listening) -> None:
    files = [part10(radiograph(number)) for number in range(3)]
    assert _sent(listener, *files, limits=StowLimits(files=2)).status_code == 413


def test_a_file_that_is_too_large_fails_alone(tmp_path: Path) -> None:
    with listening(tmp_path, object_limits=ObjectLimits(bytes=100_000)) as listener:
        answer = _sent(listener, part10(radiograph(1, side=512)), part10(radiograph(2)))
        assert (answer.status_code, _uids(answer, "00081199")) == (202, [uid("instance", "A", 2)])
        assert listener.left() == []


def test_a_full_store_takes_nothing_now(listener: Listening) -> None:
    answer = _sent(listener, part10(radiograph(1)), has_room=lambda: False)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    listener.inbox.error = StoreFull("full")
    assert _sent(listener, part10(radiograph(1))).status_code == 503
    assert listener.left() == []
    assert list(listener.files.names()) == []


def test_a_body_that_stands_still_ends(listener: Listening) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield _body(part10(radiograph(1)))[:1000]
        await asyncio.sleep(20)

    answer = asyncio.run(_post(listener, slow(), limits=StowLimits(pause_s=0.2)))
    assert answer.status_code == 408
    assert listener.left() == []


def test_one_request_more_than_may_be_waits_for_its_turn(listener: Listening) -> None:
    assert _sent(listener, part10(radiograph(1)), limits=StowLimits(requests=0)).status_code == 503


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 3000), junk=st.binary(max_size=60), pieces=st.integers(1, 400), keep=st.booleans())
def test_no_bytes_break_it(listener: Listening, start: int, junk: bytes, pieces: int, keep: bool) -> None:
    body = _body(part10(radiograph(1)))
    broken = body[:start] + junk + body[start + (0 if keep else len(junk)) :]

    async def cut() -> AsyncIterator[bytes]:
        for begin in range(0, len(broken), pieces):
            yield broken[begin : begin + pieces]

    assert asyncio.run(_post(listener, cut())).status_code in (200, 202, 400, 409, 413)
    assert listener.left() == []
