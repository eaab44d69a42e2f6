from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import Comprehensive3DSR
from PIL import Image as Pillow
from pydicom import dcmread

from consilium import __version__
from consilium.api.explanations import explanation_json
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.mlflow_store import open_store
from consilium.cli import main
from consilium.cli.shared.console import show, show_json, show_what_can_be_shown, table_of
from consilium.domain.diagnosis import Explanation
from consilium.domain.study import Study
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image
from tests.consilium.output.dicom.results import image_file
from tests.consilium.tiny_artifact import tiny_artifact
from tests.patience import PATIENCE_S

COMMANDS = [
    ["demo"],
    ["phantom"],
    ["check"],
    ["train"],
    ["evaluate"],
    ["compare"],
    ["compare-fusions"],
    ["sweep"],
    ["shifts"],
    ["diagnose"],
    ["jobs", "submit"],
    ["jobs", "show"],
    ["jobs", "results"],
    ["jobs", "cancel"],
    ["jobs", "discard"],
    ["serve"],
    ["keys", "create"],
    ["keys", "list"],
    ["keys", "rotate"],
    ["keys", "revoke"],
    ["audit-log", "show"],
    ["audit-log", "recall"],
    ["audit-log", "purge"],
    ["audit-log", "backup"],
    ["audit-log", "restore"],
    ["audit-log", "new-key"],
    ["models", "list"],
    ["models", "show"],
    ["models", "promote"],
    ["gate"],
    ["retrain"],
    ["lineage"],
    ["cohort", "freeze"],
    ["cohort", "add"],
    ["cohort", "withdraw"],
    ["cohort", "show"],
    ["models", "rollback"],
]
HEAVY = ("torch", "monai", "transformers", "mlflow", "lightning", "bentoml", "pandas", "sklearn")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    save_artifact(folder, tiny_artifact())
    return str(folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohorts") / "phantom"
    arguments = ["phantom", str(folder), "--studies", "200", "--seed", "5", "--size", "64", "--workers", "1"]
    assert main(arguments) == 0
    return folder


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "chest.png"
    Pillow.radial_gradient("L").save(path)
    return path


def _refused(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 2) -> str:
    """The one line on standard error with which `arguments` are refused."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    output = capsys.readouterr().out
    assert f"Example: consilium {' '.join(command)}" in " ".join(output.split())


def test_a_command_leaves_logging_as_it_was(tmp_path: Path) -> None:
    def state() -> list[object]:
        loggers = [logging.getLogger(name) for name in (None, "consilium", "training", "service", "hospital")]
        return [(logger.level, logger.handlers[:]) for logger in loggers]

    before = state()
    assert main(["train", "phantom-tiny", "--cohort", str(tmp_path / "nowhere")]) == 2
    assert state() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--help"],
        ["train", "no-recipe", "--cohort", "cohort"],
        ["sweep", "no-recipe", "--cohort", "cohort"],
        ["compare-fusions", "no-recipe", "--cohort", "cohort"],
    ],
    ids=" ".join,
)
def test_neither_help_nor_an_unknown_recipe_waits_for_anything_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from consilium.cli import main
main({arguments})
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_an_impossible_prevalence_is_refused_before_the_cohort_is_read(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["evaluate", model, "--cohort", str(tmp_path / "nowhere"), "--prevalence"]
    assert "must be of one of pneumonia, effusion" in _refused(capsys, [*nowhere, "gout=0.2"])
    assert "prevalence" in _refused(capsys, [*nowhere, "pneumonia=2"])
    assert "FINDING=SHARE" in _refused(capsys, [*nowhere, "pneumonia"])


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"consilium {__version__}\n"


def test_what_is_no_command_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such command 'trian'" in _refused(capsys, ["trian"])
    assert "--cohort" in _refused(capsys, ["train", "phantom-tiny"])
    assert "--port" in _refused(capsys, ["serve", "model", "--port", "99999"])


def test_without_a_command_there_is_the_help_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["models"]):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert "Usage: consilium" in captured.out
        assert captured.err == ""


def test_a_diagnosis_as_json_is_the_diagnostician_s(
    model: str, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labs = tmp_path / "labs.csv"
    labs.write_text("code,value,unit,time\n1988-5,80.5,mg/L,2024-05-01T10:00:00\n1988-5,90,mg/L,\n")
    note = tmp_path / "note.txt"
    note.write_text("Quux: fever and wheeze\n")
    names = tmp_path / "names.txt"
    names.write_text("Quux^Anna\n\n", encoding="utf-8-sig")
    options = ["--image", str(png), "--note", "indication=cough", "--note", f"history=@{note}", "--age", "50"]
    options += ["--observations", str(labs), "--sex", "F", "--reference-time", "2024-05-01T12:00:00", "--device", "cpu"]
    options += ["--names", str(names)]
    report = tmp_path / "new" / "report.html"
    assert main(["diagnose", model, *options, "--finding", "effusion", "--report", str(report), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    study = study_from_records(
        images=[read_image(png.read_bytes())],
        notes=[{"kind": "indication", "text": "cough"}, {"kind": "history", "text": "Quux: fever and wheeze"}],
        observations=[
            {"code": "1988-5", "value": 80.5, "unit": "mg/L", "time": "2024-05-01T10:00:00"},
            {"code": "1988-5", "value": 90.0, "unit": "mg/L"},
        ],
        patient={"age": 50, "sex": "F", "names": ["Quux^Anna"]},
        reference_time="2024-05-01T12:00:00",
    )
    expected = Diagnostician.load(model, "cpu").explain(study, ["effusion"], "thorough")
    assert answer == json.loads(json.dumps(explanation_json(expected)))
    assert [one["finding"] for one in answer["explanations"]] == ["effusion"]
    assert report.read_text().startswith("<!doctype html>")
    assert re.search('<s class="unread"[^>]*>Quux</s>', report.read_text())


def test_dicom_results_hold_the_answer_that_is_shown(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [tmp_path / "pa.dcm", tmp_path / "lateral.dcm"]
    images[0].write_bytes(image_file(96, 128))
    images[1].write_bytes(image_file(96, 128, SOPInstanceUID="1.2.3.5"))
    paths = {kind: tmp_path / "new" / f"{kind}.dcm" for kind in ("sr", "sc", "seg")}
    options = [part for image in images for part in ("--image", str(image))]
    options += [part for kind, path in paths.items() for part in (f"--{kind}", str(path))]
    assert main(["diagnose", model, *options, "--note", "history=cough", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    report = Comprehensive3DSR.from_dataset(dcmread(paths["sr"]))
    groups = report.content.get_image_measurement_groups()
    reported = [group.get_measurements()[0].value for group in groups]
    assert reported == pytest.approx([one["probability"] for one in answer["findings"]], abs=1e-6)
    assert dcmread(paths["sc"]).StudyInstanceUID == report.StudyInstanceUID == "1.2.3"
    for number, name in enumerate(("seg.dcm", "seg-2.dcm")):
        made = dcmread(tmp_path / "new" / name)
        reference = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
        assert reference.ReferencedSOPInstanceUID == ("1.2.3.4", "1.2.3.5")[number]


def test_the_answer_is_shown_before_it_is_explained(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Diagnostician, "explain", interrupted)
    assert main(["diagnose", model, "--note", "history=cough"]) == 130
    shown = capsys.readouterr().out
    assert "Pneumonia" in shown
    assert "Why" not in shown


def test_a_diagnosis_on_the_terminal_says_finding_and_why(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    observation = json.dumps([{"code": "1988-5", "value": 80, "unit": "mg/L"}])
    labs = Path(model).parent / "labs.json"
    labs.write_text(observation)
    options = ["--note", "history=fever [bold]cough", "--observations", str(labs), "--finding", "pneumonia"]
    assert main(["diagnose", model, *options, "--age", "20"]) == 0
    output = capsys.readouterr().out
    for part in ("Age 20 years", "consilium-tiny", "Pneumonia", "absent: image", "Why: Pneumonia", "notes"):
        assert part in output
    assert "Why: Effusion" not in output


def test_the_terminal_explains_what_is_called_and_nothing_else_is_worked_out(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["diagnose", model, "--note", "history=fever and cough"]
    assert main([*command, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["findings"]
    called = [result for result in results if result["call"]] or [max(results, key=lambda one: one["probability"])]
    whole, asked = Diagnostician.explain, []

    def explain(self: Diagnostician, study: Study, findings: list[str], level: str) -> Explanation:
        asked.append(findings)
        return whole(self, study, findings, level)

    monkeypatch.setattr(Diagnostician, "explain", explain)
    assert main(command) == 0
    output = capsys.readouterr().out
    assert asked == [[result["finding"] for result in called]]
    assert re.findall(r"Why: (\w+)", output) == [result["finding"].capitalize() for result in called]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "study: got 'no usable record'"),
        (["--note", "fever"], "--note[0]: got 'no kind', must read KIND=TEXT"),
        (["--note", "letter=fever"], "--note[0]: got 'letter'"),
        (["--note", "history=@/nowhere/at/all"], "--note[0]: got '/nowhere/at/all', must be a readable file (No such"),
        (["--note", "history=fever", "--age", "400"], "patient.age: got '400'"),
        (["--note", "history=fever", "--sex", "1"], "patient.sex: got '1'"),
        (["--note", "history=fever", "--age", "1_0"], "patient.age: got '1_0'"),
        (["--note", "history=fever", "--reference-time", "noon"], "reference_time: got 'noon'"),
        (["--note", "history=fever", "--finding", "gout"], "finding: got 'gout', must be one of pneumonia, effusion"),
        (["--note", "history=fever", "--level", "deep"], "level: got 'deep'"),
        (["--note", "history=fever", "--device", "abacus"], "device: got 'abacus'"),
        (["--note", "history=fever", "--report", "/proc/report.html"], "--report: got '/proc/report.html'"),
        (["--image", "/nowhere.dcm", "--report", "/"], "--report: got '/', must be a file that can be written"),
        (["--note", "history=fever", "--sr", "new.dcm"], "--sr: got 'no --image', needs a DICOM image, whose patient"),
        (["--image", __file__, "--sc", "new.dcm"], "images[0].preamble: got 'none', must be a DICOM file"),
        (["--image", "/nowhere.dcm", "--sc", "/"], "--sc: got '/', must be a file that can be written"),
        (
            ["--image", "/nowhere.dcm", "--sc", "new.dcm"],
            "--image: got '/nowhere.dcm', must be a file that can be read",
        ),
        (["--image", "/nowhere.dcm"], "images[0]: got '/nowhere.dcm', must be a readable file (No such file"),
    ],
)
def test_a_bad_study_is_refused_in_one_line(
    model: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _refused(capsys, ["diagnose", model, *options])


def test_models_and_margin_are_looked_at_before_the_cohort(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = ["--cohort", str(tmp_path / "nowhere")]
    assert "model: got 'no-model'" in _refused(capsys, ["compare", model, "no-model", *cohort])
    assert "margin: got 0.7" in _refused(capsys, ["compare", model, model, *cohort, "--margin", "0.7"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labs.csv", "code,value\n1988-5,3\n", "must have the columns code, value, unit, comparator, time"),
        ("labs.csv", "code,value,unit,unit\n1988-5,3,mg/L,mg/L\n", "must have the columns"),
        (
            "labs.csv",
            "code,value,unit\n1988-5,high,mg/L\n",
            "observations[0] left out (C-reactive protein): value must be one finite number",
        ),
        ("labs.csv", "code,value,unit\n1988-5,3\n", "observations[0]: got 'a row of another length'"),
        ("labs.csv", "", "must have the columns"),
        (
            "labs.csv",
            "code,value,unit\n1988-5,3,furlong\n",
            "observations[0] left out (C-reactive protein): unit is not understood",
        ),
        (
            "labs.csv",
            "code,value,unit,comparator\n1988-5,3,mg/L,about\n",
            "observations[0].comparator: got 'about', must be one of <, <=, >=, >",
        ),
        ("labs.csv", "code,value,unit\n99999-9,3,mg/L\n", "can be read; observations[0] left out: LOINC 99999-9"),
        (
            "labs.csv",
            "code,value,unit\n1988-5,99999,mg/L\n",
            "observations[0] not used: implausible value (C-reactive protein)",
        ),
        ("labs.json", "{", "must be a .csv table or JSON"),
        ("labs.json", '{"code": "1988-5"}', "must be a list of observations"),
        ("labs.json", '[{"code": "1988-5", "value": 3, "units": "mg/L"}]', "observations[0]"),
    ],
)
def test_bad_observations_are_refused_in_one_line(
    model: str, name: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert message in _refused(capsys, ["diagnose", model, "--observations", str(tmp_path / name)])


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "a??b ?"), ("latin-1", "a?éb ?"), ("utf-8", "a–éb 漢")])
def test_a_character_that_the_output_cannot_show_is_replaced_and_json_is_escaped(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(write: Callable[[], None]) -> bytes:
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding, errors="strict", write_through=True))
        show_what_can_be_shown()
        write()
        return buffer.getvalue()

    text = "a–éb 漢"
    table = table_of(text, [{"finding": text, "auroc": 0.5}])
    assert written(lambda: show(text)).decode(encoding) == shown + "\n"
    assert shown in written(lambda: show(table)).decode(encoding)
    document = written(lambda: show_json({"finding": text}))
    assert json.loads(document.decode(encoding)) == {"finding": text}


def test_an_error_of_the_machine_is_reported_in_a_line(
    cohort: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    assert main(["train", "phantom-tiny", "--cohort", str(cohort)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: Not a directory ({tmp_path}/home/cohorts)"


def test_no_model_is_refused_in_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(create=True)
    capsys.readouterr()
    note = ["--note", "history=fever"]
    assert "model: got 'nowhere'" in _refused(capsys, ["diagnose", "nowhere", *note])
    assert "consilium-none" in _refused(capsys, ["diagnose", "models:/consilium-none@champion", *note])
    assert "consilium-none" in _refused(capsys, ["serve", "models:/consilium-none@champion"])
    assert "manifest.json: is missing" in _refused(capsys, ["diagnose", str(Path(model).parent), *note], code=1)


def test_another_host_needs_somebody_who_can_be_authenticated(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_KEYS", str(tmp_path / "keys.json"))
    assert "--host: got '0.0.0.0'" in _refused(capsys, ["serve", model, "--host", "0.0.0.0"])


@pytest.mark.parametrize(
    ("command", "names_a_folder"),
    [
        (["evaluate", "models:/consilium-none/1", "--cohort", "none"], True),
        (["compare-fusions", "phantom-tiny", "--cohort", "none"], True),
        (["compare", "models:/consilium-none/1", "models:/consilium-none/1", "--cohort", "none"], False),
        (["sweep", "phantom-tiny", "--cohort", "none"], False),
        (["shifts", "models:/consilium-none/1"], False),
    ],
)
def test_where_the_outcome_goes_is_looked_at_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], names_a_folder: bool
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    kind, wrong = ("folder", [taken]) if names_a_folder else ("file", [tmp_path, taken / "table.csv"])
    for out in wrong:
        output = _refused(capsys, [*command, "--out", str(out)])
        assert output.startswith("error: --out: got ")
        assert f"must be a {kind} that can be written" in output


def test_a_seed_below_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    compare = ["compare", "a", "b", "--cohort", "none"]
    assert "--seed" in _refused(capsys, [*compare, "--seed", "-1"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BATCH_SIZE", "0", "CONSILIUM_BATCH_SIZE: got '0', input should be greater than 0"),
        ("BACKEND", "fast", "CONSILIUM_BACKEND: got 'fast', input should be 'auto', 'eager'"),
        ("CANARY", "models:/a/3", "CONSILIUM_CANARY: got 'models:/a/3', must be models:/NAME@ALIAS"),
        ("AUDIT_LOG_URL", "nonsense", "CONSILIUM_AUDIT_LOG_URL: got 'no URL', must read sqlite:///FILE"),
        ("AUDIT_LOG_URL", "sqlite:////", "CONSILIUM_AUDIT_LOG_URL: got 'sqlite:////', must name a file"),
    ],
)
def test_a_wrong_setting_is_bad_input_before_a_service_starts(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"CONSILIUM_{name}", value)
    assert message in _refused(capsys, ["serve", model])


def test_a_port_that_is_taken_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_KEYS", str(tmp_path / "keys.json"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        output = _refused(capsys, ["serve", model, "--port", str(port)])
    assert f"got '127.0.0.1:{port}', must be free to listen at (Address already in use)" in output


def test_a_key_s_life(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_KEYS", str(tmp_path / "keys.json"))

    def output_of(*arguments: str) -> Any:
        assert main(["keys", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert output_of("list") == []
    made = output_of("create", "pacs [router]", "--scope", "metrics")
    assert (made["name"], made["scopes"], made["state"]) == ("pacs [router]", ["metrics"], "active")
    assert output_of("create", "worklist")["scopes"] == ["diagnose", "read"]
    turned = output_of("rotate", made["id"], "--overlap-hours", "2")
    assert turned["id"] == made["id"]
    assert turned["token"] != made["token"]
    assert len(turned["ends"]) == 2
    assert turned["ends"][1] is None
    for hours in ("inf", "1e8", "-1"):
        assert "--overlap-hours" in _refused(capsys, ["keys", "rotate", made["id"], "--overlap-hours", hours])
    assert output_of("revoke", made["id"])["state"] == "revoked"
    assert [line["state"] for line in output_of("list")] == ["revoked", "active"]
    assert main(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert "pacs [router]" in shown
    assert made["token"].rpartition("_")[2] not in shown
    assert "--scope: got 'root', must be one of read, diagnose" in _refused(
        capsys, ["keys", "create", "a", "--scope", "root"]
    )
    assert "id: got 'x', must be the id of a key" in _refused(capsys, ["keys", "revoke", "x"])
    (tmp_path / "keys.json").write_text("{")
    assert "is no file of API keys" in _refused(capsys, ["keys", "list"], code=1)


def test_a_new_key_s_token_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_KEYS", str(tmp_path / "keys.json"))
    assert main(["keys", "create", "pacs"]) == 0
    key, token = capsys.readouterr().out.splitlines()
    assert key.endswith("(pacs): diagnose, read")
    assert token.startswith(f"the token, shown this once: csl_{key.partition(' ')[0]}_")


def test_a_model_or_a_service_is_asked_and_not_both(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    note = ["--note", "history=fever"]
    assert "model: got None, must be given, or --url" in _refused(capsys, ["diagnose", *note])
    assert "must be given, or --url instead" in _refused(capsys, ["diagnose", model, "--url", "http://h", *note])
    assert "url: got 'localhost'" in _refused(capsys, ["diagnose", "--url", "localhost", *note])


def test_a_sound_cohort_has_no_problems(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check", str(cohort), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["counts"]["studies"] == 200
    assert report["counts"]["images"] == len(list((cohort / "images").iterdir()))
    with (cohort / "studies.csv").open() as file:
        rows = list(csv.DictReader(file))
    training = [row for row in rows if row["split"] == "train"]
    counted = next(line for line in report["labels"] if line["finding"] == "pneumonia" and line["split"] == "train")
    assert counted["present"] == sum(row["label:pneumonia"] == "1" for row in training)
    assert counted["present"] + counted["absent"] + counted["unknown"] == len(training)
    assert report["audit"]["verdict"] == "sound", report["audit"]["concerns"]
    assert main(["check", str(cohort), "--no-audit"]) == 0
    output = capsys.readouterr().out
    assert "no problems" in output
    assert "audit" not in output


@pytest.mark.parametrize(
    "command", [["serve"], ["evaluate", "--cohort", "anywhere"], ["diagnose", "--note", "history=fever"]]
)
def test_a_cohort_in_the_place_of_a_model_is_refused(
    cohort: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    name, *options = command
    assert "this folder is a cohort" in _refused(capsys, [name, str(cohort), *options])


def test_a_spoiled_cohort_is_refused_problem_by_problem(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled = tmp_path / "spoiled"
    subprocess.run(["cp", "-r", str(cohort), str(spoiled)], check=True)
    first, second, third, *_ = sorted((spoiled / "images").iterdir())
    first.write_bytes(first.read_bytes()[:-500])
    third.write_bytes(second.read_bytes())
    capsys.readouterr()
    assert main(["check", str(spoiled), "--no-audit", "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert any(problem.startswith(f"images/{first.name}: ") for problem in problems)
    assert any("stand in studies of several patients" in problem for problem in problems)
    assert len(problems) == 2


def test_every_problem_of_a_table_is_reported_not_the_first_one_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["study,patient,label:gout,split,note_history", "s1,p1,1,exam,pain", "s2,p2,2,train,pain", "s2,p3,1,test,x"]
    (tmp_path / "studies.csv").write_text("\n".join(lines))
    assert main(["check", str(tmp_path)]) == 2
    output = capsys.readouterr().err
    assert output.startswith("error: 3 problem(s):\n")
    for problem in ("row 2, split: got 'exam'", "row 3, label:gout: got '2'", "row 4, study: got 's2'"):
        assert f"  studies.csv {problem}" in output
    assert main(["check", str(tmp_path), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 3
    assert problems[0].startswith("studies.csv row")


def test_bad_cohorts_and_recipes_are_refused_in_one_line(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert "out: got" in _refused(capsys, ["phantom", str(cohort), "--studies", "10", "--seed", "1"])
    assert "out: got '/proc/p', must be a folder" in _refused(
        capsys, ["phantom", "/proc/p", "--studies", "1", "--seed", "1"]
    )
    assert "studies: got 0" in _refused(capsys, ["phantom", str(tmp_path / "p"), "--studies", "0", "--seed", "1"])
    unknown = ["phantom", str(tmp_path / "p"), "--studies", "1", "--seed", "1", "--modalities", "image, sonogram"]
    assert "modalities: got 'sonogram', must be one of image, text" in _refused(capsys, unknown)
    scheme = ["phantom", str(tmp_path / "p"), "--studies", "1", "--seed", "1", "--scheme", "crossed"]
    assert "scheme: got 'crossed', must be one of ordinary, interaction" in _refused(capsys, scheme)
    assert "cohort: got" in _refused(capsys, ["check", str(tmp_path)])
    train = ["train", "phantom-tiny", "--cohort", str(cohort)]
    assert "the nearest is 'epochs'" in _refused(capsys, [*train, "--set", "training.epoch=1"])
    assert "recipe: got 'phantom-tinny'" in _refused(capsys, ["train", "phantom-tinny", "--cohort", str(cohort)])


def test_from_training_to_a_diagnosis_by_alias(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """train, models, evaluate and diagnose, each on what the one before has left."""
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    capsys.readouterr()
    fast = ["--set", "name=cli", "--set", "training.epochs=1", "--set", "evaluation.bootstrap=20"]
    assert main(["train", "phantom-tiny", "--cohort", str(cohort), *fast, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["model"] == "models:/consilium-cli/1"

    challenger = "models:/consilium-cli@challenger"
    evaluate = ["evaluate", challenger, "--cohort", str(cohort), "--out", str(tmp_path / "out"), "--json"]
    assert main(evaluate) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["model"]["version"] == "1"
    anew, before = evaluated["evaluation"]["tables"], trained["evaluation"]["tables"]
    assert evaluated["evaluation"]["studies"] == trained["evaluation"]["studies"], "the test split, evaluated anew"
    assert {"metrics", "comparisons", "coverage", "oracle_shares"} <= set(anew)
    assert anew == {name: before[name] for name in anew}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == evaluated["evaluation"]
    assert "cohort.kind: got 'phantoms'" in _last_line(capsys, [*evaluate, "--kind", "phantoms"])

    promote = ["models", "promote", "consilium-cli", "@challenger", "--reason", "good [enough]"]
    assert "consilium-cli version 1: has passed no gate; consilium gate" in _refused(capsys, promote, 1)
    assert main([*promote, "--override", "it is the first"]) == 0
    assert capsys.readouterr().out == "consilium-cli version 1: challenger, champion\n"
    assert main(["models", "show", "consilium-cli"]) == 0
    shown = capsys.readouterr().out
    assert "promoted: good [enough]" in shown
    assert "gates overridden: it is the first" in shown
    (of_image,) = re.findall(r"image ([\d,]+) of ([\d,]+)", shown)
    assert of_image[0] == of_image[1], "the whole encoder was trained"
    assert "no previous version" in _refused(capsys, ["models", "rollback", "consilium-cli", "--reason", "x"], 1)
    assert "must be one of its versions" in _refused(capsys, ["serve", "models:/consilium-cli/77"])
    assert "reason" in _refused(capsys, ["models", "promote", "consilium-cli", "1", "--reason", ""])
    assert main(["models", "list", "--json"]) == 0
    listed = {model["name"]: model["versions"] for model in json.loads(capsys.readouterr().out)}
    assert listed["consilium-cli"][0]["aliases"] == ["challenger", "champion"]

    assert main(["diagnose", "models:/consilium-cli@champion", "--note", "history=fever", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"]["manifest_digest"] == listed["consilium-cli"][0]["manifest_digest"]


def _last_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_an_interrupted_training_says_how_to_go_on(cohort: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "consilium.cli", "train", "phantom-tiny", "--cohort", str(cohort)]
    command += [
        "--set",
        "training.epochs=500",
        "--set",
        "training.patience=500",
        "--set",
        "name=interrupted",
    ]
    home = {"CONSILIUM_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    with subprocess.Popen(
        command,
        env=os.environ | home,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # These tests may run in the background, where interrupts are ignored, and what they start would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no other thread holds a lock
    ) as process:
        assert process.stderr is not None
        output = ""
        while "epoch 1 of" not in output and process.poll() is None:
            output += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output += process.stderr.read()
        assert process.wait(PATIENCE_S) == 130, output
    assert "--resume" in output
    assert "Traceback" not in output


def test_an_unavailable_registry_is_reported_within_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself, MLflow asks for longer than any test may take."""
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert "error: model store: " in _refused(capsys, ["models", "list"], code=1)
