"""One row for each study of an archive, whatever becomes of it, and never two."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

import pandas as pd
import pytest
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, generate_uid

from consilium.artifacts.artifact import save_artifact
from consilium.domain.errors import InputError
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import read_files
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp, written
from tests.consilium.tiny_artifact import tiny_artifact
from tests.patience import PATIENCE_S
from training.archive import chunk_scorer
from training.archive.chunk_scorer import Chunk, ChunkScorer
from training.archive.score_archive import ScoringSummary, plan_scoring, run_scoring
from training.cohorts.manifest import read_manifest
from training.cohorts.phantom.write import write_phantom

STUDIES = 10
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.archive.score_archive"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_artifact(folder, tiny_artifact())
    return str(folder)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive") / "phantom"
    write_phantom(root, STUDIES, seed=3, size=64, workers=1)
    return root


def score(source: Path, model: str, out: Path, chunk: int = 4) -> ScoringSummary:
    return run_scoring(plan_scoring(source, model, out, chunk=chunk), device="cpu", threads=1)


def table(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out).set_index("study")


def test_a_cohort_becomes_one_row_a_study_with_the_answers_of_the_model(
    phantom: Path, model: str, tmp_path: Path
) -> None:
    summary = score(phantom, model, tmp_path / "out")

    found = table(tmp_path / "out")
    assert summary == ScoringSummary(STUDIES, 0, 0, {})
    assert sorted(path.name for path in (tmp_path / "out").glob("*.parquet")) == [
        f"part-{number:06d}.parquet" for number in range(3)
    ]
    diagnostician = Diagnostician.load(model, "cpu")
    records = read_manifest(phantom).records
    assert list(found.index) == [record.study_id for record in records]
    for record in records:
        files = {name: [one.path.read_bytes() for one in of] for name, of in record.files.items()}
        read = {"image": read_files({"images": files["image"]})["images"]} if files.get("image") else {}
        expected = diagnostician.diagnose([record.study(read)])[0]
        row = found.loc[record.study_id]
        assert row["state"] == "scored"
        assert row["manifest_digest"] == diagnostician.identity.manifest_digest
        assert dict(row["input_digests"]) == expected.input_digests
        for result in expected.findings:
            assert row[f"probability:{result.finding}"] == pytest.approx(result.probability, abs=1e-6)
            assert list(row[f"prediction_set:{result.finding}"]) == list(result.prediction_set)


def film(study: str) -> bytes:
    return dicom_file(ramp(), StudyInstanceUID=study, SOPInstanceUID=generate_uid())


def report(study: str) -> bytes:
    """A structured report, which has no pixels."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = BasicTextSRStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.Modality = study, "SR"
    return written(dataset, ExplicitVRLittleEndian)


