"""What the MLflow model of an artifact takes, gives and needs installed.

One row is one study; every column may be missing or empty, as long as some modality is there.
"""

from __future__ import annotations

import json
from importlib.metadata import requires, version

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from packaging.requirements import Requirement
from packaging.version import Version

from consilium.domain.findings import FindingSet

ARTIFACT = "artifact"
"""Key of the artifact's folder among the MLflow model's artifacts."""

IMAGES, NOTES, OBSERVATIONS, AGE, SEX, REFERENCE_TIME = (
    "images",
    "notes",
    "observations",
    "age",
    "sex",
    "reference_time",
)
COLUMNS = (IMAGES, NOTES, OBSERVATIONS, AGE, SEX, REFERENCE_TIME)


def signature(findings: FindingSet) -> ModelSignature:
    """Records of a study → one probability per finding.

    ``images`` is a list of base64 texts (DICOM, PNG, JPEG or TIFF files); ``notes`` and ``observations`` are JSON lists
    as the service takes them. Base64 and no binary column: MLflow turns a text in one into its characters' bytes
    without a word.
    """
    columns = [
        ColSpec(Array(DataType.string), IMAGES, required=False),
        ColSpec(DataType.string, NOTES, required=False),
        ColSpec(DataType.string, OBSERVATIONS, required=False),
        ColSpec(DataType.double, AGE, required=False),
        ColSpec(DataType.string, SEX, required=False),
        ColSpec(DataType.string, REFERENCE_TIME, required=False),
    ]
    return ModelSignature(Schema(columns), Schema([ColSpec(DataType.double, name) for name in findings.names]))


def input_example() -> pd.DataFrame:
    """One invented study without an image, as the stored model shows it to its users."""
    note = {"kind": "history", "text": "Fever and productive cough for three days."}
    observation = {"code": "1988-5", "value": 112.0, "unit": "mg/L"}
    return pd.DataFrame(
        [{NOTES: json.dumps([note]), OBSERVATIONS: json.dumps([observation]), AGE: 67.0, SEX: "F"}],
    )


def pip_requirements() -> list[str]:
    """What diagnosing needs, pinned as it is installed here: the core and the extras ``model`` and ``records``."""
    wanted = [Requirement(line) for line in requires("consilium") or ()]
    needed = {one.name for one in wanted if one.name != "consilium" and _applies(one)}
    return sorted(f"{name}=={Version(version(name)).public}" for name in needed)


def _applies(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("model", "records"))
