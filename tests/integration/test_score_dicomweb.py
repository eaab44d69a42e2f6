"""A real DICOMweb archive is scored as the same files in a folder are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, generate_uid

from consilium.artifacts.artifact import save_artifact
from consilium.domain.errors import InputError
from consilium.ingest.dicomweb import DicomWebError
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp, written
from tests.consilium.tiny_artifact import tiny_artifact
from tests.orthanc import Orthanc
from training.archive import remote_studies
from training.archive.score_archive import ScoringSummary, plan_scoring, run_scoring

STUDIES = [f"1.2.826.0.1.3680043.8.498.{number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_artifact(folder, tiny_artifact())
    return str(folder)


def film(study: str, number: int = 0) -> bytes:
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": generate_uid(), "SOPInstanceUID": f"{study}.{number}"}
    return dicom_file(ramp(), PatientID=study, StudyDate=f"2025010{study[-1]}", **uids)


def report(study: str) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = BasicTextSRStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, generate_uid()
    dataset.Modality, dataset.PatientID = "SR", study
    return written(dataset, ExplicitVRLittleEndian)


@pytest.fixture
def archive(orthanc: Orthanc, tmp_path: Path) -> tuple[Orthanc, Path]:
    """Four studies with a film, one with two, one of them with a report, too; and the same in a folder."""
    folder = tmp_path / "films"
    folder.mkdir()
    files = [film(study) for study in STUDIES] + [film(STUDIES[0], 1), report(STUDIES[1])]
    for number, data in enumerate(files):
        orthanc.upload(data)
        (folder / f"{number}.dcm").write_bytes(data)
    return orthanc, folder


def score(source: str | Path, model: str, out: Path, **matching: str) -> ScoringSummary:
    plan = plan_scoring(source, model, out, chunk=2, matching=matching or None)
    return run_scoring(plan, device="cpu", threads=1)


def test_an_archive_is_scored_as_its_files_in_a_folder_are(
    archive: tuple[Orthanc, Path], model: str, tmp_path: Path
) -> None:
    orthanc, folder = archive

    summary = score(orthanc.dicomweb, model, tmp_path / "out")
    score(folder, model, tmp_path / "same")

    assert summary == ScoringSummary(5, 0, 0, {})
    found, same = (pd.read_parquet(tmp_path / name).set_index("study") for name in ("out", "same"))
    pixels_apart = ["input_digests"]  # the archive writes a file meta group of its own
    pd.testing.assert_frame_equal(found.drop(columns=pixels_apart), same.drop(columns=pixels_apart))
    assert [len(found.input_digests[study]) for study in STUDIES[:2]] == [2, 1]
    assert not (tmp_path / "out" / remote_studies.FETCHED).exists()


def test_only_what_matches_is_scored_and_nothing_is_no_archive(
    archive: tuple[Orthanc, Path], model: str, tmp_path: Path
) -> None:
    orthanc, folder = archive

    score(orthanc.dicomweb, model, tmp_path / "out", StudyDate="20250102-20250103")

    assert sorted(pd.read_parquet(tmp_path / "out").study) == STUDIES[1:3]
    with pytest.raises(InputError, match="a study matches"):
        score(orthanc.dicomweb, model, tmp_path / "none", StudyDate="19000101")
    with pytest.raises(InputError, match="where"):
        score(folder, model, tmp_path / "none", StudyDate="20250101")


def test_a_study_that_is_gone_is_a_row_with_its_reason_and_another_run_goes_on(
    archive: tuple[Orthanc, Path], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orthanc, _ = archive
    plan = plan_scoring(orthanc.dicomweb, model, tmp_path / "out", chunk=2)
    (patient,) = (
        one for one in orthanc.http.get("/patients?expand").json() if one["MainDicomTags"]["PatientID"] == STUDIES[3]
    )
    orthanc.http.delete(f"/patients/{patient['ID']}").raise_for_status()
    asked: list[str] = []
    original = remote_studies.DicomWeb.instances

    def away_after_two(self: remote_studies.DicomWeb, study: str) -> list[remote_studies.FoundInstance]:
        asked.append(study)
        if len(asked) == 3:
            raise DicomWebError("the archive cannot be reached (ConnectError)")
        return original(self, study)

    monkeypatch.setattr(remote_studies.DicomWeb, "instances", away_after_two)
    with pytest.raises(DicomWebError):
        run_scoring(plan, device="cpu", threads=1)
    assert sorted(pd.read_parquet(tmp_path / "out").study) == STUDIES[:2]

    summary = run_scoring(plan, device="cpu", threads=1)

    assert asked == [*STUDIES[:2], STUDIES[2], *STUDIES[2:]]
    assert summary == ScoringSummary(5, 1, 2, {})
    found = pd.read_parquet(tmp_path / "out").set_index("study")
    assert found.state[STUDIES[3]] == "refused"
    assert found.reason[STUDIES[3]] == "study: the archive has no instance of the study"


@pytest.mark.parametrize(
    "url", ["http://name:secret@127.0.0.1:1/dicom-web", "https:///dicom-web", "http://127.0.0.1:1/dicom-web?limit=3"]
)
def test_an_address_that_is_none_is_refused_without_its_password(model: str, tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="source") as raised:
        score(url, model, tmp_path / "out")
    assert "secret" not in str(raised.value)
