"""The evidence of a result as a fractional segmentation of its images: one segment a finding that was explained.

A segment holds evidence for the finding, from none to the strongest of all findings; it is no outline of a lesion. Few
viewers show segmentations of radiographs.
"""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from consilium.domain.diagnosis import Explanation, FindingExplanation
from consilium.domain.errors import InputError
from consilium.formats.dicom.file_structure import quiet
from consilium.formats.dicom.own_objects import MANUFACTURER
from consilium.output.dicom.marks import Result, mark, short
from consilium.output.dicom.structured_report import finding_concept
from consilium.output.reported import derived_uid

_SERIES_NUMBER = 9803
_STEPS = 255

Maps = npt.NDArray[np.float32]


def segmentation(result: Result, explanation: Explanation, image: int = 0) -> Dataset:
    """The evidence in one `image` of the study.

    Raises
    ------
    InputError
        No explained finding has evidence in the image.
    """
    found = [(one, maps[0]) for one in explanation.findings if (maps := _maps(one, image))]
    if not found:
        raise InputError("findings", [], f"must have evidence in images[{image}]: this model did not look at it")
    strongest = max(float(one.max(initial=0.0)) for _, one in found)
    values = np.stack([one / (strongest or 1.0) for _, one in found], axis=-1)
    methods = sorted({method for one, _ in found for method in one.methods.values()})
    with quiet():
        made = hd.seg.Segmentation(
            source_images=[_source(result.sources[image].dataset, values.shape[:2])],
            pixel_array=values[None],
            segmentation_type="FRACTIONAL",
            fractional_type="OCCUPANCY",
            max_fractional_value=_STEPS,
            segment_descriptions=[_segment(result, one, number) for number, (one, _) in enumerate(found, 1)],
            series_instance_uid=result.series_uid("seg"),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=result.reported.uid("seg", str(image), *(one.finding for one, _ in found), *methods),
            instance_number=result.number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=short(result.reported.model.name),
            software_versions=short(result.reported.model.version),
            device_serial_number=result.reported.model.manifest_digest[:64],
            content_label="EVIDENCE",
            content_description="Evidence for findings. Not an outline of a lesion",
            omit_empty_frames=False,
        )
        made.PatientOrientation = ""
        return mark(made, result, "AI evidence (segmentation)")


def _maps(finding: FindingExplanation, image: int) -> list[Maps]:
    """Evidence for the finding in `image`, against it nothing."""
    return [np.clip(np.nan_to_num(one.values), 0, None) for one in finding.parts.get("image", ()) if one.image == image]


def _source(dataset: Dataset, shape: tuple[int, int]) -> Dataset:
    if (dataset.Rows, dataset.Columns) != shape:
        raise InputError("images", f"{dataset.Rows} x {dataset.Columns}", f"must be of {shape[0]} x {shape[1]} pixels")
    return dataset


def _segment(result: Result, finding: FindingExplanation, number: int) -> Any:
    reported = result.reported
    named = next(one for one in reported.findings if one.name == finding.finding)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=short(reported.model.name),
        family=codes.DCM.ArtificialIntelligence,
        version=short(reported.model.version),
    )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=short(f"Evidence for {finding.display}"),
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=finding_concept(named),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_id=short(f"{reported.model.name} {named.name}"),
        tracking_uid=derived_uid(result.sources[0].study, "finding", reported.model.name, named.name),
    )
