"""The reading page in a real browser, under the policy that the service sends: any complaint of the browser fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from service.app.launch import RunningService, free_port
from service.auth.api_keys import create_key
from service.scopes import Scope
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from tests.patience import PATIENCE_S
from tests.service.auth.issuer import AUDIENCE, CLIENT, Issuer, rsa_key

PATIENCE_MS = 1000 * PATIENCE_S
HOSTILE = "<img src=x onerror=window.owned=1>"
SCRIPT = "<script>window.owned=1</script> fever and cough"
Opened = Callable[..., Page]
_SHOWN = """canvas => {
  if (!canvas.width || !canvas.height) return false;
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value, at) => at % 4 !== 3 && value > 0);
}"""
"""Whether anything but black is on a canvas."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def tokens(keys: Path) -> dict[str, str]:
    reading = [Scope.READ, Scope.DIAGNOSE]
    return {
        "chest": create_key(keys, "Dr House", reading, ["chest"])[1],
        "bones": create_key(keys, "Dr Wilson", reading, ["bones"])[1],
        "alone": create_key(keys, "Dr Alone", reading, ["alone"])[1],
        "admin": create_key(keys, "admin", list(Scope))[1],
    }


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(first=rsa_key()) as issuer:
        issuer.person["groups"] = ["chest"]
        yield issuer


@pytest.fixture(scope="module")
def service(tiny_folder: Path, keys: Path, tokens: dict[str, str], issuer: Issuer) -> Iterator[RunningService]:
    assert tokens
    port = free_port()
    settings = {
        "studies": True,
        "keys": keys,
        "model_threads": 1,
        "page_url": f"http://127.0.0.1:{port}",
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_client_id": CLIENT,
        "oidc_groups_claim": "groups",
        "sign_ins_per_minute": 1000,
    }
    with RunningService(tiny_folder, settings, port=port) as running:
        yield running


