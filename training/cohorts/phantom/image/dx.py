"""DX: a rendered radiograph as a DICOM file.

Source: DICOM PS3.3 A.26 (Digital X-Ray Image IOD, for presentation) and the modules it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from consilium.domain.study import Sex
from consilium.modalities.image.image_record import ViewPosition
from training.cohorts.phantom.image.radiograph import BITS, Radiograph

_VIEWS = {
    ViewPosition.PA: codes.SCT.PosteroanteriorProjection,
    ViewPosition.AP: codes.SCT.AnteroPosteriorProjection,
}


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says beside the pixels.

    Attributes
    ----------
    seed : str
        What the UIDs are made of: the same seed gives the same file.
    age : int or None, sex : Sex
        None and unknown where the study has no values: age and sex belong to them.
    """

    seed: str
    patient_id: str
    study_id: str
    site: str
    acquired: datetime
    age: int | None
    sex: Sex


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _identify(ds: FileDataset, header: Header, radiograph: Radiograph) -> None:
    """Patient, study, series, equipment."""
    date, time = header.acquired.strftime("%Y%m%d"), header.acquired.strftime("%H%M%S")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = f"Phantom^{header.patient_id}"
    ds.PatientID = header.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = header.sex.value if header.sex in (Sex.FEMALE, Sex.MALE) else ""
    if header.age is not None:
        ds.PatientAge = f"{header.age:03d}Y"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[header.seed, "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[header.seed, "series"])
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.StudyID = header.study_id
    ds.StudyDescription = "Chest radiograph"
    ds.AccessionNumber = header.study_id
    ds.ReferringPhysicianName = ""
    ds.Modality = "DX"
    ds.SeriesNumber = ds.InstanceNumber = 1
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Manufacturer = radiograph.device["manufacturer"]
    ds.ManufacturerModelName = radiograph.device["model"]
    ds.InstitutionName = header.site
    ds.DeviceSerialNumber = f"{header.site}-{radiograph.device['model']}"
    ds.SoftwareVersions = "1"


def _position(ds: FileDataset, radiograph: Radiograph) -> None:
    """What was imaged, and from where."""
    ds.BodyPartExamined = "CHEST"
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = [_coded(codes.SCT.Chest)]
    ds.ViewPosition = radiograph.view.value
    view = _coded(_VIEWS[radiograph.view])
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.PatientOrientation = ["L", "F"]
    ds.PositionerType = "COLUMN"
    ds.AcquisitionContextSequence = []


def _pixels(ds: FileDataset, radiograph: Radiograph) -> None:
    rows, columns = radiograph.pixels.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, BITS, BITS - 1, 0
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.WindowCenter, ds.WindowWidth = str(2 ** (BITS - 1)), str(2**BITS)
    spacing = f"{radiograph.pixel_spacing:.8g}"
    ds.ImagerPixelSpacing = [spacing, spacing]
    ds.PixelSpacing = [spacing, spacing]
    ds.PixelSpacingCalibrationType = "GEOMETRY"
    ds.PixelSpacingCalibrationDescription = "Detector plane"
    ds.DetectorType = "DIRECT"
    ds.DetectorID = ds.DeviceSerialNumber
    ds.set_pixel_data(radiograph.pixels, "MONOCHROME2", BITS, generate_instance_uid=False)


def write_dx(path: Path, radiograph: Radiograph, header: Header) -> None:
    """Write `radiograph` as a Digital X-Ray Image for presentation, Explicit VR Little Endian, uncompressed."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[header.seed, "image"])
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _identify(ds, header, radiograph)
    _position(ds, radiograph)
    _pixels(ds, radiograph)
    ds.save_as(path, enforce_file_format=True)
