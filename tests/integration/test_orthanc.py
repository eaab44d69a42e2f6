"""What the tests of the gateway take for granted of Orthanc."""

from __future__ import annotations

from pydicom.uid import DigitalXRayImageStorageForPresentation

from tests.hospital.dicom.samples import encoded, part10, radiograph, uid
from tests.orthanc import Orthanc


def test_what_was_uploaded_is_found_and_comes_back_with_the_same_data_set(orthanc: Orthanc) -> None:
    sent = radiograph(1)
    orthanc.upload(part10(sent))
    orthanc.upload(part10(radiograph(2)))
    orthanc.upload(part10(radiograph(1, study="B")))
    assert orthanc.instances(uid("study", "A")) == {
        uid("instance", "A", number): DigitalXRayImageStorageForPresentation for number in (1, 2)
    }
    assert orthanc.download(sent.SOPInstanceUID).endswith(encoded(sent))
    orthanc.clear()
    assert orthanc.instances(uid("study", "A")) == {}


def test_content_that_comes_again_under_its_uid_is_silently_passed_over(orthanc: Orthanc) -> None:
    """Why a corrected result needs a UID of its own."""
    orthanc.upload(part10(radiograph(1)))
    orthanc.upload(part10(radiograph(1, StudyID="2")))
    assert orthanc.download(uid("instance", "A", 1)).endswith(encoded(radiograph(1)))
