"""A made-up cohort in the layout of the public one, for benchmarks that ask for it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

STUDIES, SIDE = 48, 64
_COLUMNS = (
    *("patientid", "offset", "sex", "age", "finding", "survival", "intubated", "intubation_present", "went_icu"),
    *("in_icu", "temperature", "pO2_saturation", "leukocyte_count", "neutrophil_count", "lymphocyte_count", "view"),
    *("modality", "date", "folder", "filename", "doi", "url", "clinical_notes", "other_notes"),
)
_SOURCES = ("https://www.eurorad.org/case/", "https://radiopaedia.org/cases/")
_WORDS = ("fever", "and", "dry", "cough", "for", "some", "days", "at", "home")


def write_public(root: Path) -> None:
    """Patients of two sources, every second of them in intensive care, with films of noise."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="")
        writer.writeheader()
        for number in range(STUDIES):
            severe = number % 2 == 0
            row = {
                "patientid": f"p{number}",
                "sex": "FM"[number // 2 % 2],
                "age": int(rng.integers(30, 90)),
                "finding": "Pneumonia/Viral/COVID-19",
                "went_icu": "NY"[severe],
                "temperature": f"{37 + severe + rng.random():.1f}",
                "pO2_saturation": int(rng.integers(80, 92) + (0 if severe else 7)),
                "view": "PA",
                "modality": "X-ray",
                "folder": "images",
                "filename": f"{number}.png",
                "url": _SOURCES[number // 4 % 2] + str(number),
                "clinical_notes": " ".join(rng.permutation(_WORDS)),
            }
            writer.writerow(row)
            pixels = rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / row["filename"])
