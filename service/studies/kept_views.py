"""What readers see of a study is kept as it was decoded for the model: the words of each file, sealed, and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from consilium.modalities.presentation import Viewed
from service.audit_log.database import Database
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.tables import StudyChunkRow, StudyRow
from service.audit_log.tasks.study_answers import study_place
from service.leased_work.lease_store import pause
from service.leased_work.sealed_input import sealed_bytes
from service.serving.answering import ReadForm
from service.studies.patient_index import patient_code
from service.studies.stored_contents import sealed_model, stored_contents


@dataclass(frozen=True, slots=True, eq=False)
class WordsOfFile:
    """What is shown of one file.

    Attributes
    ----------
    view : mapping
        How its words are shown.
    data : bytes or None
        The words; None where the archive has them.
    patient_digest : str or None
        Of a file whose words the archive has: SHA-256 of the id of the study's patient.
    """

    view: Mapping[str, Any]
    data: bytes | None
    patient_digest: str | None = None


class KeptViews:
    """Keeps what readers see of one study.

    Parameters
    ----------
    pulled : bool
        Leave words to the archive where it can be asked for them.
    required : callable
        Its row, locked; raises `Superseded` where it is not this process's any more.
    """

    def __init__(
        self,
        database: Database,
        keys: AuditLogKeys,
        study_id: UUID,
        required: Callable[[Session], StudyRow],
        *,
        pulled: bool,
    ) -> None:
        self._pulled = pulled
        self._database = database
        self._keys = keys
        self._study_id = study_id
        self._required = required

    def keep(self, read: ReadForm) -> None:
        """Keep what was `read`: from now on readers of an answered study see it.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        added = self._keep_words(read.viewed)
        summary, contents = stored_contents(read, pulled=self._pulled)
        with self._database.writing() as session:
            row = self._required(session)
            if row.summary is not None:
                return  # Of an earlier attempt.
            row.patient = patient_code(self._keys, summary.patient_digest)
            row.summary = sealed_model(self._keys, row.study_id, "summary", summary)
            row.contents = sealed_model(self._keys, row.study_id, "contents", contents)
            row.size += added + len(row.contents)

    def _keep_words(self, viewed: Mapping[str, Sequence[Viewed]]) -> int:
        """How many bytes."""
        added = 0
        for name, files in viewed.items():
            for number, one in enumerate(files):
                if self._pulled and one.view.is_addressable:
                    continue
                data = one.words.tobytes()
                self._keep_file(words_name(name, number), data)
                added += len(data)
        return added

    def _keep_file(self, place: str, data: bytes) -> None:
        whose = StudyChunkRow.study_id == self._study_id, StudyChunkRow.name == place
        with self._database.reading() as session:
            there = set(session.scalars(select(StudyChunkRow.chunk).where(*whose)).all())
        for number, chunk in enumerate(sealed_bytes(data, self._keys, study_place(self._study_id, place))):
            if number in there:
                continue
            begun = time.monotonic()
            with self._database.writing() as session:
                self._required(session)
                session.add(StudyChunkRow(study_id=self._study_id, name=place, chunk=number, data=chunk))
            pause(begun)


def words_name(name: str, number: int) -> str:
    """What the words of one file are called: ``images[0]``."""
    return f"{name}[{number}]"
