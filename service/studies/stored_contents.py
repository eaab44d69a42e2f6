"""What is stored of a study for its readers, as JSON that is sealed: a line for the worklist, and all the rest."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from consilium.api.schemas import PatientView
from consilium.domain.named_identifiers import named
from consilium.domain.study import identifier_digest
from consilium.domain.wire import Wire
from consilium.modalities.presentation import FileView, ViewContext, Viewed, file_viewings, record_viewings
from consilium.modalities.registry import modality_of
from service.audit_log.pseudonyms import AuditLogKeys, Unsealable
from service.audit_log.tasks.study_answers import study_place
from service.serving.answering import ReadForm

logger = logging.getLogger("consilium.service")

_LEFT_OUT = ("left out", "not used", "cut off", "not read")
"""By these words the readers of records and `Study.within` say that something is not read."""


class StoredSummary(Wire):
    """What the worklist shows of a study that was decoded."""

    studied: datetime | None
    patient: PatientView
    modalities: tuple[str, ...]
    image_count: int
    patient_digest: str | None
    """SHA-256 of the patient's id, by which earlier studies are found."""
    issuer_digest: str | None = None
    """SHA-256 of who issued that id."""
    study_digest: str | None = None
    """SHA-256 of the Study Instance UID, by which the priors are found that were handed over for it."""


class StoredContents(Wire):
    """What a reader sees beside it."""

    shown: dict[str, tuple[dict[str, Any], ...]]
    """Of each input its records as they are shown, as JSON."""
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]


def stored_contents(read: ReadForm, *, pulled: bool) -> tuple[StoredSummary, StoredContents]:
    """What is stored of a study for its readers, its words aside; `pulled` ones lie in the archive."""
    study, viewed, kept = read.study, read.viewed, read.study.within(read.window)
    context = ViewContext(study.patient, read.variables, kept.records)
    views: dict[str, tuple[dict[str, Any], ...]] = {
        name: tuple(_view(number, one, pulled).model_dump(mode="json") for number, one in enumerate(files))
        for name, files in viewed.items()
        if name in file_viewings()
    }
    for name, viewing in record_viewings().items():
        records = [record for record in study.parts[modality_of(name).name] if record.field == name]
        views[name] = tuple(one.model_dump(mode="json") for one in viewing.view(records, context))
    warnings = tuple(dict.fromkeys(kept.warnings))
    left_out = tuple(one for one in warnings if any(word in one for word in _LEFT_OUT))
    summary = StoredSummary(
        studied=study.reference_time,
        patient=PatientView(label=_label(viewed), age=study.patient.age, sex=study.patient.sex),
        modalities=tuple(study.parts),
        image_count=sum(map(len, viewed.values())),
        patient_digest=next((one.patient_digest for one in study.records if one.patient_digest), None),
        issuer_digest=_issuer_digest(viewed),
        study_digest=named(study, "study_digest"),
    )
    rest = tuple(one for one in warnings if one not in left_out)
    return summary, StoredContents(shown=views, warnings=rest, left_out=left_out)


def _view(number: int, file: Viewed, pulled: bool) -> FileView:
    place = "pacs" if pulled and file.view.is_addressable else "stored"
    return file.view.model_copy(update={"number": number, "words_digest": words_digest(file), "pixels": place})


def words_digest(file: Viewed) -> str:
    """SHA-256 of what is shown of `file`, in hex."""
    return hashlib.sha256(file.words.tobytes()).hexdigest()


def _label(viewed: Mapping[str, Sequence[Viewed]]) -> str | None:
    return next((one.label for files in viewed.values() for one in files if one.label), None)


def _issuer_digest(viewed: Mapping[str, Sequence[Viewed]]) -> str | None:
    issuer = next((one.issuer for files in viewed.values() for one in files if one.issuer), None)
    return None if issuer is None else identifier_digest(issuer)


def sealed_model(keys: AuditLogKeys, study_id: object, name: str, value: Wire) -> bytes:
    """`value`, sealed as what is called `name` of a study."""
    return keys.newest.seal(value.model_dump_json().encode(), study_place(study_id, name))


def unsealed_json(keys: AuditLogKeys, study_id: object, name: str, sealed: bytes) -> Any:
    """What was sealed so.

    Raises
    ------
    Unsealable
    """
    return json.loads(keys.unseal(sealed, study_place(study_id, name)))


def opened_json(keys: AuditLogKeys, study_id: object, name: str, sealed: bytes) -> Any | None:
    """The same; None, and a line in the log, where none of the keys opens it: one study keeps no other from readers."""
    try:
        return unsealed_json(keys, study_id, name, sealed)
    except Unsealable:
        logger.error("stored study %s: none of the audit log's keys opens its %s", study_id, name)
        return None
