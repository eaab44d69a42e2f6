"""The model card."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from consilium.artifacts.manifest import CARD_FILES
from consilium.configuration.recipe import CalibrationRecipe, Recipe
from consilium.domain.diagnosis import AuditVerdict
from consilium.domain.variables import Code, Kind, Variable
from consilium.modalities.weight_source import WeightSource
from service.app.routes import PAGE_HEADERS
from tests.training.simulated import FINDINGS, simulate
from training.card.card import Facts, card
from training.card.card_tables import variable_table
from training.card.card_writing import Section, Words, crossed_table, frame_table, markdown
from training.evaluation.evaluate import calibrate, evaluate
from training.evaluation.rows import AS_PRESENT, alone, fused
from training.evaluation.selective import Doubts, selective_tables
from training.evaluation.subgroups import subgroup_tables

STUDIES = 300
HOSTILE = (
    '<script>alert(1)</script> | [a](javascript:alert(2)) ![b](http://x.test/p.png)\n# Title\n\n*bold* `code` & "q"'
)
REASONS = ("Pneumonia can be predicted from its source: AUROC 0.92.", "The same image stands under two patients.")
SENTENCES = {"out_of_distribution": "notices inputs out of distribution", "faithfulness": "explanations are faithful"}


class _Html(HTMLParser):
    """Tags in order, text, and the cells of each table's rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self._in_cell = tag in {"td", "th"}
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif self._in_cell:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag) -> None:
        self._in_cell = self._in_cell and tag not in {"td", "th"}

    def handle_data(self, data) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.text += data
        if self._in_cell:
            self.tables[-1][-1][-1] += data


MODALITIES = {"image": {}, "text": {}, "observations": {}}


def _markdown_tables(text: str) -> list[list[list[str]]]:
    blocks = [part.splitlines() for part in text.split("\n\n") if part.startswith("| ")]
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block] for block in blocks]


@pytest.fixture(scope="module")
def plain() -> Facts:
    """Nothing but what every run has."""
    predictions, oracle = simulate(STUDIES, 7)
    predictions = replace(
        predictions,
        study_ids=np.array([f"study-{n}" for n in range(STUDIES)]),
        patient_ids=np.array([f"patient-{n // 2}" for n in range(STUDIES)]),
    )
    oracle = replace(oracle, study_ids=np.array([str(name).replace("7-", "study-") for name in oracle.study_ids]))
    calibration = calibrate(simulate(400, 100)[0], FINDINGS, CalibrationRecipe(), bootstrap=10, seed=1)
    coin = {"coin": np.random.default_rng(1).random(predictions.labels.shape)}
    evaluated = evaluate(predictions, calibration, FINDINGS, oracle=oracle, baselines=coin, bootstrap=20, seed=2)
    return Facts(
        recipe=Recipe(
            name="tiny", description="A model of tests.", modalities={"image": {}, "text": {}, "observations": {}}
        ),
        evaluation=evaluated,
        audit=AuditVerdict("sound"),
        cohort={"name": "made_up", "digest": "abc" * 20, "task": ""},
        studies={"train": 5000, "test": STUDIES},
        calibration={"method": "vector"},
        origin={"git_commit": "0123abc", "run_id": "f00"},
        parameters={"image": {"trained": 4160, "all": 1234567}, "fused": {"trained": 99, "all": 99}},
    )


@pytest.fixture(scope="module")
def full(plain: Facts) -> Facts:
    """Every table that the card knows, a suspect cohort, and text that would be markup."""
    rng = np.random.default_rng(5)
    groups = {
        "sex": rng.choice(["female", "male"], STUDIES),
        "source": np.where(np.arange(STUDIES) < 3, "tiny site", rng.choice([HOSTILE, "a_b c"], STUDIES)),
    }
    evaluated = {
        "n": 50,
        "auroc": 0.97,
        "auroc_low": 0.95,
        "auroc_high": 0.99,
        "fpr95": 0.04,
        "flagged": 0.9,
        "absent": 0.0,
    }
    unusual = [{"kind": "rotated_90", "part": part, "distance": "far", **evaluated} for part in ("image", "fused")] + [
        {"kind": "ordinary", "part": "image", "distance": "ordinary", "n": 50, "flagged": 0.0123}
    ]
    more = {
        "out_of_distribution": pd.DataFrame(unusual),
        "faithfulness": pd.DataFrame([{"method": "layer_cam", "pointing_game": 0.00012, "chosen": True}]),
        "shifts": pd.DataFrame([{"shift": "held_out_phrases", "n": 1000, "auroc": 0.875}]),
    }
    sets = rng.random((STUDIES, len(FINDINGS), 2)) < 0.8
    more |= selective_tables(
        plain.evaluation,
        plain.recipe.refer,
        Doubts(sets, {}, dict.fromkeys(("image_quality", "contradictions", "unknown_origin"), np.zeros(STUDIES, bool))),
        np.ones((STUDIES, 3), bool),
        bootstrap=10,
        seed=1,
    )
    found = subgroup_tables(plain.evaluation, groups, bootstrap=10, seed=1)
    return replace(
        plain,
        recipe=Recipe(name="tiny", description=HOSTILE, modalities=MODALITIES),
        evaluation=replace(plain.evaluation, tables=plain.evaluation.tables | found | more),
        audit=AuditVerdict("suspect", REASONS),
        audit_tables={"shortcuts": pd.DataFrame([{"finding": "pneumonia", "group": HOSTILE, "suspect": True}])},
    )


