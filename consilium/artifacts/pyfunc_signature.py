"""What the MLflow model of an artifact takes, gives and needs installed.

One row is one study; every column may be missing or empty, as long as some modality is there.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import requires, version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from packaging.requirements import Requirement
from packaging.version import Version

from consilium.artifacts.manifest import read_findings
from consilium.artifacts.mlflow_store import tracking_uri
from consilium.configuration.recipe import Recipe
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import file_inputs, json_inputs

ARTIFACT = "artifact"
"""Key of the artifact's folder among the MLflow model's artifacts."""

AGE, SEX, REFERENCE_TIME = "age", "sex", "reference_time"


def columns() -> tuple[str, ...]:
    """Names of the columns: files, lists of records, and what is known of the patient."""
    return (*file_inputs(), *json_inputs(), AGE, SEX, REFERENCE_TIME)


def signature(findings: FindingSet) -> ModelSignature:
    """Records of a study → one probability per finding.

    Files, such as ``images``, are a list of base64 texts; records, such as ``notes``, are JSON lists as the service
    takes them. Base64 and no binary column: MLflow turns a text in one into its characters' bytes without a word.
    """
    inputs = [ColSpec(Array(DataType.string), name, required=False) for name in file_inputs()]
    inputs += [ColSpec(DataType.string, name, required=False) for name in json_inputs()]
    inputs += [
        ColSpec(DataType.double, AGE, required=False),
        ColSpec(DataType.string, SEX, required=False),
        ColSpec(DataType.string, REFERENCE_TIME, required=False),
    ]
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, name) for name in findings.names]))


def input_example() -> pd.DataFrame:
    """One invented study without files, as the stored model shows it to its users."""
    records = {given.name: json.dumps([dict(one) for one in given.example]) for given in json_inputs().values()}
    return pd.DataFrame([records | {AGE: 67.0, SEX: "F"}])


def pip_requirements() -> list[str]:
    """What diagnosing needs, pinned as it is installed here: the core and the extras ``model`` and ``records``."""
    wanted = [Requirement(line) for line in requires("consilium") or ()]
    needed = {one.name for one in wanted if one.name != "consilium" and _applies(one)}
    return sorted(f"{name}=={Version(version(name)).public}" for name in needed)


def _applies(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("model", "records"))


def log_pyfunc(artifact_folder: Path, recipe: Recipe, run_id: str) -> ModelInfo:
    """Log a models-from-code pyfunc over the artifact, for consumers that know MLflow alone."""
    package = Path(__file__).parents[1]
    mlflow.set_tracking_uri(tracking_uri())
    with _active_run(run_id):
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "inference" / "pyfunc_model.py"),
            artifacts={ARTIFACT: str(artifact_folder.resolve())},
            code_paths=[str(package)],
            pip_requirements=pip_requirements(),
            signature=signature(read_findings(artifact_folder)),
            input_example=input_example(),
            metadata={"recipe": recipe.name},
        )


def _active_run(run_id: str) -> AbstractContextManager[object]:
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        return nullcontext()
    return mlflow.start_run(run_id=run_id, nested=active is not None)