@pytest.fixture
def opened(browser: Browser, service: RunningService) -> Iterator[Opened]:
    """Open a path of the page in a browser of its own; what the browser complains of is `expected`, or a failure."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(path: str = "", expected: str = r"(?!)") -> Page:
        context = browser.new_context(locale="en-GB", viewport={"width": 1500, "height": 1000})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()

        def note(text: str) -> None:
            if not re.search(expected, text):
                complaints.append(text)

        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("dialog", lambda dialog: note(f"a dialog: {dialog.message}"))
        page.goto(f"{service.url}/read/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def admin(service: RunningService, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    bearer = {"Authorization": f"Bearer {tokens['admin']}"}
    with httpx.Client(base_url=service.url, headers=bearer, timeout=PATIENCE_S) as client:
        yield client


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("API key").fill(token)
    page.get_by_role("button", name="Sign in with the key").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible(timeout=PATIENCE_MS)


def send(page: Page, *files: bytes, note: str | None = None) -> str:
    """Send a study by the page; its id."""
    page.get_by_role("link", name="New study").first.click()
    chosen = [{"name": f"{n}.dcm", "mimeType": "application/dicom", "buffer": file} for n, file in enumerate(files)]
    page.locator("input[type=file]").first.set_input_files(chosen)
    if note is not None:
        page.get_by_role("button", name="Add a note").click()
        page.get_by_label("Text").fill(note)
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_url(re.compile(r"/read/studies/[0-9a-f-]{36}$"), timeout=PATIENCE_MS)
    return page.url.rpartition("/")[2]


def shows_an_image(page: Page) -> bool:
    return any(canvas.evaluate(_SHOWN) for canvas in page.locator("canvas.image").all())


def wait_for_image(page: Page) -> None:
    expect(page.locator(".corner.top-left").first).to_be_visible(timeout=PATIENCE_MS)
    assert shows_an_image(page)


def patient(name: str) -> bytes:
    return dicom_file(ramp(), PatientName=f"{name}^Test", PatientID=name)


def test_a_reader_signs_in_sends_reads_reveals_and_revises(
    opened: Opened, tokens: dict[str, str], admin: httpx.Client
) -> None:
    page = opened()
    sign_in(page, tokens["chest"])
    expect(page.get_by_text("Dr House")).to_be_visible()
    study = send(page, patient("A"), note="fever and productive cough")
    record = page.get_by_role("button", name="Record the first read")
    expect(record).to_be_visible(timeout=PATIENCE_MS)
    wait_for_image(page)
    assert admin.get(f"/v1/studies/{study}").json()["reading"]["first_read"] is None
    assert page.get_by_role("button", name="Show the model’s answer").count() == 0
    reasons = admin.get(f"/v1/studies/{study}").json()["refer_reasons"]
    assert reasons, "a ramp is no radiograph"
    expect(page.get_by_role("heading", name="Assess this study without the model")).to_be_visible()
    for reason in reasons:
        expect(page.get_by_text(reason, exact=True)).to_be_visible()

    page.keyboard.press("q")
    page.keyboard.press("y")
    present = page.get_by_role("radio", name="Present", exact=True).first
    expect(present).to_be_checked()
    page.keyboard.press("Backspace")
    expect(present).not_to_be_checked()
    page.keyboard.press("q")
    page.keyboard.press("n")
    record.click()
    expect(page.locator("#findings")).to_be_visible(timeout=PATIENCE_MS)

    page.get_by_role("button", name="Revise").click()
    page.get_by_role("radio", name="Present", exact=True).first.check(force=True)
    page.get_by_role("button", name="Record the revised read").click()
    expect(page.get_by_role("button", name="Record the revised read")).to_have_count(0)
    reads = [json.loads(line) for line in admin.get("/v1/reads").text.splitlines()]
    mine = [read for read in reads if read.get("study_id") == study]
    assert [(read["kind"], read["influenced"]) for read in mine] == [("first", False), ("revised", True)]
    assert [next(iter(read["findings"].values())) for read in mine] == ["absent", "present"]


def test_a_reader_signs_in_at_the_issuer_and_out_again(opened: Opened, issuer: Issuer) -> None:
    page = opened()
    page.get_by_role("link", name="Sign in with your hospital account").click()
    expect(page.get_by_text("Gregory House")).to_be_visible(timeout=PATIENCE_MS)
    assert "code=" not in page.url
    assert issuer.asked["code_challenge_method"] == "S256"
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])").count("eyJ") == 0
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible(timeout=PATIENCE_MS)


def test_a_wrong_key_is_refused_in_words(opened: Opened) -> None:
    page = opened(expected="status of 401")
    page.get_by_label("API key").fill("csl_000000000000_" + "0" * 64)
    page.get_by_role("button", name="Sign in with the key").click()
    expect(page.get_by_role("alert")).to_contain_text("This key is not valid")


def test_of_two_patients_in_a_row_the_refused_one_shows_no_image_at_all(opened: Opened, tokens: dict[str, str]) -> None:
    page = opened(expected="status of 4")
    sign_in(page, tokens["chest"])
    send(page, patient("First"))
    wait_for_image(page)
    whole = dicom_file(ramp(), PatientName="Second^Test", PatientID="Second")
    send(page, whole[: len(whole) * 2 // 3])
    expect(page.get_by_role("heading", name="Refused")).to_be_visible(timeout=PATIENCE_MS)
    assert not shows_an_image(page)
    assert "First" not in page.locator("main").inner_text()


def test_tags_and_notes_that_hold_markup_are_text(opened: Opened, tokens: dict[str, str]) -> None:
    page = opened()
    sign_in(page, tokens["chest"])
    send(page, dicom_file(ramp(), PatientID=HOSTILE, PatientName=HOSTILE), note=SCRIPT)
    wait_for_image(page)
    expect(page.locator("h1")).to_contain_text("onerror=window.owned=1")
    page.get_by_role("link", name="Worklist").first.click()
    expect(page.get_by_text("onerror=window.owned=1").first).to_be_visible(timeout=PATIENCE_MS)
    assert page.evaluate("window.owned") is None
    assert page.locator("main img, main script").count() == 0


def test_a_wrong_link_leads_to_the_page_which_says_so(opened: Opened, tokens: dict[str, str]) -> None:
    for path in ("nonsense", "nonsense/below"):
        page = opened(path, expected="404")
        sign_in(page, tokens["chest"])
        expect(page.get_by_text("no such page")).to_be_visible()
        page.get_by_role("link", name="worklist").last.click()
        expect(page.get_by_role("heading", name="Worklist")).to_be_visible()


def test_a_study_of_another_group_is_not_there(opened: Opened, tokens: dict[str, str]) -> None:
    page = opened()
    sign_in(page, tokens["chest"])
    study = send(page, patient("Chest"))
    other = opened(f"studies/{study}", expected="status of 404")
    sign_in(other, tokens["bones"])
    expect(other.get_by_role("heading", name="There is no such study")).to_be_visible(timeout=PATIENCE_MS)
    other.get_by_role("link", name="Worklist").first.click()
    expect(other.get_by_text("No study yet.")).to_be_visible(timeout=PATIENCE_MS)
    assert not shows_an_image(other)


def test_a_session_that_was_ended_asks_to_sign_in_in_place_and_keeps_the_draft(
    opened: Opened, tokens: dict[str, str], admin: httpx.Client
) -> None:
    page = opened("new", expected="status of 401")
    sign_in(page, tokens["chest"])
    page.get_by_role("button", name="Add a note").click()
    page.get_by_label("Text").fill("a draft")
    for session in admin.get("/v1/sessions").json()["sessions"]:
        assert admin.delete(f"/v1/sessions/{session['session_id']}").status_code == 204
    page.get_by_role("button", name="Send", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="The session has ended")).to_be_visible(timeout=PATIENCE_MS)
    dialog.get_by_label("API key").fill(tokens["chest"])
    dialog.get_by_role("button", name="Sign in with the key").click()
    page.wait_for_url(re.compile(r"/read/studies/[0-9a-f-]{36}$"), timeout=PATIENCE_MS)


def test_a_reader_sees_where_else_he_is_signed_in_and_ends_it(opened: Opened, tokens: dict[str, str]) -> None:
    page, other = opened(), opened("new", expected="status of 401")
    for one in (page, other):
        sign_in(one, tokens["alone"])
    other.get_by_role("button", name="Add a note").click()
    other.get_by_label("Text").fill("a draft")
    page.get_by_role("link", name="Dr Alone").click()
    expect(page).to_have_title("Sessions · Consilium")
    lines = page.locator("tbody tr")
    expect(lines).to_have_count(2)
    expect(lines.nth(0)).to_contain_text("Chrome, Linux")
    expect(lines.nth(1)).to_contain_text("This session")
    page.get_by_role("button", name="End the session in Chrome, Linux").press("Enter")
    expect(lines).to_have_count(1)
    expect(page.get_by_role("status").filter(has_text="Ended.")).to_be_attached()
    other.get_by_role("button", name="Send", exact=True).click()
    expect(other.get_by_role("heading", name="The session has ended")).to_be_visible(timeout=PATIENCE_MS)


def test_an_admin_ends_the_session_of_another_reader(opened: Opened, tokens: dict[str, str]) -> None:
    page, other = opened("sessions"), opened(expected="status of 401")
    sign_in(opened(), tokens["alone"])
    sign_in(other, tokens["alone"])
    sign_in(page, tokens["admin"])
    expect(page.get_by_role("heading", name="Sessions of other readers")).to_be_visible()
    lines = page.locator("table").last.locator("tbody tr")
    before, mine = lines.count(), lines.first.locator("th").inner_text()
    of_reader = lines.filter(has_text=mine.splitlines()[0]).count()
    assert of_reader >= 2
    page.get_by_role("button", name="End all sessions of").first.click()
    expect(page.get_by_role("status").filter(has_text="Ended.")).to_be_attached()
    expect(page.get_by_role("button", name="End the session")).to_have_count(before - of_reader)
    ends = page.get_by_role("button", name="End the session")
    for count in range(ends.count(), 0, -1):
        ends.first.click()
        expect(ends).to_have_count(count - 1)
    expect(page.get_by_role("heading", name="Sessions of other readers")).to_be_hidden()
    other.get_by_role("link", name="New study").first.click()
    expect(other.get_by_role("heading", name="The session has ended")).to_be_visible(timeout=PATIENCE_MS)


def test_nobody_frames_the_page(opened: Opened, service: RunningService, issuer: Issuer) -> None:
    page = opened(expected="frame|ERR_BLOCKED_BY_RESPONSE|favicon|status of 500")
    page.goto(f"{issuer.url}/keys")
    page.evaluate("url => {document.body.innerHTML = `<iframe src='${url}'></iframe>`}", f"{service.url}/read/")
    page.wait_for_timeout(500)
    (frame,) = (frame for frame in page.frames if frame is not page.main_frame)
    assert frame.locator("#app").count() == 0


def test_a_session_outlives_a_restart_of_the_service(
    opened: Opened, service: RunningService, tokens: dict[str, str]
) -> None:
    page = opened(expected="ERR_CONNECTION|status of 503|Failed to load resource|Failed to fetch")
    sign_in(page, tokens["chest"])
    study = send(page, patient("Stays"))
    wait_for_image(page)
    service.__exit__(None, None, None)
    page.get_by_role("link", name="Worklist").first.click()
    expect(page.get_by_text("No connection to the service").first).to_be_visible(timeout=PATIENCE_MS)
    service.__enter__()
    expect(page.get_by_text("No connection to the service")).to_have_count(0, timeout=PATIENCE_MS)
    page.goto(f"{service.url}/read/studies/{study}")
    wait_for_image(page)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
