"""The answer to a study as DICOM objects, once for all destinations that take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from pydicom.dataset import Dataset

from consilium.api.explanations import read_explanation
from consilium.domain.diagnosis import Explanation
from consilium.formats.time_zone import TimeZone
from consilium.ingest.study_records import read_files, study_from_records
from consilium.output.dicom.marks import Result, file_bytes
from consilium.output.dicom.secondary_capture import secondary_capture
from consilium.output.dicom.segmentation import segmentation
from consilium.output.dicom.source import SourceImage, read_source
from consilium.output.dicom.structured_report import structured_report
from consilium.output.reported import ReportedStudy, reported_study
from hospital.store.state import Delivery
from hospital.studies.answered_study import AnsweredStudy, reported_revision


class DicomResults:
    """The objects of one revision, each made when it is first wanted.

    Parameters
    ----------
    study : AnsweredStudy
    zone : TimeZone
        By whose clocks they are dated, where the images name no offset of theirs.

    Raises
    ------
    InputError
        The images of the study name no patient and study that results can take over.
    """

    def __init__(self, study: AnsweredStudy, zone: TimeZone) -> None:
        self._study = study
        self._zone = zone
        self._files = tuple(study.files)
        self._objects: dict[str, list[Dataset]] = {}

    def deliveries(self, destination: str, kinds: Sequence[str]) -> list[Delivery]:
        """For one destination, objects of these `kinds`: ``sr``, ``sc``, ``seg``."""
        revision = self._study.revision.revision
        return [
            Delivery(str(made.SOPInstanceUID), destination, kind, file_bytes(made), self._study.study, revision)
            for kind in kinds
            for made in self._made(kind)
        ]

    @cached_property
    def reported(self) -> ReportedStudy:
        """What is reported, in whatever format."""
        return reported_study(self.explanation.diagnosis, self._study.revision.revision)

    @cached_property
    def explanation(self) -> Explanation:
        return read_explanation(self._study.answer)

    @cached_property
    def result(self) -> Result:
        return Result(self._sources, self.reported, self._zone.local(self._study.created), self._study.revision.number)

    @cached_property
    def previous(self) -> Result | None:
        """The result that this one supersedes."""
        former = self._study.previous
        if former is None:
            return None
        created = self._zone.local(former.time)
        return Result(self._sources, reported_revision(former), created, former.number)

    @cached_property
    def _sources(self) -> list[SourceImage]:
        return [read_source(data, f"images[{number}]") for number, data in enumerate(self._files)]

    def _made(self, kind: str) -> list[Dataset]:
        if kind not in self._objects:
            self._objects[kind] = _MAKERS[kind](self)
        return self._objects[kind]

    def _report(self) -> list[Dataset]:
        return [structured_report(self.result, self.previous)]

    def _capture(self) -> list[Dataset]:
        study = study_from_records(**read_files({"images": self._files}))
        return [secondary_capture(self.result, study, self.explanation)]

    def _evidence(self) -> list[Dataset]:
        return [segmentation(self.result, self.explanation, number) for number in self._looked_at]

    @property
    def _looked_at(self) -> list[int]:
        """The images in which there is evidence for something."""
        maps = [one for finding in self.explanation.findings for one in finding.parts.get("image", ())]
        return sorted({one.image for one in maps})


_MAKERS: Mapping[str, Callable[[DicomResults], list[Dataset]]] = {
    "sr": DicomResults._report,
    "sc": DicomResults._capture,
    "seg": DicomResults._evidence,
}
