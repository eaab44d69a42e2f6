"""Stored studies of a real service that is killed amid them: each is answered once after its restart, none is lost."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from consilium.api.client import Client
from consilium.api.schemas import StudyDetail
from service.app.launch import RunningService
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from tests.integration.processes import kill
from tests.integration.test_service_http import RECORDS

STUDIES = 6
NAME = "Zq17Quill"


def service(model: Path) -> RunningService:
    return RunningService(model, {"model_threads": 1, "device": "cpu", "job_lease_s": 1, "studies": True})


def film(number: int) -> bytes:
    return dicom_file(ramp() + number, PatientName=NAME, PatientID=f"{NAME}-{number}", WindowCenter=99, WindowWidth=999)


def ended(client: Client, study_id: object) -> StudyDetail:
    while (study := client.study(str(study_id))).state in ("queued", "running"):
        time.sleep(0.05)
    return study


def test_studies_of_a_killed_service_are_answered_once_and_shown_whole(home: Path, tiny_folder: Path) -> None:
    with service(tiny_folder) as running, Client(running.url) as client:
        taken = [client.submit_study(images=[film(number)], notes=RECORDS["notes"]) for number in range(STUDIES)]
        assert ended(client, taken[0].study_id).state == "answered"
        client.read(taken[-1].study_id, {client.model().findings[0].name: "present"})
        assert NAME not in running.log()
        kill(running)
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert NAME.encode() not in held

    with service(tiny_folder) as running, Client(running.url) as client:
        studies = [ended(client, study.study_id) for study in taken]
        assert [study.state for study in studies] == ["answered"] * STUDIES
        for number, study in enumerate(studies):
            assert client.study_words(study.study_id) == (ramp() + number).astype("<u2").tobytes()
            assert study.patient is not None
            assert study.patient.label == f"{NAME} · {NAME}-{number}"
        (read,) = client.reads()
        assert client.result(str(read.result_id)).feedback[0].state == "present"
        answer = client.study_answer(taken[-1].study_id)
        assert answer.result_id == read.result_id
        assert NAME not in running.log()
    with sqlite3.connect(home / "audit-log.db") as record:
        assert record.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert record.execute("SELECT count(*) FROM results").fetchone() == (STUDIES,)
        assert record.execute("SELECT DISTINCT name FROM study_chunks").fetchall() == [("images[0]",)]