@pytest.fixture
def films(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder of DICOM files: two films of one study, one of another, a broken one, and what is no image."""
    root, uids = tmp_path / "films", {name: generate_uid() for name in ("two", "one", "cut", "structured")}
    (root / "deep").mkdir(parents=True)
    (root / "a.dcm").write_bytes(film(uids["two"]))
    (root / "deep" / "b.dcm").write_bytes(film(uids["two"]))
    (root / "c").write_bytes(film(uids["one"]))
    (root / "report.dcm").write_bytes(report(uids["one"]))
    (root / "alone.dcm").write_bytes(report(uids["structured"]))
    (root / "cut.dcm").write_bytes(film(uids["cut"])[:-500])
    (root / "readme.txt").write_text("films of 2025")
    (root / "again.dcm").symlink_to(root / "a.dcm")
    return root, uids


def test_a_folder_of_films_is_grouped_by_study_and_what_is_refused_says_why(
    films: tuple[Path, dict[str, str]], model: str, tmp_path: Path
) -> None:
    root, uids = films

    summary = score(root, model, tmp_path / "out")

    found = table(tmp_path / "out")
    assert sorted(found.index) == sorted(uids.values())
    reasons = {"no image: Basic Text SR Storage": 2, "no DICOM file, or one with a broken header": 1}
    assert summary == ScoringSummary(4, 2, 0, reasons)
    assert found.state[uids["two"]] == found.state[uids["one"]] == "scored"
    assert len(found.input_digests[uids["two"]]) == 2
    assert found.state[uids["cut"]] == found.state[uids["structured"]] == "refused"
    assert "images" in found.reason[uids["cut"]]
    assert found["probability:pneumonia"].isna()[uids["cut"]]


def test_what_was_interrupted_goes_on_where_it_was(
    phantom: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    original = ChunkScorer.__call__

    def counted(self: ChunkScorer, chunk: Chunk):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(chunk.number)
        return original(self, chunk)

    monkeypatch.setattr(chunk_scorer.ChunkScorer, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        score(phantom, model, tmp_path / "out")
    monkeypatch.undo()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}

    summary = score(phantom, model, tmp_path / "out")

    assert scored == [0, 1]
    assert summary.before == 8
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
    score(phantom, model, tmp_path / "whole")
    pd.testing.assert_frame_equal(table(tmp_path / "out"), table(tmp_path / "whole"))


def _cut_off(source: str, model: str, out: str, before: int) -> None:
    """Score, and end by SIGKILL when file number `before` is written and has no name yet."""
    put, made = Path.replace, count(1)

    def once_more(self: Path, target: Path) -> Path:
        if next(made) == before:
            os.kill(os.getpid(), signal.SIGKILL)
        return put(self, target)

    Path.replace = once_more  # type: ignore[method-assign]
    score(Path(source), model, Path(out))


def test_killed_at_every_step_the_next_run_ends_it_and_scores_no_study_twice(
    phantom: Path, model: str, tmp_path: Path
) -> None:
    out, done = tmp_path / "out", []
    for before in (1, 3):  # the folder is not claimed yet; the second file of rows is not there
        process = CONTEXT.Process(target=_cut_off, args=(str(phantom), model, str(out), before))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        done.append({path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")})
        assert any(path.name.startswith(".") and path.name != ".lock" for path in out.iterdir()), "a half is left"
    assert [sorted(files) for files in done] == [[], ["_scores.json", "part-000000.parquet"]]

    summary = score(phantom, model, out)

    assert summary == ScoringSummary(STUDIES, 0, 4, {})
    assert {name: (out / name).read_bytes() for name in done[-1]} == done[-1]
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        "_scores.json",
        *(f"part-{number:06d}.parquet" for number in range(3)),
    ]
    score(phantom, model, tmp_path / "whole")
    pd.testing.assert_frame_equal(table(out), table(tmp_path / "whole"))
    assert table(out).index.is_unique


def test_a_folder_of_other_scores_is_refused_and_stays_as_it_is(phantom: Path, model: str, tmp_path: Path) -> None:
    score(phantom, model, tmp_path / "out")
    state = (tmp_path / "out" / "_scores.json").read_bytes()

    for chunk, source in ((5, phantom), (4, shutil.copytree(phantom, tmp_path / "fewer", ignore=one_row_less))):
        with pytest.raises(InputError, match="must be a new folder, or hold the scores of the same"):
            score(source, model, tmp_path / "out", chunk=chunk)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.txt").write_text("mine")
    with pytest.raises(InputError, match="must be an empty folder"):
        score(phantom, model, tmp_path / "notes")

    assert (tmp_path / "out" / "_scores.json").read_bytes() == state
    assert json.loads(state)["studies"] == STUDIES


def one_row_less(folder: str, names: list[str]) -> list[str]:
    """Copies all of the phantom but a modality's table."""
    return [name for name in names if name == "observations.csv"]


def test_a_folder_without_films_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")

    with pytest.raises(InputError, match="StudyInstanceUID"):
        plan_scoring(tmp_path, model, tmp_path / "out")
    with pytest.raises(InputError, match="must be the folder of a cohort"):
        plan_scoring(tmp_path / "nowhere", model, tmp_path / "out")


def test_workers_on_ray_write_the_same_table(phantom: Path, model: str, tmp_path: Path) -> None:
    """In a process of its own, which may be started anew as a user would: Ray ends its driver where it starts late."""
    pytest.importorskip("ray")
    score(phantom, model, tmp_path / "here")
    command = [sys.executable, "-m", "consilium.cli", "score", phantom, "--model", model, "--out", tmp_path / "ray"]
    command += ["--workers", "2", "--chunk", "4", "--device", "cpu", "--json"]
    for _ in range(3):
        with TemporaryFile() as log:
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=PATIENCE_S, check=False)
            log.seek(0)
            complaints = log.read().decode(errors="replace")
        if ended.returncode == 0:
            break
    assert ended.returncode == 0, complaints
    assert json.loads(ended.stdout)["studies"] == STUDIES
    pd.testing.assert_frame_equal(table(tmp_path / "ray"), table(tmp_path / "here"))
