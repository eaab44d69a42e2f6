from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from rich.console import Console

from consilium.domain.diagnosis import ABSENT, PRESENT, AuditVerdict, OutOfDistributionScore
from consilium.domain.variables import BUILT_IN
from consilium.formats.lab_notation import figure, measured
from consilium.modalities.image.presentation import overlay_rgba
from consilium.modalities.observations.presentation import ObservationWeight, Reference, _table
from consilium.modalities.presentation import AGAINST, FOR
from consilium.modalities.text.presentation import WordWeight
from consilium.output.labels import (
    audit_in_words,
    part_in_words,
    percent,
    set_in_words,
    share,
    typicality_in_words,
)
from consilium.output.report import report_html
from consilium.output.terminal import explanation_table, explanation_tables
from tests.consilium.tiny_answer import (
    REFER,
    SUSPECT,
    eventful_explanation,
    explained_study,
    explanation,
    open_explanation,
)


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(explained_study(), explanation())


@pytest.fixture(scope="module")
def eventful() -> str:
    return report_html(explained_study(), eventful_explanation())


def _sizes(page: str, kind: str) -> set[tuple[int, int]]:
    """Columns and rows of the pictures of a kind."""
    pictures = re.findall(rf'<img{kind} src="data:image/png;base64,([^"]+)"', page)
    assert pictures
    return {Pillow.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures}


@pytest.mark.parametrize(
    ("value", "given", "flag"),
    [
        (6.0, "6", "high"),
        (6.0, "<6", ""),  # it may be normal
        (6.0, "<=6", ""),
        (6.0, ">6", "high"),
        (5.0, "5", ""),
        (5.0, ">5", "high"),
        (5.0, ">=5", ""),
        (0.5, "0.5", "low"),
        (0.5, "<0.5", "low"),
        (0.5, ">0.5", ""),
        (1.0, "<1", "low"),
        (1.0, "1", ""),
    ],
)
def test_a_limit_is_high_or_low_only_where_every_value_beyond_it_is(value: float, given: str, flag: str) -> None:
    weight = ObservationWeight("x", "X", given, "mg/L", 0.1, "value", Reference(value, 1.0, 5.0, "mg/L"))
    assert _table((weight,))[0]["scale"]["flag"] == flag


@pytest.mark.parametrize(
    ("value", "given", "shown"), [(12345.0, "12345000", "12300 ng/L"), (0.3, "<0.03", "&lt;0.3 ng/L")]
)
def test_a_converted_value_keeps_its_comparator_and_has_no_exponent(value: float, given: str, shown: str) -> None:
    reference = Reference(value, 0.0, 125.0, "ng/L")
    weight = ObservationWeight("x", "X", given, "fg/mL", 0.9, "value", reference)
    explained = explanation()
    page = report_html(
        explained_study(),
        replace(explained, findings=(replace(explained.findings[0], parts={"observations": (weight,)}),)),
    )
    assert f">{shown}<" in page


def test_a_figure_has_three_digits_and_no_exponent() -> None:
    assert [figure(value) for value in (1234567.0, 12.345, 0.012345, 0.0, -1600.4)] == [
        *("1230000", "12.3", "0.0123", "0", "-1600"),
    ]
    assert figure(1600.4, "+") == "+1600"


