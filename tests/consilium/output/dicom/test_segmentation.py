from dataclasses import replace
from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from consilium.domain.errors import InputError
from consilium.output.dicom.marks import file_bytes
from consilium.output.dicom.segmentation import segmentation
from tests.consilium.output.dicom.results import image_file, result_of
from tests.consilium.tiny_answer import explanation


def test_each_explained_finding_is_a_segment_of_its_evidence_for():
    made = hd.seg.Segmentation.from_dataset(
        dcmread(BytesIO(file_bytes(segmentation(result_of(explanation()), explanation()))))
    )
    assert [one.SegmentLabel for one in made.SegmentSequence] == ["Evidence for Alpha", "Evidence for Beta"]
    expected = np.clip(np.linspace(-1, 1, 2400).reshape(40, 60), 0, None)
    assert made.pixel_array.shape == (2, 40, 60)
    np.testing.assert_allclose(made.pixel_array[0] / 255, expected, atol=1 / 255)
    assert made.SegmentationType == "FRACTIONAL"


def test_evidence_is_of_the_image_that_it_refers_to():
    made = segmentation(result_of(explanation()), explanation())
    assert made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"


def test_image_at_which_the_model_did_not_look_has_no_segmentation():
    result = result_of(explanation(), image_file(), image_file(SOPInstanceUID="1.2.3.5"))
    with pytest.raises(InputError, match=r"must have evidence in images\[1\]"):
        segmentation(result, explanation(), 1)
    with pytest.raises(InputError, match="must have evidence"):
        segmentation(result, replace(explanation(), findings=()))


def test_map_of_another_grid_is_refused():
    with pytest.raises(InputError, match="must be of 40 x 60 pixels"):
        segmentation(result_of(explanation(), image_file(20, 30)), explanation())
