from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from consilium.domain.study import Sex
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.image_record import ViewPosition
from training.cohorts.phantom.image.dx import Header, write_dx
from training.cohorts.phantom.image.radiograph import render_radiograph

HEADER = Header("seed 1", "P000007", "S000007", "north", datetime(2023, 4, 5, 6, 7), 71, Sex.FEMALE)


def _written(path: Path, seed: int, header: Header = HEADER) -> np.ndarray:
    shown = render_radiograph([1.0, 0, 2, 0], np.random.default_rng(seed), 96, header.site)
    write_dx(path, shown, header)
    return shown.pixels


def test_pixels_and_header_come_back(tmp_path: Path) -> None:
    pixels = _written(tmp_path / "a.dcm", 2)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    np.testing.assert_array_equal(ds.pixel_array, pixels)
    assert ds.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert (ds.Modality, ds.PresentationIntentType) == ("DX", "FOR PRESENTATION")
    assert (ds.BitsStored, ds.PhotometricInterpretation) == (12, "MONOCHROME2")
    assert (ds.PatientID, ds.PatientAge, ds.PatientSex) == ("P000007", "071Y", "F")
    assert [float(x) for x in ds.PixelSpacing] == pytest.approx([430 / 96] * 2)


def test_ingest_reads_it(tmp_path: Path) -> None:
    views = set()
    for seed in range(8):
        pixels = _written(tmp_path / "a.dcm", seed)
        image = read_dicom((tmp_path / "a.dcm").read_bytes())
        order = np.argsort(pixels.ravel(), kind="stable")
        assert (np.diff(image.pixels.ravel()[order].astype(int)) >= 0).all()
        assert image.acquired == HEADER.acquired
        views.add(image.view)
    assert views == {ViewPosition.PA, ViewPosition.AP}


def test_the_same_study_has_the_same_identifiers_and_another_has_others(tmp_path: Path) -> None:
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y")):
        _written(tmp_path / f"{name}.dcm", 1, Header(seed, "P", "S", "south", HEADER.acquired, None, Sex.UNKNOWN))
    a, b, c = (pydicom.dcmread(tmp_path / f"{name}.dcm") for name in "abc")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert not {a.SOPInstanceUID, a.StudyInstanceUID, a.SeriesInstanceUID} & {c.SOPInstanceUID, c.StudyInstanceUID}
    assert len({a.SOPInstanceUID, a.StudyInstanceUID, a.SeriesInstanceUID}) == 3
    assert "PatientAge" not in a
    assert a.PatientSex == ""
    assert b.SOPInstanceUID == a.file_meta.MediaStorageSOPInstanceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    for seed, header in enumerate((HEADER, Header("z", "P1", "S1", "harbour", HEADER.acquired, None, Sex.UNKNOWN)) * 2):
        _written(tmp_path / "a.dcm", seed, header)
        done = subprocess.run(
            ["dciodvfy", "-new", str(tmp_path / "a.dcm")],
            capture_output=True,
            text=True,
            check=False,
        ).stderr
        assert "DXImageForPresentation" in done
        assert "Error" not in done, done
        assert "Warning" not in done, done
