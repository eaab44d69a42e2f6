"""Where a version comes from and what became of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from consilium.artifacts.model_registry import RegisteredVersion
from consilium.artifacts.version_events import Event, GateRecord
from consilium.cli import main
from consilium.domain.errors import TrainingError
from training.lifecycle import lineage as module
from training.lifecycle.lineage import Node, as_mermaid, as_tree, lineage
from training.lifecycle.lineage_figure import lineage_figure

VERSIONS = [
    {
        "name": "chest",
        "number": number,
        "digest": f"{number}" * 64,
        "studies": 30 + number,
        "made": "2026-05-01",
        "changes": {"added": 30},
        "retired": "2026-06-03" if number == 1 else None,
        "why": 'reads of "June" [2]',
    }
    for number in (1, 2)
]


def _version(**tags: str) -> RegisteredVersion:
    gate = Event("2026-06-01T10:00:00Z", "gate", str(GateRecord(True, "a" * 64, "b" * 64, "gaterun")))
    events = (gate, Event("2026-06-02T10:00:00Z", "promoted", "better"))
    made = datetime(2026, 6, 1, tzinfo=UTC)
    return RegisteredVersion("consilium-mine", "4", ("champion",), made, "run4", "b" * 64, dict(tags), events)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cohort_versions.json"
    file.write_text(json.dumps({"versions": VERSIONS}))
    monkeypatch.setattr(module, "downloaded", lambda run, name: file)


def _walk(node: Node) -> list[Node]:
    return [node, *(one for child in node.children for one in _walk(child))]


@pytest.mark.usefixtures("kept")
def test_the_chain_goes_from_the_first_cohort_version_to_the_answers():
    tags = {"cohort_version": "2" * 64, "started": "from the champion models:/consilium-mine/3"}
    found = _walk(lineage(_version(**tags), 17))
    assert [(one.kind, one.name) for one in found] == [
        ("cohort version", "chest 1"),
        ("cohort version", "chest 2"),
        ("run", "run4"),
        ("begun from", "models:/consilium-mine/3"),
        ("model", "consilium-mine version 4"),
        ("gate", "passed"),
        ("event", "promoted"),
        ("alias", "champion"),
        ("answers", "17"),
    ]
    assert found[0].facts["retired"] == "2026-06-03"
    assert found[5].facts["run"] == "gaterun"


@pytest.mark.usefixtures("kept")
def test_it_is_a_tree_on_a_terminal_and_a_chart_in_mermaids_text():
    node = lineage(_version(cohort_version="2" * 64))
    console = Console(width=200)
    with console.capture() as shown:
        console.print(as_tree(node))
    assert 'why reads of "June" [2]' in shown.get()
    lines = as_mermaid(node).splitlines()
    assert lines[0] == "flowchart LR"
    nodes = [line for line in lines if "[" in line]
    arrows = [line.split() for line in lines if "-->" in line]
    assert len(nodes) == len(_walk(node))
    assert len(arrows) == len(nodes) - 1
    assert all(line.count('"') == 2 for line in nodes), "what is between the quotes has none"
    ends = {end for start, _, stop in arrows for end in (start, stop)}
    assert ends == {f"n{number}" for number in range(1, len(nodes) + 1)}


def test_a_plain_cohort_has_a_digest_and_a_run_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch):
    plain = lineage(_version(cohort="mine", cohort_digest="c" * 64))
    assert (plain.kind, plain.facts["digest"]) == ("cohort", "c" * 12)

    def gone(run: str, name: str) -> Path:
        raise TrainingError("no such run")

    monkeypatch.setattr(module, "downloaded", gone)
    assert lineage(_version(cohort_version="2" * 64)).facts == {"records": "not in this store"}


def test_a_folder_has_no_lineage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["lineage", str(tmp_path)]) == 2
    assert "must be models:/NAME@ALIAS or models:/NAME/VERSION" in capsys.readouterr().err


@pytest.mark.usefixtures("kept")
def test_the_figure_shows_every_node_below_what_it_follows_from_and_nothing_is_cut_off():
    node = lineage(_version(cohort_version="2" * 64, started="from the champion models:/consilium-mine/3"), 17)
    figure = lineage_figure(node)
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    whole = figure.bbox

    titles = [text for text in axes.texts if text.get_weight() == "bold"]
    assert [text.get_text().split("  ")[0] for text in titles] == [one.kind for one in _walk(node)]
    heights = [text.get_position()[1] for text in titles]
    assert heights == sorted(heights)
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= whole.x1 - 5
    assert any('reads of "June" [2]' in text.get_text() for text in axes.texts)


def test_a_figure_of_another_kind_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["lineage", "models:/consilium-mine/4", "--out", "chain.docx"]) == 2
    assert "must end with .svg, .png, .pdf or .mmd" in capsys.readouterr().err
