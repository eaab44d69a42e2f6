"""What is sent: files, and the records beside them as a checked request."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import TypeAdapter

from consilium.api.schemas import DiagnoseRequest, ExplainRequest, JobKind, parse_request
from consilium.domain.errors import InputError
from consilium.modalities.registry import file_content, file_inputs, modality_of

File: TypeAlias = str | os.PathLike[str] | bytes
"""A path, or the bytes of the file."""

Files: TypeAlias = dict[str, list[bytes]]
"""The files of one study, by the name under which they are sent: ``images``."""

FormParts: TypeAlias = list[tuple[str, tuple[str | None, bytes, str]]]
"""Of a multipart body, as httpx takes them."""

Study: TypeAlias = tuple[Files, DiagnoseRequest]
"""Its files, and the records beside them."""

Request = TypeVar("Request", bound=DiagnoseRequest)
_RECORDS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read_study(kind: type[Request], request: Request | None, sent: Mapping[str, Any]) -> tuple[Files, Request]:
    """The files of `sent`, and the request: given whole, or by the other keywords of `sent`.

    Raises
    ------
    InputError
        Where both ways are used, a record breaks a rule or a file cannot be read.
    """
    files = {name: _read_files(name, sent[name]) for name in file_inputs() if name in sent}
    records = {name: record for name, record in sent.items() if name not in files}
    if request is None:
        return files, parse_request(kind, _RECORDS.dump_json(records))
    if records:
        raise InputError("request", ", ".join(sorted(records)), "must be given whole or by keyword, not both ways")
    return files, request


def _read_files(name: str, files: Sequence[File]) -> list[bytes]:
    if isinstance(files, str | bytes | os.PathLike):
        raise InputError(name, type(files).__name__, "must be a list of paths or bytes")
    return [_read(file, name, f"{name}[{number}]") for number, file in enumerate(files)]


def _read(file: File, name: str, field: str) -> bytes:
    if isinstance(file, bytes):
        return file
    try:
        return file_content(name, Path(file), sys.maxsize)
    except InputError as error:
        raise error.at(field) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(field, str(file), f"must be a readable file ({why})") from None
    except TypeError:
        raise InputError(field, type(file).__name__, "must be a path or the bytes of a file") from None


def read_studies(studies: Sequence[Mapping[str, Any]], request: type[DiagnoseRequest] = DiagnoseRequest) -> list[Study]:
    """The files and the checked request of every study.

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
            read.append(read_study(request, None, study))
        except InputError as error:
            raise error.at(f"studies[{number}]") from None
    return read


def read_job(studies: Sequence[Mapping[str, Any]], kind: JobKind) -> list[Study]:
    """The same for a job of that `kind`."""
    requests: dict[str, type[DiagnoseRequest]] = {"diagnose": DiagnoseRequest, "explain": ExplainRequest}
    if kind not in requests:
        raise InputError("kind", kind, f"must be one of {', '.join(requests)}")
    return read_studies(studies, requests[kind])


def form(files: Files, request: DiagnoseRequest) -> FormParts:
    """The parts of a multipart body. A file's own name is not sent: it may name the patient."""
    return [*_parts(files), _json("request", request.model_dump_json(exclude_none=True))]


def worklist_form(studies: Sequence[Study]) -> FormParts:
    """The same for several studies."""
    parts = [part for number, (files, _) in enumerate(studies) for part in _parts(files, f".{number}")]
    requests = ",".join(request.model_dump_json(exclude_none=True) for _, request in studies)
    return [*parts, _json("requests", f"[{requests}]")]


def _parts(files: Files, suffix: str = "") -> FormParts:
    return [
        (f"{name}{suffix}", (f"{modality_of(name).record}-{number}", data, "application/octet-stream"))
        for name, contents in files.items()
        for number, data in enumerate(contents)
    ]


def _json(field: str, text: str) -> tuple[str, tuple[None, bytes, str]]:
    return field, (None, text.encode(), "application/json")
