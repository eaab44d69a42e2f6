"""The artifact as an MLflow pyfunc, for consumers that know MLflow alone. MLflow runs this file; nothing imports it.

This project's own service and command load the artifact with `Diagnostician`: two versions of one pyfunc's code in one
process would run the first one's, silently. Images are decoded in the caller's process; the service decodes them where
a hostile file can do no harm.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.pyfunc_signature import AGE, ARTIFACT, REFERENCE_TIME, SEX, columns
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import read_files, study_from_records
from consilium.modalities.registry import file_inputs, json_inputs

_Row = dict[str, Any]


class DiagnosisPyfunc(PythonModel):
    """A row per study, a column per finding: the fused, calibrated probability."""

    def load_context(self, context: PythonModelContext) -> None:
        """Verify and load the artifact; MLflow calls this once."""
        folder = Path(context.artifacts[ARTIFACT])
        artifact = load_artifact(folder)
        identity = ModelIdentity(artifact.recipe.registered_name, "pyfunc", verify(folder))
        self._diagnostician = Diagnostician(artifact, identity)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Probabilities [N, F] of the N studies in `model_input`; `consilium.artifacts.pyfunc_signature` has its
        columns.

        Raises
        ------
        InputError
            Names the row and the column.
        """
        names = list(self._diagnostician.findings.names)
        answers = []
        for number, row in enumerate(_rows(model_input)):
            try:
                diagnosis = self._diagnostician.diagnose([_study(row, self._diagnostician.variables)])[0]
            except InputError as error:
                raise error.at(f"[{number}]") from None
            answers.append([diagnosis[name].probability for name in names])
        return pd.DataFrame(answers, columns=names, index=model_input.index)


def _rows(frame: pd.DataFrame) -> list[_Row]:
    unknown = sorted(set(frame.columns) - set(columns()))
    if unknown:
        raise InputError("columns", unknown[0], f"must be of {', '.join(columns())}")
    return [{str(key): value for key, value in row.items() if not _missing(value)} for row in frame.to_dict("records")]


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _study(row: _Row, variables: VariableTable) -> Study:
    # In this process: worker processes would run a caller's script again, which may lack the usual guard.
    files = read_files({name: _files(row[name], name) for name in file_inputs() if name in row})
    sent: dict[str, Any] = {**files, **{name: _records(row, name) for name in json_inputs()}}
    sent["patient"] = {key: row[key] for key in (AGE, SEX) if key in row}
    return study_from_records(**sent, reference_time=row.get(REFERENCE_TIME), variables=variables)


def _files(value: object, name: str) -> list[bytes]:
    return [_file(one, f"{name}[{number}]") for number, one in enumerate(_list(value, name))]


def _list(value: object, field: str) -> list[Any]:
    if hasattr(value, "tolist"):  # MLflow hands arrays over as NumPy's
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise InputError(field, type(value).__name__, "must be a list")
    return list(value)


def _file(value: object, field: str) -> bytes:
    if not isinstance(value, str):
        raise InputError(field, type(value).__name__, "must be the file as base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(field, "a text that is no base64", "must be the file as base64 text") from None


def _records(row: _Row, column: str) -> list[Any]:
    text = row.get(column, "[]")
    if not isinstance(text, str):
        raise InputError(column, type(text).__name__, "must be a JSON list as text")
    try:
        return _list(json.loads(text), column)
    except (ValueError, RecursionError):
        raise InputError(column, "a text that is no JSON", "must be a JSON list as text") from None


mlflow.models.set_model(DiagnosisPyfunc())
