"""A hostile corpus over HTTP: each is refused with its own status, soon, and neither memory nor service is lost to it.

What codecs and parsers do to such files is in `tests/consilium/ingest`; here the routes stand between.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import socket
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from pydicom import uid

from service.app.launch import RunningService
from service.auth.api_keys import create_key
from service.scopes import Scope
from tests.consilium.formats.dicom.dicom_files import LOSSLESS, dicom_file, jpeg, ramp
from tests.integration.test_service_http import RECORDS, form, png
from tests.patience import PATIENCE_S
from tests.soak.hostile import bomb

MIB = 1 << 20
KEPT = 160 * MIB
"""How much more the processes may hold after hostile requests than before all of them: the decode pool lets go of its
last file with the next one, and the C library keeps some for the next time. Any body that stayed would be seen here."""
PEAK = 640 * MIB
"""How much more while one is under way: a body of 128 MiB, its parts, and one of them on its way to a decoder."""
RECEIVE_S = 10.0
"""For a body: 120 MB come in time on a slow machine, too."""
DICOM = dicom_file(ramp())
BOUNDARY = "multipart/form-data; boundary=b"


class Served:
    """The service, the token of one who may ask, and what its processes hold."""

    def __init__(self, running: RunningService, token: str) -> None:
        self.running = running
        self.headers = {"Authorization": f"Bearer {token}"}
        self.client = httpx.Client(base_url=running.url, headers=self.headers, timeout=PATIENCE_S)
        self.idle = 0

    def held(self) -> int:
        """Bytes; a decoder that is being replaced may go meanwhile."""
        held = 0
        for process in [psutil.Process(self.running.pid), *psutil.Process(self.running.pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
        return held

    def exchange(self, head: str, *body: bytes, length: int | None = None) -> tuple[int, int]:
        """Send a request as it is; give the status, and how much of the body went out before it came."""
        length = sum(map(len, body)) if length is None else length
        lines = [head, "Host: x", f"Authorization: {self.headers['Authorization']}", f"Content-Length: {length}"]
        sent = 0
        with closing(socket.create_connection(("127.0.0.1", self.running.port), timeout=PATIENCE_S)) as connection:
            try:
                connection.sendall("\r\n".join([*lines, "", ""]).encode())
                for part in body:
                    view = memoryview(part)
                    while view:
                        done = connection.send(view[:65536])
                        sent, view = sent + done, view[done:]
            except OSError:
                pass  # it was refused meanwhile
            answer = connection.makefile("rb").readline()
        return int(answer.split()[1]), sent


@pytest.fixture(scope="module")
def served(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    token = create_key(keys, "attacker", [Scope.READ, Scope.DIAGNOSE])[1]
    settings = {"keys": keys, "model_threads": 1, "receive_timeout_s": RECEIVE_S}
    with RunningService(tiny_folder, settings) as running:
        served = Served(running, token)
        for _ in range(5):
            answers_well(served)
        served.idle = served.held()
        yield served
        served.client.close()


@pytest.fixture(autouse=True)
def _unharmed(served: Served) -> Iterator[None]:
    """After each: good studies are answered, and what was held is given back."""
    yield
    for _ in range(3):
        answers_well(served)
    deadline = time.monotonic() + PATIENCE_S
    while served.held() > served.idle + KEPT and time.monotonic() < deadline:
        time.sleep(0.1)
    assert served.held() <= served.idle + KEPT


def answers_well(served: Served) -> None:
    answer = served.client.post("/v1/diagnose", files=form(RECORDS, DICOM, png(1, 64)))
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["modalities"]) == {"image", "text", "observations"}


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


def images(*files: bytes) -> list[tuple[str, Any]]:
    return [("images", ("x", file)) for file in files]


def archived(kind: str) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("../../x.dcm", DICOM)
    else:
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            archive.addfile(tarfile.TarInfo("/etc/x"), io.BytesIO())
    return data.getvalue()


class _Opens:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/consilium-was-unpickled"),)


def deflated_bomb() -> bytes:
    """256 MiB of pixels in a quarter of one."""
    pixels = np.zeros((8192, 16384), np.uint16)
    return dicom_file(pixels, uid.DeflatedExplicitVRLittleEndian)


def jpeg_of(rows: int, columns: int) -> bytes:
    """A small JPEG that says it is a large one."""
    data = bytearray(jpeg(ramp(bits=8)))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", rows, columns)
    return bytes(data)


def tiff_that_never_ends() -> bytes:
    """Its first directory names itself as the next one."""
    return (
        b"II*\x00"
        + struct.pack("<I", 8)
        + struct.pack("<H", 1)
        + struct.pack("<HHII", 256, 4, 1, 64)
        + struct.pack("<I", 8)
    )


FILES: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "nothing": (lambda: b"", {415}),
    "pickle": (lambda: pickle.dumps(_Opens()), {415}),
    "pickle of an array": (lambda: pickle.dumps(ramp()), {415}),
    "zip": (lambda: archived("zip"), {415}),
    "tar.gz": (lambda: archived("tar"), {415}),
    "laughing XML": (lambda: b'<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>', {415}),
    "URL": (lambda: b"file:///etc/passwd", {415}),
    "PNG bomb": (bomb, {413}),
    "PNG bomb of one row": (lambda: bomb(1, 2**31 - 1), {413}),
    "JPEG bomb": (lambda: jpeg_of(65_000, 65_000), {413}),
    "DICOM bomb": (lambda: dicom_file(ramp(), Rows=65_535, Columns=65_535), {413}),
    "deflated DICOM bomb": (deflated_bomb, {413}),
    "DICOM of a billion frames": (lambda: dicom_file(ramp(), NumberOfFrames="999999999"), {413, 415, 422}),
    "TIFF that never ends": (tiff_that_never_ends, {415, 422}),
    "PNG with an archive behind": (lambda: png(1, 64)[:-20] + archived("zip"), {422}),
    "DICOM in a PNG's clothes": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(120) + b"DICM" + bytes(64), {415, 422}),
    "HTML in a DICOM's preamble": (lambda: b"<script>".ljust(128) + b"DICM" + bytes(64), {415, 422}),
    "program in a DICOM's preamble": (lambda: b"MZ".ljust(128, b"\x90") + b"DICM" + b"\xff" * 500, {415, 422}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused(served: Served, name: str) -> None:
    make, statuses = FILES[name]
    answer = refused(served.client.post("/v1/diagnose", files=form(RECORDS, make())), *statuses)
    assert answer["field"].startswith("images[0]")
    assert not Path("/tmp/consilium-was-unpickled").exists()


def test_a_preamble_may_say_anything_and_is_not_looked_at(served: Served) -> None:
    """DICOM, PS3.10, 7.1: so that the picture is that of the data set, whatever else the file pretends to be."""
    plain = served.client.post("/v1/diagnose", files=images(DICOM)).json()
    for preamble in (b"II*\x00", b"MZ\x90\x00", b"%PDF-1.7", b"\xff\xd8\xff\xe0"):
        dressed = served.client.post("/v1/diagnose", files=images(preamble.ljust(128, b"\0") + DICOM[128:]))
        assert dressed.json()["findings"] == plain["findings"]


def test_cut_and_altered_dicom_is_refused_or_read_and_never_our_fault(served: Served) -> None:
    drawn = random.Random(0)
    seeds = [dicom_file(ramp(), syntax) for syntax in LOSSLESS]
    corpus = [seed[: len(seed) * tenth // 10] for seed in seeds for tenth in range(1, 10, 2)]
    for seed in seeds * 8:
        altered = bytearray(seed)
        for _ in range(drawn.randint(1, 8)):
            altered[drawn.randrange(132, len(altered))] = drawn.randrange(256)
        corpus.append(bytes(altered))
    for file in corpus:
        answer = served.client.post("/v1/diagnose", files=images(file))
        if answer.status_code != 200:
            refused(answer, 413, 415, 422)


BODIES: dict[str, tuple[list[bytes], int]] = {
    "one file of 120 MB": ([b'; name="images"; filename="a"\r\n\r\n' + bytes(120 * 10**6)], 413),
    "two files of 60 MB": ([b'; name="images"; filename="a"\r\n\r\n' + bytes(60 * 10**6)] * 2, 415),
    "a request of 120 MB": ([b'; name="request"\r\n\r\n"' + b"a" * 120 * 10**6 + b'"'], 413),
    "a header of 120 MB": ([b'; name="images"; filename="' + b"a" * 120 * 10**6 + b'"\r\n\r\n'], 400),
    "a preamble of 120 MB": ([], 400),
    "100,000 parts": ([b'; name="images"; filename="a"\r\n\r\n'] * 100_000, 413),
    "100,000 requests": ([b'; name="request"\r\n\r\n{}'] * 100_000, 422),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_large_body_is_refused_and_given_back(served: Served, name: str) -> None:
    parts, status = BODIES[name]
    body = b"".join(b"--b\r\nContent-Disposition: form-data" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    if not parts:
        body = b"a" * 120 * 10**6
    highest, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            highest[0] = max(highest[0], served.held())

    watching = threading.Thread(target=watch)
    watching.start()
    response, _ = served.exchange(f"POST /v1/diagnose HTTP/1.1\r\nContent-Type: {BOUNDARY}", body)
    done.set()
    watching.join()
    assert response == status
    assert highest[0] <= served.idle + PEAK


def test_a_body_that_says_it_is_too_large_is_refused_unread(served: Served) -> None:
    head = f"POST /v1/diagnose HTTP/1.1\r\nContent-Type: {BOUNDARY}"
    for length in (128 * MIB + 1, 10**18, 10**30):
        response, sent = served.exchange(head, b"--b\r\n", length=length)
        assert (response, sent) in {(413, 5), (400, 5)}


def test_bodies_that_dribble_are_cut_off_and_keep_nobody_waiting(served: Served) -> None:
    head = (
        f"POST /v1/diagnose HTTP/1.1\r\nHost: x\r\nAuthorization: {served.headers['Authorization']}\r\n"
        f"Content-Type: {BOUNDARY}\r\nContent-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data"
    ).encode()
    slow = [socket.create_connection(("127.0.0.1", served.running.port), timeout=PATIENCE_S) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(head)
        answers_well(served)
        answers = [connection.makefile("rb").readline() for connection in slow]
    finally:
        for connection in slow:
            connection.close()
    assert {int(answer.split()[1]) for answer in answers} == {408}


REQUESTS: dict[str, tuple[str | bytes, int]] = {
    "deep arrays": ("[" * 200_000, 400),
    "deep objects": ('{"notes":' * 100_000, 400),
    "deep and whole": ("[" * 100_000 + "]" * 100_000, 400),
    "NaN": ('{"observations": [{"code": "1988-5", "value": NaN, "unit": "mg/L"}]}', 422),
    "infinity": ('{"observations": [{"code": "1988-5", "value": 1e999, "unit": "mg/L"}]}', 422),
    "a number of many digits": ('{"patient": {"age": ' + "9" * 4000 + "}}", 422),
    "a number of very many digits": ('{"patient": {"age": ' + "9" * 100_000 + "}}", 400),
    "a number of many places": ('{"patient": {"age": 0.' + "9" * 900_000 + "}}", 422),
    "a key twice": ('{"notes": [], "patient": {"age": 1, "age": 67}, "notes": []}', 422),
    "no UTF-8": (b'{"notes": [{"kind": "history", "text": "\xff\xfe"}]}', 400),
    "half a character": ('{"notes": [{"kind": "history", "text": "\\ud800"}]}', 400),
    "UTF-16": ('{"notes": []}'.encode("utf-16"), 400),
    "two documents": ("{}{}", 400),
    "a list": ("[]", 422),
    "null": ("null", 422),
    "nothing": ("", 400),
    "many notes": (json.dumps({"notes": [{"kind": "history", "text": "a"}] * 5000}), 413),
    "many keys": (json.dumps({str(number): 0 for number in range(50_000)}), 422),
    "no text but control characters": (json.dumps({"notes": [{"kind": "history", "text": "\x00\x1b\x07"}]}), 422),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_absurd_json_is_refused(served: Served, name: str) -> None:
    text, status = REQUESTS[name]
    refused(served.client.post("/v1/diagnose", files={"request": (None, text, "application/json")}), status)


@pytest.mark.parametrize(
    "filename", ["../../../../etc/passwd", "C:\\windows\\x", "/dev/stdin", "a%00b", "x" * 3000, "é\u202e"]
)
def test_a_file_s_name_is_not_looked_at(served: Served, filename: str) -> None:
    plain = served.client.post("/v1/diagnose", files=images(DICOM)).json()
    named = served.client.post("/v1/diagnose", files=[("images", (filename, DICOM))])
    assert named.json()["findings"] == plain["findings"]


@pytest.mark.parametrize("place", ["..%2f..%2fetc%2fpasswd", "%00", "a" * 5000, "7C0B3AD0'; DROP TABLE results;--"])
def test_a_result_s_id_is_nothing_but_an_id(served: Served, place: str) -> None:
    refused(served.client.get(f"/v1/results/{place}"), 404, 422)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "application/x-python-pickle", "image/png", "a" * 999]
)
def test_another_kind_of_body_is_refused(served: Served, kind: str) -> None:
    for path in ("/v1/diagnose", "/v1/explain", "/v1/draft", "/v1/similar", "/v1/search", "/v1/diagnose/batch"):
        refused(served.client.post(path, content=pickle.dumps(_Opens()), headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic YTpi", "Bearer a b", "Bearer " + "a" * 20_000, "Bearer eyJhbGciOiJub25lIn0.e30."],
)
def test_a_bad_token_opens_nothing(served: Served, header: str) -> None:
    answer = served.client.post("/v1/diagnose", headers={"Authorization": header}, files=images(DICOM))
    refused(answer, 401)
