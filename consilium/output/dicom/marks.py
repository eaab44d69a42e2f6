"""What all objects of a result have in common: patient and study of the source, who made them, and their UIDs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

import consilium
from consilium.formats.dicom.file_structure import quiet
from consilium.formats.dicom.own_objects import MANUFACTURER
from consilium.formats.times import dicom_offset
from consilium.output.dicom.source import UTF_8, SourceImage, require_one_study
from consilium.output.reported import ReportedStudy, derived_uid, device_uid

CODING_SCHEME = "99CONSILIUM"
"""Of findings that have no SNOMED CT concept."""
_SCHEME_NAMES = {"99IHE": "Codes of IHE that wait for a DICOM one", CODING_SCHEME: "Findings of Consilium's models"}
_IMPLEMENTATION = derived_uid("consilium", "implementation")
_COPIED = (
    *(
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
    ),
    *("StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName"),
    "TimezoneOffsetFromUTC",
)
_LONG_STRING = 64


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A result that is to be written.

    Attributes
    ----------
    sources : sequence of SourceImage
        Of one patient and one study, in the order of the study's images.
    reported : ReportedStudy
    created : datetime
        With an offset from UTC, by the clocks of the site.
    number : int
        Of the study's revisions by this model, from 1: the Instance Number.
    """

    sources: Sequence[SourceImage]
    reported: ReportedStudy
    created: datetime
    number: int = 1

    def __post_init__(self) -> None:
        require_one_study(self.sources)

    def series_uid(self, kind: str) -> str:
        """One series a kind for all revisions of a study by one model."""
        return derived_uid(self.sources[0].study, self.reported.model.manifest_digest, kind)

    @property
    def local(self) -> datetime:
        """`created` by the clock of the source where it names its offset, else by that of the site."""
        zone = dicom_offset(str(self.sources[0].dataset.get("TimezoneOffsetFromUTC", "")))
        return self.created.astimezone(zone) if zone else self.created


def short(words: str) -> str:
    """`words` as a long string (LO) may hold them."""
    return words.replace("\\", "/").strip()[:_LONG_STRING]


def base(result: Result, kind: str, sop_class: str) -> Dataset:
    """An object that holds patient, study, equipment and its own UIDs, and as yet no content."""
    made = Dataset()
    source = result.sources[0].dataset
    for keyword in _COPIED:
        if keyword in source:
            made[keyword] = source[keyword]
    made.SOPClassUID, made.SOPInstanceUID = sop_class, result.reported.uid(kind)
    made.SeriesInstanceUID, made.InstanceNumber = result.series_uid(kind), result.number
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return made


def mark(made: Dataset, result: Result, description: str) -> Dataset:
    """`made` with what tells whose it is and when it was made."""
    reported, now = result.reported, result.local
    made.SpecificCharacterSet = UTF_8
    for keyword in ("TimezoneOffsetFromUTC", "IssuerOfPatientID", "IssuerOfAccessionNumberSequence"):
        if keyword in result.sources[0].dataset:
            made[keyword] = result.sources[0].dataset[keyword]
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, short(reported.model.name)
    made.SoftwareVersions = [short(consilium.__version__), short(f"model {reported.model.version}")]
    made.DeviceSerialNumber = reported.model.manifest_digest[:_LONG_STRING]
    made.SeriesDescription = short(description)
    for event in ("InstanceCreation", "Content"):
        setattr(made, f"{event}Date", f"{now:%Y%m%d}")
        setattr(made, f"{event}Time", f"{now:%H%M%S}")
    made.ContributingEquipmentSequence = [_equipment(reported, now)]
    made.CodingSchemeIdentificationSequence = _schemes(reported)
    made.file_meta.ImplementationClassUID = uid.UID(_IMPLEMENTATION)
    made.file_meta.ImplementationVersionName = f"CONSILIUM_{consilium.__version__}"[:16]
    return made


def _equipment(reported: ReportedStudy, now: datetime) -> Dataset:
    """The model as a processing algorithm, as IHE AI Results (AIR) wants it."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "Newcode1", "99IHE"
    purpose.CodeMeaning = "Processing Algorithm"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, short(reported.model.name)
    item.SoftwareVersions = short(reported.model.version)
    item.DeviceSerialNumber = reported.model.manifest_digest[:_LONG_STRING]
    item.DeviceUID = device_uid(reported.model)
    item.ContributionDateTime = f"{now:%Y%m%d%H%M%S%z}"
    return item


def _schemes(reported: ReportedStudy) -> list[Dataset]:
    """The coding schemes in use that are no standard's."""
    items = []
    for designator, name in _SCHEME_NAMES.items():
        if designator != CODING_SCHEME or not all(finding.code for finding in reported.findings):
            item = Dataset()
            item.CodingSchemeDesignator, item.CodingSchemeName = designator, name
            items.append(item)
    return items


def file_bytes(made: Dataset) -> bytes:
    """The DICOM file of an object."""
    buffer = BytesIO()
    with quiet():  # hospitals' own identifiers may be longer than they should be, and are named in no log
        made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
