"""Results about tiny DICOM images, and the validators that judge what is written of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.domain.diagnosis import Explanation
from consilium.output.dicom.marks import Result
from consilium.output.dicom.source import read_source
from consilium.output.reported import reported_study, revision_of
from tests.consilium.formats.dicom.dicom_files import dicom_file

NOON = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
PATIENT: dict[str, Any] = {
    "SeriesInstanceUID": "1.2.3.9",
    "Modality": "DX",
    "BodyPartExamined": "CHEST",
    "PatientBirthDate": "19500203",
    "PatientSex": "F",
    "StudyDate": "20240501",
    "StudyTime": "113000",
    "StudyID": "77",
    "AccessionNumber": "A-17",
    "ReferringPhysicianName": "",
}
_NOT = "not present in standard DICOM IOD"
DEVICE_UID = (
    f"Warning - Attribute is {_NOT} - (0x0018,0x1002) UI Device UID ",
    f"Warning - Dicom dataset contains attributes {_NOT} - this is a Standard Extended SOP Class",
)
"""What dicom3tools of 2022 do not know: Device UID in Contributing Equipment came later, and IHE AIR asks for it."""

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (make debian)")
needs_dsrdump = pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dsrdump is not installed (make debian)")


def image_file(rows: int = 40, columns: int = 60, **elements: Any) -> bytes:
    return dicom_file(np.full((rows, columns), 300, np.uint16), **{**PATIENT, **elements})


def result_of(explanation: Explanation, *files: bytes, **changes: Any) -> Result:
    sources = [read_source(data, f"images[{i}]") for i, data in enumerate(files or (image_file(),))]
    revision = revision_of(explanation.diagnosis, [(one.instance, one.digest) for one in sources])
    return Result(sources, reported_study(explanation.diagnosis, revision), NOON, **changes)


def complaints(data: bytes, folder: Path) -> list[str]:
    """What dciodvfy finds wrong with a file."""
    path = folder / "object.dcm"
    path.write_bytes(data)
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) and line not in DEVICE_UID]


needs_dcentvfy = pytest.mark.skipif(shutil.which("dcentvfy") is None, reason="dcentvfy is not installed (make debian)")


def contradictions(objects: Mapping[str, bytes], folder: Path) -> list[str]:
    """What dcentvfy finds that objects say differently of one patient, study, series or instance.

    Its warnings are of what one says and the other does not, as of an empty attribute that a hospital's image lacks.
    """
    paths = [folder / f"{name}.dcm" for name in objects]
    for path, data in zip(paths, objects.values(), strict=True):
        path.write_bytes(data)
    done = subprocess.run(["dcentvfy", *paths], capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def codes_only(explanation: Explanation) -> Explanation:
    """With a SNOMED CT concept for every finding: dciodvfy complains of private coding schemes."""
    findings = tuple(replace(one, code=one.code or "60046008") for one in explanation.diagnosis.findings)
    return replace(explanation, diagnosis=explanation.diagnosis.model_copy(update={"findings": findings}))