@pytest.fixture(scope="module")
def cards(plain: Facts, full: Facts) -> dict[str, dict[str, str]]:
    return {"plain": card(plain), "full": card(full)}


def test_pretrained_weights_are_named_with_licence_and_digest(plain: Facts):
    source = WeightSource(architecture="dinov2", source="owner/name", sha256="5d1e" * 16, licence="other-terms")
    text = card(replace(plain, weights={"image": (source,)}))["card.md"]
    assert "| Image | dinov2 | owner/name | other-terms | " + "5d1e" * 16 in text
    assert "Which weights it began from" not in card(plain)["card.md"]


def test_the_files_are_those_of_an_artifact(cards) -> None:
    for files in cards.values():
        assert set(files) == set(CARD_FILES)


def test_the_same_facts_give_the_same_bytes(full, cards) -> None:
    assert card(full) == cards["full"]


def test_what_was_measured_stands_in_both_files(plain, cards) -> None:
    where = {"row": AS_PRESENT, "finding": "effusion"}
    value, low, high = (plain.evaluation.value("metrics", f"auroc{end}", **where) for end in ("", "_low", "_high"))
    share = plain.evaluation.value("oracle_shares", "information_share", row=fused("image"), finding="macro")
    pages = (cards["plain"]["card.md"], _Html(cards["plain"]["card.html"]).text)
    for text in pages:
        for words in (f"{value:.3f} ({low:.3f} to {high:.3f})", f"{share:.3f} (", "baseline coin", "5,000", "0123abc"):
            assert words in text
        assert "oracle/" not in text
        assert "as_present" not in text
        assert "image+text" not in text


def test_how_many_weights_were_trained_of_each_part(cards) -> None:
    assert "| image | 4,160 | 1,234,567 |" in cards["plain"]["card.md"]
    assert "| fusion and heads | 99 | 99 |" in cards["plain"]["card.md"]


def test_figures_stand_in_the_row_of_their_answer(plain, cards) -> None:
    ways = next(table for table in _Html(cards["plain"]["card.html"]).tables if table[1][0] == "all that is present")
    by_row = {row[0]: dict(zip(ways[0], row, strict=True)) for row in ways[1:]}
    for title, row in (("image + text", fused("image+text")), ("image, own head", alone("image"))):
        for column, name in (("AUROC", "auroc"), ("NLL", "nll")):
            value = plain.evaluation.value("metrics", name, row=row, finding="macro")
            assert by_row[title][column].startswith(f"{value:.3f} (")
        possible = plain.evaluation.value("oracle_shares", "oracle_auroc", row=row, finding="macro")
        assert by_row[title]["possible AUROC"] == f"{possible:.3f}"
    assert by_row["baseline coin"]["possible AUROC"] == "–"


def test_sections_without_a_table_are_left_out_and_named_as_limits(cards) -> None:
    for name in CARD_FILES:
        assert "When it does not know" not in cards["plain"][name]
        assert "When it does not know" in cards["full"][name]
        assert "What breaks first" not in cards["plain"][name]
        for words in SENTENCES.values():
            assert f"{words}" in cards["plain"][name]
            assert not re.search(f"{words}.* was not measured", cards["full"][name])
            assert re.search(f"{words}.* was not measured", cards["plain"][name])


