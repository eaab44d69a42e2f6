"""What must hold after a campaign."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hospital.store.state import StudyStage
from tests.soak_hospital.campaign import Archive, Played
from tests.soak_hospital.planned_studies import PlannedStudy


def failures(played: Played) -> list[str]:
    """Everything that does not hold, study by study; a study is named by its number."""
    return [f"study {study.number}: {what}" for study in played.studies for what in _of(played, study)]


def _of(played: Played, study: PlannedStudy) -> Iterator[str]:
    store = played.hospital.store
    state = store.studies.get(study.uid)
    if state is None:
        yield "was lost"
        return
    revisions = store.studies.revisions(study.uid)
    if not study.answered:
        # Before the stranger's object came nothing was wrong; from then on nothing is answered.
        yield from (["objects of two patients were answered"] if state.stage is not StudyStage.FAILED else [])
    elif state.stage is not StudyStage.ANSWERED:
        yield f"is {state.stage} ({state.problem})"
    if len({one.revision for one in revisions}) != len(revisions):
        yield "has one revision twice"
    for name, archive in played.archives.items():
        yield from _of_archive(name, archive, study, [f"{name} {one.revision}" for one in revisions])


def _of_archive(name: str, archive: Archive, study: PlannedStudy, revisions: list[str]) -> Iterator[str]:
    stored = [key for uid, key in archive.order if uid == study.uid]
    if unknown := set(stored) - set(revisions):
        yield f"{name} has {len(unknown)} objects of no revision"
    for key in stored:
        patient, images, values = ast.literal_eval(archive.received[key].decode())
        if patient != study.patient.value or any(not image.startswith(f"{study.uid}.") for image in images):
            yield f"{name} has another patient's objects"
        if 999.0 in values:
            yield f"{name} has another patient's values"
    if not study.answered:
        return
    if not stored or stored[-1] != revisions[-1]:
        yield f"{name} has not the last revision"
        return
    _, images, values = ast.literal_eval(archive.received[stored[-1]].decode())
    if sorted(images) != sorted(f"{uid} {digest}" for uid, digest in study.images.items()):
        yield f"{name} has a result about other images"
    if sorted(values) != sorted(study.values):
        yield f"{name} has a result with {values} in place of {study.values}"
