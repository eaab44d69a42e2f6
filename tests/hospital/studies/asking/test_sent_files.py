"""The files of a study as the service gets them."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from hospital.store.keys import open_key
from hospital.store.received import PatientId
from hospital.store.sealed_files import SealedFiles
from hospital.studies.asking.sent_files import sent_files
from tests.hospital.dicom.samples import part10, radiograph
from tests.hospital.studies.records import WARD, instance

FORMER = PatientId("17", "WARD")


@pytest.fixture
def files(tmp_path: Path) -> SealedFiles:
    return SealedFiles(tmp_path / "files", open_key(tmp_path / "key"))


def test_files_are_sent_byte_for_byte_as_they_were_received(files: SealedFiles) -> None:
    contents = [part10(radiograph(number)) for number in (1, 2)]
    images = [replace(instance(n), file=files.write(data)) for n, data in enumerate(contents, 1)]
    assert sent_files(files, images, WARD) == tuple(contents)


def test_after_a_merge_copies_name_one_patient_and_the_rest_of_them_is_the_same(files: SealedFiles) -> None:
    staying = radiograph(1, PatientID=WARD.value, IssuerOfPatientID="NORTH WARD")
    former = radiograph(2, PatientID=FORMER.value, IssuerOfPatientID="OLD")
    images = [
        replace(instance(1), file=files.write(part10(staying))),
        replace(instance(2), file=files.write(part10(former)), patient=FORMER),
    ]
    read = [pydicom.dcmread(BytesIO(data)) for data in sent_files(files, images, WARD)]
    assert [(one.PatientID, one.IssuerOfPatientID) for one in read] == [(WARD.value, "NORTH WARD")] * 2
    former.PatientID, former.IssuerOfPatientID = WARD.value, "NORTH WARD"
    assert read[1] == former
    assert files.read(str(images[1].file)) != part10(former), "what is stored stays as it was"
