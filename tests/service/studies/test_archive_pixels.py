"""Images that stay in the archive: the words that the model read are shown, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from tests.patience import PATIENCE_S
from tests.service.app.test_routes import Client, png, refused, serve
from tests.service.fakes import FakeModel
from tests.service.studies.test_studies import PATH, ended, film, form, rows, submitted

UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.4.5"}
WADO = "/web/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5"
TOKEN = "secret-of-the-archive"


class Archive:
    """Answers WADO-RS with what `file` holds: a DICOM file, a status, or what to do."""

    def __init__(self) -> None:
        self.file: bytes | int | Callable[[], bytes] = 404
        self.asked: list[tuple[str, str]] = []
        self.url = ""


@contextmanager
def running(archive: Archive) -> Iterator[Archive]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            archive.asked.append((self.path, self.headers.get("Authorization", "")))
            file = archive.file() if callable(archive.file) else archive.file
            status, data = (file, b"") if isinstance(file, int) else (200, multipart(file))
            self.send_response(status)
            self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=b1')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    archive.url = f"http://127.0.0.1:{server.server_address[1]}/web"
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with running(Archive()) as archive:
        yield archive


def multipart(data: bytes) -> bytes:
    return b"--b1\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--b1--\r\n"


def with_archive(archive: Archive, **more: Any) -> dict[str, Any]:
    return {"studies": True, "insecure": True, "studies_pacs_url": archive.url, "studies_pacs_token": TOKEN, **more}


def test_words_are_fetched_from_the_archive_and_not_stored(archive: Archive, embedded_audit_log: Path) -> None:
    sent = film(**UIDS)

    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, [*form(sent), ("images", ("y", png(51)))])
        found = await ended(client, study)
        assert [view.pixels for view in found.images] == ["pacs", "stored"]
        assert kept_words(embedded_audit_log) == {"images[1]"}
        archive.file = film(**UIDS, PatientName="Written^Otherwise", InstitutionName="Elsewhere")
        answer = await client.get(f"{PATH}/{study.study_id}/images/0")
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(np.frombuffer(answer.content, "<u2").reshape(48, 64), ramp())
        assert archive.asked == [(WADO, f"Bearer {TOKEN}")]
        assert (await client.get(f"{PATH}/{study.study_id}/images/1")).status_code == 200
        assert viewed(embedded_audit_log) == ["images[0]", "images[1]"]

    serve(scenario, **with_archive(archive))


def kept_words(home: Path) -> set[str]:
    return {str(one) for row in rows(home, "study_chunks") for one in row if str(one).startswith("images[")}


def viewed(home: Path) -> list[str]:
    return sorted(one for row in rows(home, "study_views") for one in row if str(one).startswith("images["))


def other_pixels() -> bytes:
    return dicom_file(ramp() + np.uint16(1), PatientName="Quill^Zara", PatientID="Zq17", **UIDS)


@pytest.mark.parametrize(
    ("kept", "status", "kind"),
    [
        (404, 404, "not-in-archive"),
        (410, 404, "not-in-archive"),
        (401, 502, "archive-unavailable"),
        (500, 502, "archive-unavailable"),
        (b"no DICOM file", 502, "archive-unavailable"),
        (film(**UIDS)[:-900], 502, "archive-unavailable"),
        (film(**UIDS | {"SOPInstanceUID": "1.2.3.4.6"}), 409, "other-pixels"),
        (other_pixels(), 409, "other-pixels"),
        (film(**UIDS, PatientID="Zq18"), 409, "other-patient"),
    ],
)
def test_what_is_not_the_image_that_the_model_read_is_not_shown(
    archive: Archive, embedded_audit_log: Path, kept: bytes | int, status: int, kind: str
) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film(**UIDS)))
        await ended(client, study)
        archive.file = kept
        problem = refused(await client.get(f"{PATH}/{study.study_id}/images/0"), status)
        assert problem["type"] == f"urn:consilium:problem:{kind}"
        assert not any(secret in str(problem) for secret in ("Zq1", "1.2.3", TOKEN))
        assert viewed(embedded_audit_log) == []

    serve(scenario, **with_archive(archive))


def test_an_archive_that_takes_too_long_or_is_not_there_is_named(archive: Archive) -> None:
    over = threading.Event()

    def late() -> bytes:
        over.wait(PATIENCE_S)
        return film(**UIDS)

    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film(**UIDS)))
        await ended(client, study)
        archive.file = late
        problem = refused(await client.get(f"{PATH}/{study.study_id}/images/0"), 504)
        assert problem["type"] == "urn:consilium:problem:archive-timeout"
        over.set()

    try:
        serve(scenario, **with_archive(archive, studies_pacs_timeout_s=0.3))
    finally:
        over.set()


def test_images_of_a_service_whose_archive_was_taken_away_are_not_shown(archive: Archive) -> None:
    async def stored(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film(**UIDS)))
        await ended(client, study)
        ids.append(study.study_id)

    async def looked_at(client: Client, _: FakeModel) -> None:
        problem = refused(await client.get(f"{PATH}/{ids[0]}/images/0"), 502)
        assert "CONSILIUM_STUDIES_PACS_URL" in problem["detail"]

    ids: list[Any] = []
    serve(stored, **with_archive(archive))
    serve(looked_at, studies=True, insecure=True)


def test_images_in_the_archive_outlast_the_time_of_stored_ones(archive: Archive) -> None:
    archive.file = film(**UIDS)

    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, [*form(film(**UIDS)), ("images", ("y", png(51)))])
        found = await ended(client, study)
        assert [view.pixels for view in found.images] == ["pacs", "expired"]
        assert (await client.get(f"{PATH}/{study.study_id}/images/0")).status_code == 200
        refused(await client.get(f"{PATH}/{study.study_id}/images/1"), 404)

    serve(scenario, **with_archive(archive, studies_pixels_s=1e-6))
