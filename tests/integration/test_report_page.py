"""The report in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from consilium.report import report_html
from tests.consilium.tiny_answer import explained_study, explanation

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the Debian package chromium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html(explained_study(), explanation()), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1240, "height": 1400})
        page.complaints = []  # type: ignore[attr-defined]
        page.on("console", lambda message: page.complaints.append(message.text))  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.complaints.append(str(error)))  # type: ignore[attr-defined]
        page.on("request", lambda request: page.complaints.append(request.url) if request.url.startswith("http") else 0)  # type: ignore[attr-defined]
        page.goto(path.as_uri())
        yield page
        browser.close()


def _opacity(page: Page) -> float:
    return float(page.locator(".overlay").first.evaluate("overlay => getComputedStyle(overlay).opacity"))


def test_the_called_finding_is_open_and_tabs_turn_the_page(page: Page) -> None:
    assert page.locator(".panel:not([hidden])").get_attribute("id") == "panel-1"
    page.get_by_role("tab", name="Why: Alpha").click()
    assert page.locator(".panel:not([hidden])").get_attribute("id") == "panel-0"
    page.get_by_role("tab", name="Why: Alpha").press("ArrowRight")
    assert page.locator(".panel:not([hidden])").get_attribute("id") == "panel-1"


def test_the_overlay_can_be_faded_and_taken_off(page: Page) -> None:
    panel = page.locator(".panel:not([hidden])")
    assert _opacity(page) == pytest.approx(0.7)
    panel.locator(".opacity").fill("30")
    assert _opacity(page) == pytest.approx(0.3)
    panel.locator(".toggle").uncheck()
    assert _opacity(page) == 0
    panel.locator(".toggle").check()
    assert _opacity(page) == pytest.approx(0.3)


def test_overlay_and_image_lie_on_each_other(page: Page) -> None:
    below, above = (page.locator(f".panel:not([hidden]) .viewer img:nth-child({n})").bounding_box() for n in (1, 2))
    assert below is not None
    assert below["width"] > 300
    assert below == above


def test_what_was_sent_is_shown_as_text_and_nothing_complains(page: Page) -> None:
    assert "<script>alert(1)</script>" in page.locator(".panel:not([hidden]) .note").inner_text()
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_narrow_window_has_no_sideways_scroll_in_the_findings_below_it(page: Page) -> None:
    page.set_viewport_size({"width": 700, "height": 1000})
    boxes = page.locator(".panel:not([hidden]) .two > *").all()
    lefts = {round(box.bounding_box()["x"]) for box in boxes}  # type: ignore[index]
    assert len(lefts) == 1, "the two columns stand under each other"