def test_a_suspect_cohort_says_so_with_its_reasons(cards) -> None:
    for name in CARD_FILES:
        assert "The cohort behind this model is suspect" in cards["full"][name]
        assert "suspect" not in cards["plain"][name]
        assert all(reason in cards["full"][name] for reason in REASONS)
    assert 'class="verdict warned"' in cards["full"]["card.html"]
    assert 'class="verdict"' in cards["plain"]["card.html"]


def test_leaks_and_a_cross_validation_are_named(plain) -> None:
    folds = plain.recipe.evaluation.model_copy(update={"protocol": "cross_validation"})
    leaking = replace(plain.evaluation, leaks=("fused/text, pneumonia: AUROC better than the oracle's by 0.100",))
    rendered = card(replace(plain, evaluation=leaking, recipe=plain.recipe.model_copy(update={"evaluation": folds})))
    assert "A leak: fused/text, pneumonia" in rendered["card.md"]
    assert "those of the folds' models" in rendered["card.md"]


def test_no_patient_and_no_study_is_named(cards) -> None:
    for files in cards.values():
        for text in files.values():
            assert not re.search(r"(study|patient)-\d", text)


def test_text_of_others_is_text_on_the_page(cards) -> None:
    found = _Html(cards["full"]["card.html"])
    assert "script" not in found.tags
    assert "a" in found.tags
    assert found.text.count("<script>alert(1)</script>") >= 3  # description, a source, a cell of the audit
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', cards["full"]["card.html"])) <= {"data:"} | {
        f"#s{n}" for n in range(20)
    }


def test_text_of_others_is_text_in_markdown(cards) -> None:
    text = cards["full"]["card.md"]
    assert "\\<script\\>alert(1)\\</script\\> \\| \\[a\\](javascript:alert(2)) !\\[b\\](" in text
    assert not re.search(r"(?<!\\)[<>\[\]`]", text)
    assert not re.search(r"^# Title", text, re.MULTILINE)
    assert "\\*bold\\*" in text


@pytest.mark.parametrize("text", ["- item", "1. item", "# Title", "+ item", "---", "=", "2) item"])
def test_a_sentence_makes_no_block_in_markdown(text) -> None:
    rendered = markdown("T", "B", [Section("S", (text,))])
    assert text not in rendered.splitlines()
    assert text in rendered.replace("\\", "").splitlines()


def test_errors_among_the_answered_and_coverage_are_shown(full, cards) -> None:
    tables = _Html(cards["full"]["card.html"]).tables
    selective = next(table for table in tables if "share answered" in table[0])
    where = {"policy": "rule", "finding": "effusion"}
    error = full.evaluation.value("selective", "error", **where)
    [row] = [row for row in selective if row[:2] == ["what no part refers", "Pleural effusion"]]
    assert row[selective[0].index("errors among them")].startswith(f"{error:.3f} (")
    [sets] = [table for table in tables if "band from" in table[0]]
    own = {"finding": "effusion", "class": "present", "subset": "as_present"}
    [row] = [row for row in sets if row[:2] == ["Pleural effusion", "present"]]
    assert row[sets[0].index("coverage")] == f"{full.evaluation.value('coverage', 'coverage', **own):.3f}"
    first, second = [table for table in tables if table[0][0] == "read"]
    assert [row[0] for row in first] == [row[0] for row in second]
    assert first[1][0] == "image"
    assert "Coverage where the finding is absent, by what was read" in cards["full"]["card.md"]
    assert cards["full"]["card.html"].count("<img") == 4


def test_every_row_has_as_many_cells_as_its_head(cards) -> None:
    for files in cards.values():
        in_markdown, on_page = _markdown_tables(files["card.md"]), _Html(files["card.html"]).tables
        assert [len(table) - 1 for table in in_markdown] == [len(table) for table in on_page]
        for table in [*in_markdown, *on_page]:
            assert {len(row) for row in table} == {len(table[0])}
            assert len(table) > 1


def test_groups_too_small_are_counted_and_not_listed(cards) -> None:
    text = _Html(cards["full"]["card.html"]).text
    assert "too small for every finding and not listed: 1." in text
    assert "tiny site" not in text
    assert "a_b c" in text


def test_gaps_come_widest_first_and_the_widest_in_short(full, cards) -> None:
    gaps = full.evaluation.tables["gaps"]
    widest = gaps.loc[gaps["gap"].idxmax()]
    table = next(table for table in _Html(cards["full"]["card.html"]).tables if "gap" in table[0])
    shown = [float(row[table[0].index("gap")]) for row in table[1:]]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == pytest.approx(widest["gap"], abs=5e-4)
    assert f"{widest['gap']:.3f} lower for {widest['kind']}" in cards["full"]["card.md"]


