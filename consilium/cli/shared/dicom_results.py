"""The options of a command that write a result as DICOM objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilium.cli.shared.console import make_room
from consilium.domain.errors import InputError, os_cause
from consilium.formats.time_zone import site_zone

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from consilium.domain.diagnosis import Explanation
    from consilium.domain.study import Study
    from consilium.output.dicom.marks import Result
    from consilium.output.dicom.source import SourceImage

Report = Annotated[Path | None, typer.Option("--sr", help="Write a DICOM structured report (TID 1500).")]
Capture = Annotated[
    Path | None, typer.Option("--sc", help="Write a DICOM Secondary Capture that any viewer shows, with the evidence.")
]
Evidence = Annotated[
    Path | None,
    typer.Option("--seg", help="Write the evidence as a DICOM segmentation; of a second image to NAME-2, and so on."),
]

_IMAGES = "images"
"""The files of a study that can be DICOM."""


@dataclass(frozen=True, slots=True)
class DicomResults:
    """Where structured report, Secondary Capture and segmentation go; None: nowhere."""

    report: Path | None
    capture: Path | None
    evidence: Path | None

    @property
    def wanted(self) -> dict[str, Path]:
        """Paths by the option that names them."""
        given = {"--sr": self.report, "--sc": self.capture, "--seg": self.evidence}
        return {option: path for option, path in given.items() if path is not None}

    @property
    def named(self) -> dict[str, Path]:
        """Paths by what they hold."""
        return {option.strip("-"): path for option, path in self.wanted.items()}

    def sources(self, files: Mapping[str, Sequence[Path]]) -> list[SourceImage]:
        """The images among `files` that the results are about; none where nothing is wanted. Before any work.

        Raises
        ------
        InputError
            A path that cannot be written, or a study whose images are no DICOM files of one study.
        """
        if not (options := list(self.wanted)):
            return []
        for option, path in self.wanted.items():
            make_room(path, option=option)
        if not (images := files.get(_IMAGES)):
            rule = "needs a DICOM image, whose patient and study the result takes over"
            raise InputError(options[0], "no --image", rule)
        if options != ["--sc"]:
            import highdicom  # noqa: F401  where it is missing, nothing has been waited for
        return sources_of({_IMAGES: list(_read(images))})

    def write(self, sources: Sequence[SourceImage], study: Study, explanation: Explanation) -> None:
        """Write what is wanted of the answer for `study`."""
        if not self.wanted:
            return
        from consilium.output.dicom.marks import Result
        from consilium.output.reported import reported_study, revision_of

        diagnosis = explanation.diagnosis
        revision = revision_of(diagnosis, [(one.instance, one.digest) for one in sources])
        result = Result(sources, reported_study(diagnosis, revision), site_zone().local(datetime.now(UTC)))
        for option, path in self.wanted.items():
            for place, made in _WRITERS[option](path, result, study, explanation):
                _save(option, place, made)


def sources_of(files: Mapping[str, Sequence[bytes]]) -> list[SourceImage]:
    """The images among the contents of `files`; `InputError` unless they are DICOM files of one study."""
    from consilium.output.dicom.source import read_source, require_one_study

    sources = [read_source(data, f"{_IMAGES}[{position}]") for position, data in enumerate(files[_IMAGES])]
    require_one_study(sources)
    return sources


def _read(images: Sequence[Path]) -> Iterator[bytes]:
    from consilium.formats.limits import check_bytes
    from consilium.modalities.registry import default_limits

    for position, path in enumerate(images):
        try:
            check_bytes(path.stat().st_size, default_limits()["image_bytes"])
            yield path.read_bytes()
        except OSError as error:
            raise InputError("--image", str(path), f"must be a file that can be read ({os_cause(error)})") from None
        except InputError as error:
            raise error.at(f"{_IMAGES}[{position}]") from None


Written = Iterator[tuple[Path, "Dataset"]]


def _report(path: Path, result: Result, study: Study, explanation: Explanation) -> Written:
    from consilium.output.dicom.structured_report import structured_report

    del study, explanation
    yield path, structured_report(result)


def _capture(path: Path, result: Result, study: Study, explanation: Explanation) -> Written:
    from consilium.output.dicom.secondary_capture import secondary_capture

    yield path, secondary_capture(result, study, explanation)


def _evidence(path: Path, result: Result, study: Study, explanation: Explanation) -> Written:
    from consilium.output.dicom.segmentation import segmentation

    del study
    for number in range(len(result.sources)):
        place = path if number == 0 else path.with_stem(f"{path.stem}-{number + 1}")
        yield place, segmentation(result, explanation, number)


_WRITERS: dict[str, Callable[[Path, Result, Study, Explanation], Written]] = {
    "--sr": _report,
    "--sc": _capture,
    "--seg": _evidence,
}


def _save(option: str, path: Path, made: Dataset) -> None:
    from consilium.output.dicom.marks import file_bytes

    try:
        path.write_bytes(file_bytes(made))
    except OSError as error:
        raise InputError(option, str(path), f"must be a file that can be written ({error.strerror})") from None
