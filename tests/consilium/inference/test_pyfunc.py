"""The artifact as other programs meet it: logged with MLflow, loaded elsewhere, asked over MLflow's own HTTP."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import init
from PIL import Image as Pillow

from consilium.artifacts import model_registry as registry
from consilium.artifacts.mlflow_store import experiment_id, open_store, tracking_uri
from consilium.artifacts.pyfunc_signature import input_example, pip_requirements
from consilium.domain.errors import InputError
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image
from tests.consilium.tiny import FINDINGS
from tests.consilium.tiny_artifact import tiny_artifact
from tests.patience import PATIENCE_S

NOTES = [{"kind": "history", "text": "fever and cough, no wheeze"}]
OBSERVATIONS = [{"code": "1988-5", "value": 80.0, "unit": "mg/L"}]


@pytest.fixture(scope="module")
def uri(tiny_folder: Path) -> str:
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    version = registry.register(tiny_folder, tiny_artifact().recipe.model_copy(update={"name": "pyfunc"}), run_id, {})
    return f"models:/consilium-pyfunc/{version}"


@pytest.fixture(scope="module")
def model(uri: str) -> Any:
    mlflow.set_tracking_uri(tracking_uri())
    return mlflow.pyfunc.load_model(uri)


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 65536, (40, 50), dtype=np.uint16)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _frame() -> pd.DataFrame:
    """Studies of every kind: all, two images, one modality each."""
    return pd.DataFrame(
        {
            "images": [[_text(_png(0))], [_text(_png(1)), _text(_png(2))], [], []],
            "notes": [json.dumps(NOTES), None, json.dumps(NOTES), None],
            "observations": [json.dumps(OBSERVATIONS), None, None, json.dumps(OBSERVATIONS)],
            "age": [70.0, np.nan, np.nan, 40.0],
            "sex": ["F", None, None, "M"],
        }
    )


def _expected(tiny_folder: Path) -> list[list[float]]:
    diagnostician = Diagnostician.load(tiny_folder, "cpu")
    studies = [
        study_from_records(
            images=[read_image(_png(0))], notes=NOTES, observations=OBSERVATIONS, patient={"age": 70, "sex": "F"}
        ),
        study_from_records(images=[read_image(_png(1)), read_image(_png(2))]),
        study_from_records(images=[], notes=NOTES),
        study_from_records(images=[], notes=[], observations=OBSERVATIONS, patient={"age": 40, "sex": "M"}),
    ]
    return [[result.probability for result in diagnostician.diagnose([study])[0].findings] for study in studies]


def test_it_answers_like_the_diagnostician(tiny_folder: Path, model: Any) -> None:
    answers = model.predict(_frame())
    assert list(answers.columns) == list(FINDINGS.names)
    expected = np.array(_expected(tiny_folder))
    assert answers.to_numpy() == pytest.approx(expected, abs=1e-6)
    assert len(np.unique(expected.round(6), axis=0)) == len(expected), "each study must be answered in its own way"


def test_it_answers_alike_over_mlflow_http(tiny_folder: Path, model: Any) -> None:
    with TestClient(init(model)) as client:
        body = json.dumps({"dataframe_records": json.loads(_frame().to_json(orient="records"))})
        answer = client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    rows = [[row[name] for name in FINDINGS.names] for row in answer.json()["predictions"]]
    assert np.array(rows) == pytest.approx(np.array(_expected(tiny_folder)), abs=1e-6)


def test_it_brings_its_own_code(model: Any, uri: str, tmp_path: Path) -> None:
    """In a process that cannot see this project, the code inside the model diagnoses."""
    script = """
import json, os, sys
from importlib.util import find_spec
sys.path = [place for place in sys.path if place not in ("", os.environ["PROJECT"])]
assert find_spec("consilium") is None
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
import consilium
answer = model.predict(model.input_example)
print(json.dumps({"code": consilium.__file__, "answer": answer.iloc[0].tolist()}))
"""
    place = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    project = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", script, place],
        env={"PATH": "/usr/bin:/bin", "PROJECT": project, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout.splitlines()[-1])
    assert output["code"].startswith(place), output["code"]
    assert output["answer"] == pytest.approx(model.predict(input_example()).iloc[0].tolist(), abs=1e-6)


def test_its_requirements_are_pinned(uri: str) -> None:
    needed = pip_requirements()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", requirement) for requirement in needed)
    assert f"torch=={version('torch').partition('+')[0]}" in needed
    assert {"torch", "monai", "transformers", "pydicom", "mlflow"} <= {line.partition("==")[0] for line in needed}
    assert not any(line.startswith(("bentoml", "lightning", "ruff")) for line in needed)


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"images": ["/etc/passwd"]}, r"\[0\]\.images\[0\].*base64"),
        ({"images": ["http://127.0.0.1/x.dcm"]}, r"\[0\]\.images\[0\].*base64"),
        ({"images": [_text(b"no image")]}, r"\[0\]\.images\[0\].*must be a DICOM"),
        ({"notes": "{"}, r"\[0\]\.notes.*JSON"),
        ({"notes": '{"kind": "history"}'}, r"\[0\]\.notes.*list"),
        ({"notes": '[{"kind": "letter", "text": "x"}]'}, r"\[0\]\.notes\[0\]\.kind"),
        ({"observations": '[{"code": "1988-5", "value": [80], "unit": "mg/L"}]'}, r"\[0\]\.observations\[0\]\.value"),
        ({"notes": json.dumps(NOTES), "sex": "1"}, r"\[0\]\.patient\.sex"),
        ({"age": 40.0}, r"\[0\]\.study"),
        ({}, r"study|columns"),
    ],
)
def test_what_it_cannot_diagnose_is_refused_by_row_and_column(model: Any, row: dict[str, Any], where: str) -> None:
    frame = pd.DataFrame([{"sex": None} | row])
    with pytest.raises(InputError, match=where):
        model.predict(frame)


def test_bytes_and_unknown_columns_are_refused(model: Any) -> None:
    with pytest.raises((InputError, MlflowException), match="images"):
        model.predict(pd.DataFrame({"images": [[_png(0)]]}))
    with pytest.raises((InputError, MlflowException), match="images"):
        model.predict(pd.DataFrame({"images": [_text(_png(0))]}))
    with pytest.raises(InputError, match=r"columns: got 'age_years'"):
        model.unwrap_python_model().predict(None, pd.DataFrame({"age_years": [3]}))
