"""The page's files: their policy, how they are kept and compressed, and places that hold behind a prefix."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx
import pytest

from service.page import page as page_module
from service.page import static_files
from tests.service.page.harness import kind, serve

INDEX = b'<!doctype html><script type="module" src="./assets/index-1a2b.js"></script>'
SCRIPT = b"const answer = 42;\n" * 100
STUDY = "/read/studies/7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1"


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(INDEX)
    (folder / "favicon.svg").write_bytes(b"<svg/>")
    (folder / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    (folder / "assets" / "mark.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(page_module, "read_files", lambda: static_files.read_files(folder))
    return folder


def test_every_path_of_the_page_is_the_one_document_before_anybody_signs_in() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for path in ("/read/", "/read/new", "/read/model", "/read/operations", "/read/login"):
            answer = await client.get(path)
            assert (answer.status_code, answer.content) == (200, INDEX), path
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["cache-control"] == "no-cache"
        deeper = await client.get(STUDY)
        assert deeper.content == INDEX.replace(b"./assets", b"../assets")
        script = deeper.url.join("../assets/index-1a2b.js")
        assert (await client.get(script)).content == SCRIPT

    serve(scenario, insecure=True)


def test_the_page_runs_under_its_policy_and_in_nobody_s_frame() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for path in ("/read/", STUDY, "/read/assets/index-1a2b.js", "/read/favicon.svg"):
            sent = (await client.get(path)).headers
            policy = dict(part.split(" ", 1) for part in sent["content-security-policy"].split("; "))
            assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["require-trusted-types-for"] == "'script'"
            assert "unsafe" not in sent["content-security-policy"]
            assert sent["x-frame-options"] == "DENY"
            assert sent["referrer-policy"] == "no-referrer"
            assert sent["x-content-type-options"] == "nosniff"
            assert sent["cross-origin-opener-policy"] == sent["cross-origin-resource-policy"] == "same-origin"

    serve(scenario, insecure=True)


def test_files_with_a_digest_in_their_names_are_kept_and_others_asked_for_again() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        asset = await client.get("/read/assets/index-1a2b.js")
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert asset.headers["content-type"] == "text/javascript; charset=utf-8"
        document = await client.get("/read/")
        again = await client.get("/read/", headers={"If-None-Match": document.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", document.headers["etag"])
        assert "content-security-policy" in again.headers
        other = await client.get("/read/", headers={"If-None-Match": '"x", "y"'})
        assert (other.status_code, other.content) == (200, INDEX)

    serve(scenario, insecure=True)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip, deflate, br", True), ("*", True), ("gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_text_is_compressed_for_who_takes_it(accepted: str, packed: bool) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        url = "/read/assets/index-1a2b.js"
        async with client.stream("GET", url, headers={"Accept-Encoding": accepted}) as answer:
            raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
        assert (gzip.decompress(raw) if packed else raw) == SCRIPT
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert int(answer.headers["content-length"]) == len(raw)
        picture = await client.get("/read/assets/mark.png", headers={"Accept-Encoding": "gzip"})
        assert ("content-encoding" in picture.headers, picture.headers["content-type"]) == (False, "image/png")

    serve(scenario, insecure=True)


@pytest.mark.parametrize(
    "path",
    [
        "/read/assets/none.js",
        "/read/none",
        "/read/index.html",
        "/read/assets/..%2findex.html",
        "/read/..%2f..%2fpage.py",
        "/read/assets/%2e%2e%2f%2e%2e%2fpage.py",
        "/read/studies/a/b",
    ],
)
def test_nothing_beside_the_built_files_is_sent(path: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(path)
        assert (answer.status_code, kind(answer)) == (404, "not-found")

    serve(scenario, insecure=True)


@pytest.mark.parametrize(
    ("path", "to_root"), [("/read/nonsense", b"./"), ("/read/x/y", b"../"), ("/read/assets/no.js", b"../")]
)
def test_a_person_who_follows_a_wrong_link_gets_the_page_which_says_so(path: str, to_root: bytes) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        answer = await client.get(path, headers=accept)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert answer.content == INDEX.replace(b"./", to_root)
        assert "content-security-policy" in answer.headers
        again = await client.get(path, headers=accept | {"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 404

    serve(scenario, insecure=True)


def test_head_says_what_get_would_send() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        got, head = await client.get("/read/favicon.svg"), await client.head("/read/favicon.svg")
        assert (head.status_code, head.headers["etag"]) == (200, got.headers["etag"])

    serve(scenario, insecure=True)


def test_an_installation_without_the_built_page_says_so(built: Path) -> None:
    (built / "index.html").unlink()

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get("/read/")
        assert (answer.status_code, kind(answer)) == (404, "not-found")
        assert "make web" in answer.json()["detail"]
        assert (await client.get("/read/session")).status_code == 200

    serve(scenario, insecure=True)
