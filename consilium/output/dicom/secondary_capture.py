"""A result as a Secondary Capture: what a radiologist sees in any viewer, beside the images themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

import consilium
from consilium.domain.diagnosis import Explanation, FindingExplanation
from consilium.domain.study import Study
from consilium.formats.dicom.file_structure import quiet
from consilium.formats.dicom.own_objects import MANUFACTURER
from consilium.modalities.image.image_record import Image
from consilium.output.dicom.capture_picture import Heading, capture_picture, displayable
from consilium.output.dicom.marks import Result, base, mark, short

_SERIES_NUMBER = 9802
_SEXES = {"M": "male", "F": "female", "O": "other sex"}
_WITHOUT_SIDES = ("CHEST", "ABDOMEN", "PELVIS", "SKULL", "HEAD", "NECK", "SPINE", "CSPINE", "TSPINE", "LSPINE")


def secondary_capture(result: Result, study: Study, explanation: Explanation) -> Dataset:
    """The capture of `result`: the study's images with the evidence for the finding that is most worth a look."""
    images: tuple[Image, ...] = study.parts["image"]
    shown = most_notable(explanation)
    made = f"made {result.local:%Y-%m-%d %H:%M} (UTC{result.local:%z}) by Consilium {consilium.__version__}"
    pixels = capture_picture(_heading(result), images, result.reported, shown, made)
    with quiet():
        capture = base(result, "sc", uid.SecondaryCaptureImageStorage)
        if shown is not None:  # another overlay is another object
            method = ",".join(sorted(shown.methods.values()))
            capture.SOPInstanceUID = result.reported.uid("sc", shown.finding, method)
        _add_content(capture, result, pixels)
        return mark(capture, result, "AI findings. Not for primary diagnosis")


def most_notable(explanation: Explanation) -> FindingExplanation | None:
    """The explained finding that is called, else the likeliest; None where none was explained."""
    results = explanation.diagnosis
    order = sorted(explanation.findings, key=lambda one: (results[one.finding].call, results[one.finding].probability))
    return order[-1] if order else None


def _heading(result: Result) -> Heading:
    """The lines that name the patient and the study, of what the source says and nothing else."""
    source = result.sources[0].dataset
    name = str(source.PatientName).partition("=")[0].replace("^", " ").strip()
    born = f"born {_day(source.PatientBirthDate)}" if source.PatientBirthDate else ""
    identifier = f"ID {source.PatientID}" if source.PatientID else ""
    patient = [one for one in (name, identifier, _SEXES.get(source.PatientSex, ""), born) if one]
    taken = f"study of {_day(source.StudyDate)}" if source.StudyDate else "study without a date"
    order = f"accession {source.AccessionNumber}" if source.AccessionNumber else ""
    return Heading(
        displayable(",  ".join(patient)) or "patient not named in the images",
        displayable(",  ".join(one for one in (taken, order) if one)),
    )


def _day(date: object) -> str:
    shown = str(date)
    return f"{shown[:4]}-{shown[4:6]}-{shown[6:]}"


def _add_content(capture: Dataset, result: Result, pixels: npt.NDArray[np.uint8]) -> None:
    capture.Modality, capture.SeriesNumber = "OT", _SERIES_NUMBER
    capture.ConversionType = "WSD"
    capture.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    capture.SecondaryCaptureDeviceManufacturerModelName = short(result.reported.model.name)
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.PatientOrientation = ""
    _add_body_part(capture, result.sources[0].dataset)
    capture.BurnedInAnnotation, capture.RecognizableVisualFeatures = "YES", "NO"
    capture.LossyImageCompression = "00"
    capture.DerivationDescription = "Images with findings, evidence and referral of a model. Decision support."
    capture.SourceImageSequence = [_reference(source.dataset) for source in result.sources]
    capture.SamplesPerPixel, capture.PhotometricInterpretation, capture.PlanarConfiguration = 3, "RGB", 0
    capture.BitsAllocated, capture.BitsStored, capture.HighBit, capture.PixelRepresentation = 8, 8, 7, 0
    capture.Rows, capture.Columns = pixels.shape[:2]
    capture.PixelData = pixels.tobytes() + b"\x00" * (pixels.size % 2)
    capture["PixelData"].VR = "OB"


def _add_body_part(capture: Dataset, source: Dataset) -> None:
    """Body part and side, which must be there, be it unknown, unless the part has no sides (PS3.3 C.7.3.1)."""
    capture.BodyPartExamined = source.BodyPartExamined
    if source.BodyPartExamined not in _WITHOUT_SIDES:
        capture.Laterality = source.Laterality


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item