def test_names_and_numbers_are_written_for_readers(cards) -> None:
    text = cards["full"]["card.md"]
    for words in (
        "rotated 90",
        "layer cam",
        "| yes |",
        "0.0001",
        "held out phrases",
        "1,000",
        "0.012",
        "Pleural effusion",
    ):
        assert words in text


def test_a_long_table_says_what_is_left_out() -> None:
    frame = pd.DataFrame({"finding": ["effusion"] * 5, "auroc": [0.5, np.nan, 2.0, None, np.float32(0.25)]})
    table = frame_table("T", frame, Words(FINDINGS), most=3)
    assert table.title == "T (the first 3 of 5 rows)"
    assert table.rows == (("Pleural effusion", "0.500"), ("Pleural effusion", "–"), ("Pleural effusion", "2"))


def test_a_figure_that_a_group_lacks_is_a_dash() -> None:
    frame = pd.DataFrame({"group": ["a", "a", "b"], "finding": ["pneumonia", "effusion", "effusion"], "n": [1, 2, 3]})
    table = crossed_table("T", frame, Words(FINDINGS), index=("group",), across="finding", figure="n")
    assert table.columns == ("group", "Pneumonia", "Pleural effusion")
    assert table.rows == (("a", "1", "2"), ("b", "–", "3"))


def test_findings_stand_in_one_order_wherever_they_were_met() -> None:
    frame = pd.DataFrame({"group": ["a", "b", "b"], "finding": ["effusion", "macro", "pneumonia"], "n": [2, 3, 1]})
    table = crossed_table("T", frame, Words(FINDINGS), index=("group",), across="finding", figure="n")
    assert table.columns == ("group", "Pneumonia", "Pleural effusion", "mean over findings")
    assert table.rows == (("a", "–", "2", "–"), ("b", "1", "–", "3"))


def test_what_rounds_to_nothing_has_no_sign_and_what_is_below_it_a_minus() -> None:
    frame = pd.DataFrame(
        {"gain": [6e-18, -0.25, -2.0, -2e-4], "nll": [-1e-5] * 4, "nll_low": [-0.5] * 4, "nll_high": [0.5] * 4}
    )
    table = frame_table("T", frame, Words(FINDINGS))
    interval = "0.000 (−0.500\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}0.500)"
    assert table.rows == tuple((gain, interval) for gain in ("0.000", "−0.250", "−2", "−0.0002"))


# --- in a browser ----------------------------------------------------------------------------------------------------


def _open(browser: Browser, width: int, scheme: str) -> Page:
    return browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_works_as_it_is_served(browser, cards, width) -> None:
    page, complaints = _open(browser, width, "light"), []
    page.on("console", lambda message: complaints.append(message.text))
    page.route(
        "**/*",
        lambda route: route.fulfill(body=cards["full"]["card.html"], content_type="text/html", headers=PAGE_HEADERS),
    )
    page.goto("http://card.test/v1/model/card")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > t.parentElement.clientWidth)"
    assert width < 1200 or page.evaluate(f"{cut}.map(t => t.innerText)") == []
    assert min(page.evaluate("[...document.images].map(image => image.naturalWidth)")) > 300
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    page.get_by_role("link", name="Limits").click()
    assert page.evaluate("scrollY") > 900
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(browser, cards, tmp_path: Path, scheme) -> None:
    (tmp_path / "card.html").write_text(cards["full"]["card.html"], encoding="utf-8")
    page = _open(browser, 1200, scheme)
    page.goto((tmp_path / "card.html").as_uri())
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()


def test_the_values_that_a_model_reads_stand_with_codes_units_and_intervals() -> None:
    drain = Variable(
        "drain", "Drain output", unit="mL/d", female=(0.0, 80.0), male=(0.0, 100.0), codes=(Code("D-24", "drain"),)
    )
    rhythm = Variable("rhythm", "Rhythm", Kind.CATEGORICAL, categories=("sinus", "paced"), normal_categories=("sinus",))
    assert variable_table([drain, rhythm]).rows == (
        ("Drain output", "D-24", "mL/d", "female 0 to 80; male 0 to 100"),
        ("Rhythm", "", "sinus, paced", "sinus"),
    )
