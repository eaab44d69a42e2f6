"""What is sent: image files, and the records beside them as a checked request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from pydantic import TypeAdapter

from consilium.api.schemas import (
    DiagnoseRequest,
    ExplainRequest,
    JobKind,
    NoteRecord,
    ObservationRecord,
    PatientRecord,
    parse_request,
)
from consilium.domain.errors import InputError

ImageFile: TypeAlias = str | os.PathLike[str] | bytes
"""A path, or the bytes of the file."""

FormParts: TypeAlias = list[tuple[str, tuple[str | None, bytes, str]]]
"""Of a multipart body, as httpx takes them."""

Study: TypeAlias = tuple[list[bytes], DiagnoseRequest]
"""Its images, and the records beside them."""

Request = TypeVar("Request", bound=DiagnoseRequest)
_RECORDS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class Records(TypedDict, total=False):
    """What a `DiagnoseRequest` holds, where it is given by keyword."""

    notes: Sequence[NoteRecord | Mapping[str, object]]
    observations: Sequence[ObservationRecord | Mapping[str, object]]
    patient: PatientRecord | Mapping[str, object] | None
    reference_time: str | datetime | None
    caller_reference: str | None


class ExplainRecords(Records, total=False):
    """What an `ExplainRequest` holds, where it is given by keyword."""

    findings: Sequence[str] | None
    level: Literal["fast", "thorough"]


class SimilarRecords(Records, total=False):
    """What a `SimilarRequest` holds, where it is given by keyword."""

    count: int


class StudyRecords(Records, total=False):
    """One study of several: its images, and what a `DiagnoseRequest` holds."""

    images: Sequence[ImageFile]


class JobStudyRecords(ExplainRecords, total=False):
    """One study of a job: its images, and what a request of the job's kind holds."""

    images: Sequence[ImageFile]


def checked(kind: type[Request], request: Request | None, records: Mapping[str, object]) -> Request:
    """The request, given whole or by keyword.

    Raises
    ------
    InputError
        Where both ways are used, or a record breaks a rule.
    """
    if request is None:
        return parse_request(kind, _RECORDS.dump_json(dict(records)))
    if records:
        raise InputError("request", ", ".join(sorted(records)), "must be given whole or by keyword, not both ways")
    return request


def read_images(images: Sequence[ImageFile]) -> list[bytes]:
    """The bytes of every image.

    Raises
    ------
    InputError
        Where one cannot be read.
    """
    if isinstance(images, str | bytes | os.PathLike):
        raise InputError("images", type(images).__name__, "must be a list of paths or bytes")
    return [_read(image, number) for number, image in enumerate(images)]


def _read(image: ImageFile, number: int) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"images[{number}]", str(image), f"must be a readable file ({why})") from None
    except TypeError:
        raise InputError(f"images[{number}]", type(image).__name__, "must be a path or the bytes of a file") from None


def read_studies(
    studies: Sequence[StudyRecords | JobStudyRecords], request: type[DiagnoseRequest] = DiagnoseRequest
) -> list[Study]:
    """The images and the checked request of every study.

    Raises
    ------
    InputError
        Names the study.
    """
    if not studies:
        raise InputError("studies", studies, "must be at least one")
    read = []
    for number, study in enumerate(studies):
        try:
            records: dict[str, object] = dict(study)
            images = read_images(study.get("images", ()))
            records.pop("images", None)
            read.append((images, checked(request, None, records)))
        except InputError as error:
            raise error.at(f"studies[{number}]") from None
    return read


def read_job(studies: Sequence[JobStudyRecords], kind: JobKind) -> list[Study]:
    """The same for a job of that `kind`."""
    requests: dict[str, type[DiagnoseRequest]] = {"diagnose": DiagnoseRequest, "explain": ExplainRequest}
    if kind not in requests:
        raise InputError("kind", kind, f"must be one of {', '.join(requests)}")
    return read_studies(studies, requests[kind])


def form(images: Sequence[bytes], request: DiagnoseRequest) -> FormParts:
    """The parts of a multipart body. A file's own name is not sent: it may name the patient."""
    return [*_files("images", images), _json("request", request.model_dump_json(exclude_none=True))]


def worklist_form(studies: Sequence[Study]) -> FormParts:
    """The same for several studies."""
    files = [part for number, (images, _) in enumerate(studies) for part in _files(f"images.{number}", images)]
    requests = ",".join(request.model_dump_json(exclude_none=True) for _, request in studies)
    return [*files, _json("requests", f"[{requests}]")]


def _files(field: str, images: Sequence[bytes]) -> FormParts:
    return [(field, (f"image-{number}", data, "application/octet-stream")) for number, data in enumerate(images)]


def _json(field: str, text: str) -> tuple[str, tuple[None, bytes, str]]:
    return field, (None, text.encode(), "application/json")