def test_an_image_whose_pixels_were_not_square_and_its_overlays_have_one_shape() -> None:
    study, explained = explained_study(), explanation()
    stretched = study.with_parts(image=(replace(study.parts["image"][0], grid=(20, 60)),))
    findings = tuple(
        replace(finding, parts={"image": tuple(replace(one, values=one.values[::2]) for one in finding.parts["image"])})
        for finding in explained.findings
    )
    page = report_html(stretched, replace(explained, findings=findings))
    assert _sizes(page, "") == {(60, 40)}
    assert _sizes(page, ' class="overlay [a-z]+"') == {(60, 40)}


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table under `heading`, cell by cell, as text."""
    part = page[page.index(f'<h2 id="{heading}"') :]
    body = part[part.index("<tbody>") : part.index("</tbody>")]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body.split("<tr")[1:]]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in cells]


def test_the_page_says_what_it_says_and_what_it_is_not(page: str) -> None:
    for expected in ("Not a certified medical device", "view position unknown", "Values absent", "audit of its cohort"):
        assert expected in page
    assert "C-reactive protein" in page
    assert "120 mg/L" in page  # converted beside what was sent
    assert "high" in page


def test_a_finding_has_its_answer_probability_interval_and_operating_point(page: str) -> None:
    assert rows(page, "findings") == [
        ["Alpha", "Absent not called", "12 % 5 % to 20 %", POINT_TEXT, "60 %", "20 %"],
        ["Beta", "Present called", "71 % 62 % to 83 %", POINT_TEXT, "60 %", "20 %"],
    ]
    assert 'aria-label="probability 71 %, interval 62 % to 83 %, called from 30 %"' in page
    assert '<rect class="band" x="62.00%" y="4" width="21.00%"' in page


POINT_TEXT = "from 30 %: sensitivity 90 % [80 %, 95 %], specificity 70 % [60 %, 80 %]"


def test_what_the_model_cannot_decide_stands_in_words(eventful: str) -> None:
    assert [row[1] for row in rows(eventful, "findings")] == ["Unlike either not called", "Undetermined called"]


def test_a_referred_study_says_so_first_and_why(page: str, eventful: str) -> None:
    banner = eventful.index("Referred: assess this study without the model")
    assert all(banner < eventful.index(reason) < eventful.index('<h2 id="findings"') for reason in REFER)
    assert '<body class="referred">' in eventful
    assert "Findings, for the record only" in eventful
    assert "Not referred" not in eventful
    assert "Not referred" in page
    assert "Referred:" not in page
    assert "for the record only" not in page


def test_an_undecided_finding_is_named_and_muted_alone(page: str) -> None:
    unsure = report_html(explained_study(), open_explanation())
    assert "Assess without the model: Beta." in unsure
    assert "Not referred" in unsure
    assert re.findall(r'<tr class="([^"]*)">\s*<th scope="row" class="finding">(\w+)<', unsure) == [
        ("", "Alpha"),
        ("called open", "Beta"),
    ]
    assert "Assess without the model" not in page


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (SUSPECT, "is suspect"),
        (AuditVerdict("unusable", ("One class.",)), "is unusable"),
        (AuditVerdict(), "was not audited"),
    ],
    ids=lambda value: getattr(value, "verdict", ""),
)
def test_an_audit_that_found_something_stands_above_the_findings(
    verdict: AuditVerdict, message: str, page: str
) -> None:
    minded = report_html(explained_study(), explanation(audit=verdict))
    above = minded[: minded.index('<h2 id="findings"')]
    assert f"The cohort behind this model {message}" in above
    assert all(reason in above for reason in verdict.reasons)
    assert "The cohort behind this model" not in page


def test_typicality_is_shown_per_part(eventful: str) -> None:
    assert rows(eventful, "typicality") == [
        ["Image", "", "0.2 %", "out of distribution"],
        ["Notes", "", "4 %", "unusual"],
        ["All together", "", "64 %", "typical"],
        ["Values", "", "", "absent"],
    ]
    # On a logarithmic strip that ends at 1 in 1000: log10(0.002) / -3, log10(0.04) / -3, log10(0.64) / -3.
    assert re.findall(r'<svg x="([\d.]+)%"><g', eventful) == ["89.97", "46.60", "6.46"]
    blind = report_html(explained_study(), explanation(out_of_distribution=()))
    assert "does not measure whether a study is out of distribution" in blind


def test_the_nearest_cases_stand_with_what_they_had(page: str) -> None:
    assert rows(page, "neighbours") == [
        ["b7d1c90f Image, Notes", "0.94", "no", "yes"],
        ["04ae77d2 Image", "0.88", "unknown", "yes"],
    ]
    assert re.findall(r'<td class="label">(\d of \d)</td>', page) == ["0 of 1", "2 of 2"]
    alone = report_html(explained_study(), replace(explanation(), neighbours=()))
    assert "Training cases" not in alone


def test_what_was_sent_cannot_become_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_reasons_and_names_cannot_become_markup() -> None:
    evil = "<script>alert(2)</script>"
    explained = explanation(refer_reasons=(evil,), audit=AuditVerdict("suspect", (evil,)))
    explained = replace(explained, neighbours=(replace(explained.neighbours[0], pseudonym=evil),))
    page = report_html(explained_study(), explained)
    assert evil not in page
    assert page.count("&lt;script&gt;alert(2)") == 3


def test_nothing_is_fetched_and_only_its_own_script_runs(page: str) -> None:
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_words_are_marked_by_what_they_spoke_for(page: str) -> None:
    marks = re.findall(r"<mark class=\"([^\"]+)\" title=\"([^\"]+)\" style=\"--s:([\d.]+)\">(\w+)</mark>", page)
    assert set(marks) == {("for readable", "+0.80", "1.00", "fever"), ("against readable", "−0.40", "0.50", "cough")}


def test_the_tab_of_the_called_finding_is_open(page: str) -> None:
    tabs = re.findall(r'aria-selected="(true|false)" tabindex="(0|-1)">Why: (\w+)', page)
    assert tabs == [("false", "-1", "Alpha"), ("true", "0", "Beta")]


def test_overlay_is_signed_and_transparent_where_nothing_is_known() -> None:
    rgba = overlay_rgba(np.array([[2.0, -1.0, 0.0, np.nan]], np.float32), 2.0)
    assert tuple(rgba[0, 0, :3]) == FOR
    assert tuple(rgba[0, 1, :3]) == AGAINST
    assert rgba[0, 0, 3] == 2 * rgba[0, 1, 3]
    assert rgba[0, 2:, 3].tolist() == [0, 0]
    assert not overlay_rgba(np.zeros((2, 2), np.float32), 0.0)[..., 3].any()


def test_what_things_are_called() -> None:
    sets = [(PRESENT,), (ABSENT,), (PRESENT, ABSENT), ()]
    assert [set_in_words(one) for one in sets] == ["present", "absent", "undetermined", "unlike either"]
    scores = [
        OutOfDistributionScore("text", 1.0, p_value, out_of_distribution=out)
        for p_value, out in ((0.5, False), (0.05, False), (0.05, True))
    ]
    assert [typicality_in_words(score) for score in scores] == ["typical", "unusual", "out of distribution"]
    assert [part_in_words(part) for part in ("observations", "fused")] == ["Values", "All together"]
    assert audit_in_words("sound") is None


@pytest.mark.parametrize(
    ("probability", "values"),
    [
        (0.0, "0 %"),
        (0.0004, "< 0.1 %"),
        (0.0049, "0.5 %"),
        (0.01, "1 %"),
        (0.714, "71 %"),
        (0.995, "99.5 %"),
        (0.9996, "> 99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_a_probability_is_never_shown_as_certain_unless_it_is(probability: float, values: str) -> None:
    assert percent(probability) == values


def test_units_are_written_as_a_laboratory_writes_them() -> None:
    values = [measured("124", "umol/L"), measured("7.32", "[pH]"), measured("250", "10*3/uL"), measured("12", "mg/dL")]
    assert values == ["124 µmol/L", "7.32", "250 10³/µL", "12 mg/dL"]
    known = {unit for one in BUILT_IN.values() for unit in (one.unit, *(code.unit for code in one.codes))}
    assert [unit for unit in known if re.search(r"[][*{}_]|\bu[A-Z\[gmk]|[a-z]\d", measured("", unit))] == []


def test_a_small_share_keeps_its_digits() -> None:
    assert [share(p) for p in (0.0005, 0.0123, 0.64)] == ["0.05 %", "1.2 %", "64 %"]


def test_the_terminal_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=140).print(explanation_tables(explanation()))
    shown = capsys.readouterr().out
    for expected in (
        "consilium-x version 3",
        "0.71 [0.62, 0.83]",
        "present",
        "yes (from 0.30)",
        "absent: values",
        "fever +0.80",
        "cough -0.40",
        "b7d1c90f",
    ):
        assert expected in shown
    for unexpected in ("REFERRED", "The cohort behind", "distribution", "unusual"):
        assert unexpected not in shown


@pytest.mark.parametrize("width", [56, 66, 90])
def test_a_narrow_terminal_leaves_out_bars_and_unimodal_probabilities_but_no_finding(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(width=width).print(explanation_tables(explanation()))
    table, _, _ = capsys.readouterr().out.partition("Why")
    lines = table.splitlines()
    assert max(map(len, lines)) <= width
    for row in (("Alpha", "absent", "0.12 [0.05, 0.20]"), ("Beta", "present", "0.71 [0.62, 0.83]")):
        assert any(all(cell in line for cell in row) for line in lines)
    assert ("┃ 0 " in table, "alone" in table) == (False, width > 80)


def test_the_terminal_names_the_finding_to_assess_without_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=140).print(explanation_tables(open_explanation()))
    assert capsys.readouterr().out.startswith("assess without the model: Beta\n")


def test_the_terminal_refers_first_and_names_what_is_out_of_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=140).print(explanation_tables(eventful_explanation()))
    shown = capsys.readouterr().out
    assert shown.startswith("REFERRED: assess this study without the model\n  - The image is unlike")
    for expected in (
        "undetermined",
        "unlike either",
        "image: out of distribution (0.2 % of calibration studies are at least as far from the training data)",
        "notes: unusual (4 %",
        "The cohort behind this model is suspect",
        SUSPECT.reasons[0],
    ):
        assert expected in shown
    assert "all together:" not in shown


def test_what_rounds_to_nothing_is_listed_on_neither_side(capsys: pytest.CaptureFixture[str]) -> None:
    explained = explanation()
    first, *_ = explained.findings
    words = (replace(first.parts["text"][0], weight=0.004), replace(first.parts["text"][0], weight=-0.004))
    Console(width=140).print(explanation_table(replace(first, parts={"text": words})))
    printed = capsys.readouterr().out
    assert "modalities" in printed
    assert "words" not in printed


def test_the_terminal_dims_what_is_not_to_be_relied_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for explained in (explanation(), eventful_explanation()):
        Console(width=140, force_terminal=True, color_system="standard").print(explanation_tables(explained))
        lines.append(next(line for line in capsys.readouterr().out.splitlines() if "0.71" in line))
    bold, dim = "\x1b[1m", "\x1b[2m"
    assert bold in lines[0]
    assert dim not in lines[0]
    assert dim in lines[1]
    assert bold not in lines[1]


def test_what_the_model_did_not_see_is_struck_through() -> None:
    study, explained = explained_study(), explanation()
    note = replace(study.parts["text"][0], text="Mr Doe coughs")
    words = (WordWeight(0, 3, 6, "[name]", 0.2), WordWeight(0, 7, 13, "coughs", 0.4))
    findings = (replace(explained.findings[0], parts={"text": words}),)
    page = report_html(study.with_parts(text=(note,)), replace(explained, findings=findings))
    assert re.search(
        r'Mr <s class="unread" title="not shown to the model, which read \[name\]: [^"]*">Doe</s> <mark', page
    )
    assert "struck through</s>: not shown to the model" in page
    assert "unread" not in report_html(study, explained).partition("</style>")[2]


def test_grades_and_times_stand_beside_the_findings(page: str, eventful: str) -> None:
    assert "Grades and outlook" not in page
    for shown in ("Grades and outlook, for the record only", "Severity", "mean 0.9 on a scale of 0 to 1", "365 days"):
        assert shown in eventful
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(explanation_tables(eventful_explanation()))
    text = console.export_text()
    assert "none 0.30, mild 0.70" in text
    assert "81 % without (until 365 days)" in text
