"""Pictures of the reading page for the documentation: ``python scripts/page_pictures.py MODEL``.

Makes phantoms, starts the service with a model of phantoms, hands their studies over, one of them cut short, and takes
each page in the states that readers meet. `make demo` registers such a model:
``models:/consilium-phantom-demo@champion``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from consilium.cli import main as consilium
from service.app.launch import RunningService
from service.auth.api_keys import create_key
from service.scopes import Scope

DOCS = Path(__file__).resolve().parents[1] / "docs" / "page"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
COLOURS = 128
_PATIENCE_S = 120
Row = dict[str, str]
KINDS = ("history", "indication")
SENT = ("code", "value", "unit", "time")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
)
_WIDE, _NARROW = (1500, 900), (320, 700)


def main() -> int:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("model", help="a model folder, or a models:/ address")
    parser.add_argument("--out", type=Path, default=DOCS)
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("needs the Debian package chromium", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["CONSILIUM_HOME"] = folder
        cohort = Path(folder) / "cohort"
        made = ["--studies", "4", "--studies-per-patient", "2", "--seed", "20", "--size", "1024"]
        consilium(["phantom", str(cohort), *made])
        with RunningService(given.model, {"studies": True, "insecure": True}) as running:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            _pictures(browser, running.url, _send(running.url, cohort), given.out)
            browser.close()
        _sessions_picture(playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS), given, Path(folder))
    return 0


def _sessions_picture(browser: Browser, given: argparse.Namespace, folder: Path) -> None:
    """Sessions, which there are where people sign in: what an admin sees of two readers and of themselves."""
    keys = folder / "keys.json"
    reading = [Scope.READ, Scope.DIAGNOSE]
    readers = [create_key(keys, name, reading, ["chest"])[1] for name in ("Dr Weber", "Dr House")]
    admin = create_key(keys, "admin", list(Scope))[1]
    with RunningService(given.model, {"studies": True, "keys": keys}) as running:
        for agent, token in zip(_AGENTS, (readers[0], *readers), strict=True):
            with httpx.Client(base_url=running.url, headers={"User-Agent": agent, "Origin": running.url}) as client:
                client.post("/read/session", json={"api_key": token}).raise_for_status()

        def sign_in(page: Page) -> None:
            page.get_by_label("API key").fill(admin)
            page.get_by_role("button", name="Sign in with the key").click()
            page.get_by_role("button", name="End all sessions of").wait_for()

        _take(browser, f"{running.url}/read/sessions", (sign_in,), given.out / "sessions.png", _WIDE)
    browser.close()


def _send(url: str, cohort: Path) -> dict[str, str]:
    """Studies of the cohort by what they are here for; each is answered or refused."""
    rows = sorted(csv.DictReader((cohort / "studies.csv").open(encoding="utf-8")), key=lambda row: row["patient"])
    prior, latest = sorted(rows[:2], key=lambda row: row["reference_time"])
    values = list(csv.DictReader((cohort / "observations.csv").open(encoding="utf-8")))
    with httpx.Client(base_url=url, timeout=_PATIENCE_S) as client:
        sent = {
            "prior": _post(client, cohort, prior, values),
            "words": _post(client, cohort, rows[2], values, files=0),
            "broken": _post(client, cohort, rows[3], values, cut=True),
            "ordinary": _post(client, cohort, latest, values),
        }
        for study in sent.values():
            _wait(client, study)
    return sent


def _post(
    client: httpx.Client,
    cohort: Path,
    row: dict[str, str],
    values: list[dict[str, str]],
    files: int = 1,
    cut: bool = False,
) -> str:
    data = (cohort / row["images"].split(";")[0]).read_bytes()
    sent = [("images", ("film.dcm", data[: len(data) // 2] if cut else data, "application/dicom"))] * files
    request = ("request", (None, json.dumps(_request(row, values)), "application/json"))
    answer = client.post("/v1/studies", files=[*sent, request])
    answer.raise_for_status()
    return str(answer.json()["study_id"])


def _request(row: Row, values: list[Row]) -> dict[str, Any]:
    return {
        "notes": [{"kind": kind, "text": row[f"note_{kind}"]} for kind in KINDS if row.get(f"note_{kind}")],
        "observations": [{name: one[name] for name in SENT} for one in values if one["study"] == row["study"]],
        "patient": {"age": float(row["age"]), "sex": row["sex"]},
        "reference_time": row["reference_time"],
    }


def _wait(client: httpx.Client, study: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while client.get(f"/v1/studies/{study}").json()["state"] in {"queued", "running"}:
        if time.monotonic() > until:
            raise TimeoutError(f"study {study} was not answered within {_PATIENCE_S} s")
        time.sleep(0.5)


def _pictures(browser: Browser, url: str, studies: dict[str, str], out: Path) -> None:
    def study(name: str, *steps: Callable[[Page], None]) -> tuple[str, tuple[Callable[[Page], None], ...]]:
        return f"studies/{studies[name]}", steps

    taken = {
        "worklist": ("", ()),
        "new": ("new", (_note,)),
        "first-read": study("ordinary"),
        "answer": study("ordinary", _read, _overlay),
        "compare": study("ordinary", _compare, _measure),
        "no-image": study("words", _read),
        "refused": study("broken"),
        "model": ("model", ()),
        "operations": ("operations", ()),
    }
    for name, (place, steps) in taken.items():
        _take(browser, f"{url}/read/{place}", steps, out / f"{name}.png", _WIDE)
    _take(browser, f"{url}/read/", (), out / "worklist-light.png", _WIDE, theme="light")
    _take(browser, f"{url}/read/{study('ordinary')[0]}", (_overlay,), out / "answer-light.png", _WIDE, theme="light")
    _take(browser, f"{url}/read/{study('ordinary')[0]}", (), out / "answer-narrow.png", _NARROW)


def _take(
    browser: Browser,
    address: str,
    steps: tuple[Callable[[Page], None], ...],
    path: Path,
    size: tuple[int, int],
    theme: str = "dark",
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="en-GB", timezone_id="UTC")
    stored = json.dumps(json.dumps({"theme": theme}))
    context.add_init_script(f"localStorage.setItem('consilium.preferences', {stored})")
    page = context.new_page()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    for step in steps:
        step(page)
    page.wait_for_timeout(400)
    # A palette halves the file, and greys lose nothing that a reader of the documentation would see.
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    context.close()


def _note(page: Page) -> None:
    page.get_by_role("button", name="Add a note").click()
    page.get_by_label("Text").fill("Fever and productive cough for three days.")
    page.get_by_role("button", name="Add a value").click()


def _read(page: Page) -> None:
    for key in ("q", "y", "w", "n", "e", "n", "r", "u"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Record the first read").click()
    page.locator("#findings").wait_for()


def _compare(page: Page) -> None:
    page.get_by_role("button", name="Compare with").click()
    page.get_by_text("Prior study").wait_for()


def _measure(page: Page) -> None:
    page.get_by_role("button", name="Length").first.click()
    stage = page.locator(".stage").first.bounding_box()
    assert stage is not None
    for across in (0.3, 0.7):
        page.mouse.click(stage["x"] + across * stage["width"], stage["y"] + 0.6 * stage["height"])


def _overlay(page: Page) -> None:
    page.keyboard.press("o")


if __name__ == "__main__":
    raise SystemExit(main())
