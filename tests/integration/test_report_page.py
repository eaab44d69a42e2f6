"""The report in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page

from consilium.output.report import report_html
from tests.consilium.tiny_answer import eventful_explanation, explained_study, explanation, open_explanation

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page in the states in which a reader may meet it."""
    study = explained_study()
    words = tuple(replace(one, parts={"text": one.parts["text"]}) for one in explanation().findings)
    lone = replace(
        explanation(modalities=("text",), absent=("image", "observations"), out_of_distribution=()),
        findings=words,
        neighbours=(),
    )
    html = {
        "ordinary": report_html(study, explanation()),
        "open": report_html(study, open_explanation()),
        "eventful": report_html(study, eventful_explanation()),
        "text alone": report_html(study.with_parts(image=(), observations=()), lone),
    }
    folder = tmp_path_factory.mktemp("report")
    for name, text in html.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in html}


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path]) -> Iterator[Opened]:
    """Open a page of `pages`; nothing may complain or be fetched while it is open."""
    complaints: list[str] = []
    contexts = []

    def open_page(name: str, width: int = 1240, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 1400}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(pages[name].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _opacity(overlay: Locator) -> float:
    return float(overlay.evaluate("overlay => getComputedStyle(overlay).opacity"))


def _width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


def test_the_called_finding_is_open_and_tabs_turn_the_page(opened: Opened) -> None:
    page = opened("ordinary")
    shown = page.locator(".panel:not([hidden])")
    assert shown.get_attribute("id") == "panel-1"
    alpha, beta = (page.get_by_role("tab", name=f"Why: {name}") for name in ("Alpha", "Beta"))
    alpha.click()
    assert shown.get_attribute("id") == "panel-0"
    assert [tab.get_attribute("tabindex") for tab in (alpha, beta)] == ["0", "-1"]
    alpha.press("ArrowRight")
    assert shown.get_attribute("id") == "panel-1"
    assert [tab.get_attribute("tabindex") for tab in (alpha, beta)] == ["-1", "0"]


def test_evidence_can_be_faded_and_each_side_taken_off(opened: Opened) -> None:
    page = opened("ordinary")
    panel = page.locator(".panel:not([hidden])")
    speaks_for, against = panel.locator(".overlay.for"), panel.locator(".overlay.against")
    assert _opacity(speaks_for) == _opacity(against) == pytest.approx(0.7)
    panel.locator(".opacity").fill("30")
    assert _opacity(speaks_for) == _opacity(against) == pytest.approx(0.3)
    panel.get_by_label("against").uncheck()
    assert (_opacity(speaks_for), _opacity(against)) == (pytest.approx(0.3), 0)
    page.get_by_role("tab", name="Why: Alpha").click()
    assert not page.locator(".panel:not([hidden])").get_by_label("against").is_checked()


def test_evidence_and_image_lie_on_each_other(opened: Opened) -> None:
    images = opened("ordinary").locator(".panel:not([hidden]) .viewer img").all()
    below, *above = (image.bounding_box() for image in images)
    assert below is not None
    assert below["width"] > 300
    assert above == [below, below]


def test_what_was_sent_is_shown_as_text(opened: Opened) -> None:
    note = opened("ordinary").locator(".panel:not([hidden]) .note").first
    assert "<script>alert(1)</script>" in note.inner_text()


def test_marks_stand_where_the_numbers_say(opened: Opened) -> None:
    row = opened("ordinary").locator(".findings tbody tr").nth(1)  # 71 %, 62 % to 83 %, called from 30 %
    track = row.locator(".track").bounding_box()
    assert track is not None

    def share(selector: str, side: float = 0.5) -> float:
        box = row.locator(selector).first.bounding_box()
        assert box is not None
        return (box["x"] + side * box["width"] - track["x"]) / track["width"]

    assert share(".mark") == pytest.approx(0.71, abs=0.01)
    assert share(".flag") == pytest.approx(0.30, abs=0.01)
    assert share(".band", 0) == pytest.approx(0.62, abs=0.01)
    assert share(".band", 1) == pytest.approx(0.83, abs=0.01)


def _look(page: Page, selector: str, position: int = 0) -> tuple[float, int]:
    style = (
        page.locator(selector)
        .nth(position)
        .evaluate("e => [getComputedStyle(e).fontSize, getComputedStyle(e).fontWeight]")
    )
    return float(style[0].removesuffix("px")), int(style[1])


def test_an_undecided_finding_is_subordinate(opened: Opened) -> None:
    page = opened("open")
    (size, weight), (open_size, open_weight) = (_look(page, ".findings .big", row) for row in (0, 1))
    assert open_size < size
    assert open_weight < weight


def test_a_referred_studys_probabilities_are_subordinate(opened: Opened) -> None:
    plain, referred = opened("ordinary"), opened("eventful")
    size, weight = _look(plain, ".findings .big")
    referred_size, referred_weight = _look(referred, ".findings .big")
    assert referred_size < size
    assert referred_weight < weight
    assert _look(referred, "#refer")[0] > referred_size
    banner, figures = (referred.locator(one).first.bounding_box() for one in ("#refer", ".findings"))
    assert banner is not None
    assert figures is not None
    assert banner["y"] < figures["y"]


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("ordinary", "light"), ("open", "light"), ("eventful", "light"), ("eventful", "dark"), ("text alone", "dark")],
)
def test_no_rule_of_accessibility_is_broken(opened: Opened, name: str, scheme: str) -> None:
    found = Axe().run(opened(name, scheme=scheme))
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 700, 1240])
@pytest.mark.parametrize("name", ["ordinary", "eventful", "text alone"])
def test_no_window_scrolls_sideways(opened: Opened, name: str, width: int) -> None:
    assert _width(opened(name, width)) <= width


def test_in_a_narrow_window_the_columns_stand_under_each_other(opened: Opened) -> None:
    boxes = opened("ordinary", 700).locator(".panel:not([hidden]) .two > *").all()
    assert len({round(box.bounding_box()["x"]) for box in boxes}) == 1  # type: ignore[index]


def test_paper_is_light_and_shows_every_finding(opened: Opened) -> None:
    page = opened("eventful", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    ink, panels = page.evaluate(
        "[getComputedStyle(document.body).color, [...document.querySelectorAll('.panel')].map(p => p.offsetHeight)]"
    )
    assert ink == "rgb(27, 39, 51)"
    assert min(panels) > 100
    assert page.locator(".tabs").is_hidden()
