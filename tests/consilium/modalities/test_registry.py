from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consilium.modalities.registry import any_record, default_limits, file_inputs, json_inputs, modality_of
from tests.patience import PATIENCE_S

MODULE = """
from consilium.domain.study import Record
from consilium.domain.wire import Wire
from consilium.modalities.modality import CommandOption, FileInput, JsonInput, Limit, Modality

class StepRecord(Wire):
    count: int

class Step(Record):
    field = "steps"

MODALITY = Modality(
    name="steps", display="Steps", record="step count",
    preparation="steps_modality:Step", encoder="steps_modality:Step",
    inputs=(
        JsonInput(
            name={name!r}, schema="steps_modality:StepRecord", read="steps_modality:Step",
            most=Limit("steps", 9, 7), example=({{"count": 3}},),
            option=CommandOption(name="--step", help="A count."),
        ),
        FileInput(
            name="step_files", read="steps_modality:Step", most=Limit("step_files", 9, 7),
            most_bytes=Limit("step_file_bytes", 9, 7), option=CommandOption(name="--step-file", help="A file."),
        ),
    ),
)
"""
COMPOSED = """
from consilium.api.schemas import DIAGNOSE_EXAMPLE, DiagnoseRequest, parse_request
from service.settings import Settings
request = parse_request(DiagnoseRequest, b'{"steps": [{"count": 4}]}')
assert request.records["steps"][0].count == 4, request
assert DIAGNOSE_EXAMPLE["steps"] == [{"count": 3}]
limits = Settings(model="m", max_step_file_bytes=5).limits
assert (limits["steps"], limits["step_file_bytes"]) == (7, 5), limits
from consilium.artifacts.pyfunc_signature import columns
assert {"steps", "step_files"} <= set(columns())
from consilium.cli import app
from typer.testing import CliRunner
shown = CliRunner().invoke(app, ["diagnose", "--help"], env={"COLUMNS": "200"}).output
assert "--step-file" in shown and "--step " in shown, shown
print("composed")
"""


def test_inputs_and_limits_are_those_that_modalities_declare() -> None:
    assert list(file_inputs()) == ["images", "ecgs", "volumes", "sounds"]
    assert list(json_inputs()) == ["notes", "observations"]
    assert modality_of("notes").name == "text"
    assert default_limits()["image_pixels"] == 64_000_000
    with pytest.raises(KeyError):
        default_limits().but(image_pixel=1)
    assert any_record() == "an image, a note, an observation, an ECG, a volume or a sound"


def run(folder: Path, name: str, script: str) -> subprocess.CompletedProcess[str]:
    """`script` in a process in which an entry point registers a modality whose records are sent as `name`."""
    (folder / "steps_modality.py").write_text(MODULE.format(name=name))
    metadata = folder / "steps_modality-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: steps-modality\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[consilium.modalities]\nsteps = steps_modality:MODALITY\n")
    command = f"import sys; sys.path.insert(0, {str(folder)!r})\n{script}"
    return subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def test_a_modality_of_an_entry_point_is_in_requests_settings_signature_and_options(tmp_path: Path) -> None:
    done = run(tmp_path, "steps", COMPOSED)
    assert done.stdout.strip() == "composed", done.stderr


def test_a_key_that_requests_have_already_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "patient", "from consilium.modalities.registry import modalities; modalities()")
    assert "patient: must be declared by one modality" in done.stderr
