"""`consilium draft` in this process: a draft on the terminal, in a file or as JSON, or one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from consilium.api.schemas import DraftAnswer
from consilium.cli import app

ASKED = ("--note", "indication=Fever and cough?", "--age", "67", "--sex", "F")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["draft", *arguments])


def test_a_draft_is_shown_written_or_given_as_json(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "draft.txt"
    shown = run(str(tiny_folder), *ASKED, "--language", "de", "--out", str(out))
    assert shown.exit_code == 0, shown.output
    written = out.read_text("utf-8")
    assert 'Fragestellung\n"Fever and cough?"\n' in written
    assert written.index("Hinweis") < written.index("Befund") < written.index("Beurteilung")
    answer = run(str(tiny_folder), *ASKED, "--language", "de", "--json")
    made = DraftAnswer.model_validate_json(answer.stdout)
    assert made.draft.text == written.rstrip("\n")
    said = {one.finding for section in made.draft.sections for one in section.sentences}
    assert {one.finding for one in made.findings} <= said


def test_phrases_are_printed_changed_and_used(tiny_folder: Path, tmp_path: Path) -> None:
    phrases = yaml.safe_load(run("--show-phrases").stdout)
    phrases["headings"]["impression"] = "Conclusion"
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(phrases), encoding="utf-8")
    shown = run(str(tiny_folder), *ASKED, "--phrases", str(own))
    assert "\nConclusion\n" in shown.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--language", "fr"), "language: got 'fr', must be one of en, de"),
        (("--phrases", "none.yaml"), "--phrases"),
        (("--url", "http://127.0.0.1:9"), "must be given, or --url instead of it, not both"),
    ],
)
def test_what_cannot_be_drafted_is_refused_before_anything_is_computed(more: tuple[str, ...], said: str) -> None:
    refused = run("no-such-model", *ASKED, *more)
    assert refused.exit_code == 1
    assert said in str(refused.exception)


def test_json_is_one_document(tiny_folder: Path) -> None:
    assert set(json.loads(run(str(tiny_folder), *ASKED, "--json").stdout)) >= {"findings", "draft", "model"}
