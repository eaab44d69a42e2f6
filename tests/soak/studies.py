"""Well-formed requests, and what each version of the model answers to them, computed in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from consilium.domain.study import Study
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image
from tests.consilium.formats.dicom.dicom_files import dicom_file
from tests.consilium.tiny import WORDS

STUDIES = 24
Probabilities = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One study as it is sent, and as it is read."""

    images: tuple[bytes, ...]
    records: dict[str, Any]

    def parts(self) -> list[tuple[str, Any]]:
        """For httpx."""
        records = ("request", (None, json.dumps(self.records), "application/json"))
        return [*(("images", ("x", image)) for image in self.images), records]

    def study(self) -> Study:
        return study_from_records(images=[read_image(image) for image in self.images], **self.records)


@dataclass(frozen=True, slots=True)
class Expected:
    """What is right: the digests of a study's records, and by manifest digest what each good version says of it."""

    input_digests: Mapping[str, str]
    probabilities: Mapping[str, Probabilities]


def make_studies() -> list[Asked]:
    """Some with images, notes and values, some without; no two alike."""
    return [_asked(number) for number in range(STUDIES)]


def expectations(studies: Sequence[Asked], folders: Sequence[Path]) -> list[Expected]:
    """Of each study, by the models in `folders`."""
    read = [asked.study() for asked in studies]
    expected: dict[str, list[Probabilities]] = {}
    for folder in folders:
        model = Diagnostician.load(folder, "cpu")
        expected[model.identity.manifest_digest] = [
            tuple(finding.probability for finding in diagnosis.findings) for diagnosis in model.diagnose(read)
        ]
    return [
        Expected(study.input_digests(), {digest: answers[number] for digest, answers in expected.items()})
        for number, study in enumerate(read)
    ]


def _asked(number: int) -> Asked:
    rng = np.random.default_rng(number)
    images: tuple[bytes, ...] = ()
    if number % 4 != 3:
        pixels = rng.integers(0, 256, (96 + number, 128), dtype=np.uint8)
        images = (_png(pixels), dicom_file(pixels.T))[: 1 + number % 2]
    records: dict[str, Any] = {"reference_time": "2024-05-01T12:00:00"}
    if not images or number % 3:
        text = " ".join(rng.choice(WORDS, 5))
        records["notes"] = [{"kind": "history", "text": text, "time": "2024-05-01T10:00:00"}]
    if number % 5:
        crp = round(float(rng.lognormal(3)), 1)
        records["observations"] = [{"code": "1988-5", "value": crp, "unit": "mg/L", "time": "2024-05-01T11:00:00"}]
        records["patient"] = {"age": 20 + number, "sex": "F" if number % 2 else "M"}
    return Asked(images, records)


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Picture.fromarray(pixels).save(data, "PNG")
    return data.getvalue()
