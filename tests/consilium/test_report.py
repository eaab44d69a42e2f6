import re

import numpy as np
import pytest
from rich.console import Console

from consilium.report import AGAINST, FOR, overlay_rgba, report_html
from consilium.terminal import explanation_tables
from tests.consilium.tiny_answer import explained_study, explanation


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(explained_study(), explanation())


def test_the_page_says_what_it_says_and_what_it_is_not(page: str) -> None:
    for expected in ("71 %", "12 %", "Not a certified medical device", "view position unknown", "absent: Values"):
        assert expected in page
    assert "C-reactive protein" in page
    assert "120 mg/L" in page  # converted beside what was sent
    assert "high" in page


def test_what_was_sent_cannot_become_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_nothing_is_fetched(page: str) -> None:
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page


def test_words_are_coloured_by_what_they_spoke_for(page: str) -> None:
    marks = dict(re.findall(r"<mark title=\"([^\"]+)\"[^>]*>(\w+)</mark>", page))
    assert marks == {"+0.80": "fever", "−0.40": "cough"}


def test_the_tab_of_the_called_finding_is_open(page: str) -> None:
    tabs = re.findall(r'aria-selected="(true|false)">Why: (\w+)', page)
    assert tabs == [("false", "Alpha"), ("true", "Beta")]


def test_overlay_is_signed_and_transparent_where_nothing_is_known() -> None:
    rgba = overlay_rgba(np.array([[2.0, -1.0, 0.0, np.nan]], np.float32), 2.0)
    assert tuple(rgba[0, 0, :3]) == FOR
    assert tuple(rgba[0, 1, :3]) == AGAINST
    assert rgba[0, 0, 3] == 2 * rgba[0, 1, 3]
    assert rgba[0, 2:, 3].tolist() == [0, 0]
    assert not overlay_rgba(np.zeros((2, 2), np.float32), 0.0)[..., 3].any()


def test_the_terminal_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=140).print(explanation_tables(explanation()))
    shown = capsys.readouterr().out
    for expected in (
        "consilium-x version 3",
        "0.71",
        "yes (from 0.30)",
        "absent: values",
        "fever +0.80",
        "cough -0.40",
    ):
        assert expected in shown
