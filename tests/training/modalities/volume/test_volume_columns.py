"""Names in the headers of volumes are found, whatever the file is; no damaged file ends the reading of a cohort."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from consilium.modalities.registry import modalities
from tests.consilium.modalities.volume.made import enhanced, files, nifti, packed, stored, written
from training.cohorts.column_reader import CohortTables
from training.modalities.volume.volume_columns import VolumeColumns

LARGE = (8, 300, 300)
FILES: dict[str, Callable[[], bytes]] = {
    "a series": lambda: packed(files(stored())),
    "a series behind another file": lambda: packed(
        {"0": b"read me", **dict(zip("abcd", files(stored()), strict=False))}
    ),
    "large slices": lambda: packed(files(stored(0, (4, 800, 800)))),
    "an enhanced object": lambda: written(enhanced(stored(0, LARGE))),
    "a deflated one": lambda: written(enhanced(stored(0, LARGE)), DeflatedExplicitVRLittleEndian),
}


def names(root: Path, data: bytes) -> list[str]:
    (root / "volume").write_bytes(data)
    studies = pd.DataFrame({"volumes": ["volume"]})
    context: Any = None
    return list(VolumeColumns(modalities()["volume"], CohortTables(root, studies, {}, context)).names(0))


@pytest.mark.parametrize("what", FILES)
def test_the_names_of_a_header_are_found(what: str, tmp_path: Path) -> None:
    assert names(tmp_path, FILES[what]()) == ["Doe^Jane", "4711"]


def test_a_file_without_a_header_of_dicom_names_nobody(tmp_path: Path) -> None:
    assert names(tmp_path, nifti(stored())) == []
    assert names(tmp_path, b"") == []


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damaged_archives_are_left_to_the_reader_of_volumes(compression: int, tmp_path: Path) -> None:
    random, whole = Random(0), packed(files(stored()), compression)
    directory = whole.index(b"PK\x01\x02")
    for number in range(100):
        damaged = bytearray(whole)
        for _ in range(number % 20 + 1):
            damaged[random.randrange(4, len(whole))] = random.randrange(256)
            damaged[random.randrange(directory, len(whole))] = random.randrange(256)
        names(tmp_path, bytes(damaged))
    assert names(tmp_path, whole) == ["Doe^Jane", "4711"]
