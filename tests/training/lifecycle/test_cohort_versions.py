"""Versions of a cohort: what is added, left out, relabelled and withdrawn, and that none of it can be half-done."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from consilium.cli import main
from consilium.domain.errors import InputError, TrainingError
from tests.consilium.modalities.ecg.made import encoded, header, packed, steps
from training.cohorts import load_cohort
from training.cohorts.phantom.write import write_phantom
from training.cohorts.versions.version_record import CohortVersion, read_version, version_folders
from training.lifecycle.cohorts import cohort_store as module
from training.lifecycle.cohorts.cohort_store import add, freeze, keyed_hash, split_of, withdraw
from training.lifecycle.cohorts.store_check import check_store

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.lifecycle.cohorts.cohort_store"])


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Thirty studies in May, and eighteen of other patients in June; no splits."""
    root = tmp_path_factory.mktemp("phantoms")
    for name, studies, seed in (("may", 30, 3), ("june", 18, 4)):
        write_phantom(root / name, studies, seed=seed, size=64, workers=1, splits=None)
        shutil.rmtree(root / name / "truth")
    june = _studies(root / "june")
    june["study"], june["patient"] = "J" + june["study"], "J" + june["patient"]
    june.to_csv(root / "june" / "studies.csv", index=False)
    values = pd.read_csv(root / "june" / "observations.csv", dtype=str, keep_default_na=False)
    values.assign(study="J" + values["study"]).to_csv(root / "june" / "observations.csv", index=False)
    return root / "may", root / "june"


@pytest.fixture
def store(phantoms: tuple[Path, Path], tmp_path: Path) -> Path:
    freeze(tmp_path / "store", phantoms[0], name="chest")
    return tmp_path / "store"


def _studies(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "studies.csv", dtype=str, keep_default_na=False)


def _copy(folder: Path, to: Path, rows: list[int]) -> pd.DataFrame:
    """Some studies of a folder as a folder of their own; write the table that is given back."""
    shutil.copytree(folder, to)
    (to / "observations.csv").unlink()
    return _studies(to).iloc[rows].copy()


def test_a_version_reads_as_its_source_and_fixes_the_splits(store: Path, phantoms: tuple[Path, Path]):
    source, version = load_cohort("manifest", phantoms[0]), load_cohort("manifest", store)
    assert version.name == "chest"
    assert [one.study_id for one in version.records] == [one.study_id for one in source.records]
    for one, other in zip(version.records, source.records, strict=True):
        assert one.labels.tolist() == pytest.approx(other.labels.tolist(), nan_ok=True)
        assert {name: [r.digest for r in of] for name, of in one.parts.items()} == {
            name: [r.digest for r in of] for name, of in other.parts.items()
        }
        assert [file.path.read_bytes() for file in one.every_file] == [f.path.read_bytes() for f in other.every_file]
    assert {one.split for one in version.records} == {"train", "validation", "calibration", "test"}
    assert check_store(store, files=True).problems == ()


def test_the_same_studies_make_the_same_version(store: Path, phantoms: tuple[Path, Path], tmp_path: Path):
    again = freeze(tmp_path / "again", phantoms[0], name="chest")
    assert again.digest == check_store(store).versions[0].digest
    assert freeze(tmp_path / "other", phantoms[0], name="breast").digest != again.digest


def test_a_patient_keeps_the_split_and_a_new_one_gets_that_of_the_pseudonym(store: Path, phantoms: tuple[Path, Path]):
    before = {one.patient_id: one.split for one in load_cohort("manifest", store).records}
    made = add(store, [phantoms[1]], seed=5, why="June")
    assert made is not None
    assert (made.number, made.changes) == (2, {"added": 18})
    after = {one.patient_id: one.split for one in load_cohort("manifest", store).records}
    assert {patient: after[patient] for patient in before} == before
    new = after.keys() - before.keys()
    assert len(new) == 18
    assert {patient: after[patient] for patient in new} == {patient: split_of(patient, 5) for patient in new}
    first, second = version_folders(store)
    shared = next(path for path in (first / "files").rglob("*") if path.is_file()).relative_to(first)
    assert (first / shared).stat().st_ino == (second / shared).stat().st_ino, "files are kept once"
    assert add(store, phantoms, seed=5) is None, "everything is there"
    assert check_store(store, files=True).problems == ()


def test_splits_by_pseudonym_have_the_usual_shares():
    drawn = pd.Series([split_of(f"P{number}", 0) for number in range(4000)]).value_counts(normalize=True)
    assert drawn.to_dict() == pytest.approx(
        {"train": 0.6, "test": 0.2, "validation": 0.1, "calibration": 0.1}, abs=0.03
    )


def test_another_patients_image_under_another_name_is_left_out(
    store: Path, phantoms: tuple[Path, Path], tmp_path: Path
):
    rows = _studies(phantoms[0])
    with_image = rows.index[rows["images"] != ""][:2].tolist()
    copied = _copy(phantoms[0], tmp_path / "copied", with_image)
    copied["study"], copied["patient"] = ["X1", "X2"], ["XP1", copied["patient"].iloc[1]]
    copied.to_csv(tmp_path / "copied" / "studies.csv", index=False)
    made = add(store, [tmp_path / "copied"])
    assert made is not None
    assert made.changes == {"added": 1, "duplicates": 1}, "the second is the same patient's"
    changes = pd.read_csv(version_folders(store)[-1] / "changes.csv").set_index("study")
    assert changes.loc["X1", "why"].startswith("the same image as ")


def test_new_labels_of_a_known_study_are_taken_and_other_content_is_refused(
    store: Path, phantoms: tuple[Path, Path], tmp_path: Path
):
    rows = _copy(phantoms[0], tmp_path / "read", list(range(30)))
    shutil.copy(phantoms[0] / "observations.csv", tmp_path / "read" / "observations.csv")
    label = next(name for name in rows.columns if name.startswith("label:"))
    was = rows[label].iloc[0]
    rows.iloc[0, rows.columns.get_loc(label)] = "0" if was == "1" else "1"
    rows.to_csv(tmp_path / "read" / "studies.csv", index=False)
    made = add(store, [tmp_path / "read"])
    assert made is not None
    assert made.changes == {"relabelled": 1}
    assert made.studies == 30
    rows.iloc[0, rows.columns.get_loc("age")] = "17"
    rows.to_csv(tmp_path / "read" / "studies.csv", index=False)
    with pytest.raises(InputError, match=f"study: got '{rows['study'].iloc[0]}'.*a version never changes a study"):
        add(store, [tmp_path / "read"])
    assert len(version_folders(store)) == 2


def test_who_withdraws_is_gone_from_every_version_and_stays_away(
    store: Path, phantoms: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    add(store, [phantoms[1]])
    rows = _studies(version_folders(store)[0])
    patient = rows.loc[rows["images"] != "", "patient"].iloc[0]
    files = {path.name for path in (version_folders(store)[0] / "files").rglob("*") if path.is_file()}
    made = withdraw(store, [patient], why="letter of 3 June")
    assert made.changes == {"removed": 1}
    assert [one.patient for one in made.withdrawn] == [keyed_hash(store, patient)]
    assert [read_version(path).retired is None for path in version_folders(store)] == [False, False, True]
    assert [sorted(path.name for path in folder.iterdir()) for folder in version_folders(store)[:2]] == [
        ["version.json"]
    ] * 2
    left = {path.name for path in store.rglob("*") if path.is_file()}
    assert len(files - left) == len(made.withdrawn[0].files) >= 1
    everything = b"".join(path.read_bytes() for path in store.rglob("*") if path.suffix in (".json", ".csv", ".yaml"))
    assert f",{patient},".encode() not in everything
    with pytest.raises(InputError, match="must be a version that is not retired"):
        load_cohort("manifest", version_folders(store)[0])
    assert add(store, [phantoms[0]]) is None, "who has withdrawn does not come back"
    assert main(["cohort", "show", str(store), "--files"]) == 0
    assert "none of them, and none of their files, is in any version" in capsys.readouterr().out


def test_what_was_altered_or_brought_back_is_found(store: Path, phantoms: tuple[Path, Path]):
    rows = _studies(version_folders(store)[0])
    patient = rows.loc[rows["images"] != "", "patient"].iloc[0]
    kept = store.parent / "kept"
    shutil.copytree(version_folders(store)[0], kept)
    withdraw(store, [patient], why="letter")
    assert check_store(store).problems == ()
    newest = version_folders(store)[-1]
    for name in ("studies.csv", "files"):
        target = version_folders(store)[0] / name
        (shutil.copytree if (kept / name).is_dir() else shutil.copy)(kept / name, target)
    found = check_store(store).problems
    assert "version 1: holds a patient who has withdrawn" in found
    assert "version 1: holds a file of a patient who has withdrawn" in found
    table = newest / "changes.csv"
    table.chmod(0o640)
    table.write_text("study,change,why\n")
    assert "version 2: its tables are not those of its digest" in check_store(store).problems
    file = next(path for path in (newest / "files").rglob("*") if path.is_file())
    file.chmod(0o640)
    file.write_bytes(b"")
    assert any("is not what it was" in problem for problem in check_store(store, files=True).problems)


def test_what_cannot_be_is_refused(store: Path, phantoms: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(InputError, match="must be new"):
        freeze(store, phantoms[0])
    with pytest.raises(InputError, match="must be a patient of the newest version"):
        withdraw(store, ["nobody"], why="x")
    with pytest.raises(InputError, match="must say why"):
        withdraw(store, ["P000001"], why=" ")
    with pytest.raises(InputError, match="must have a version"):
        add(tmp_path / "empty", [phantoms[0]])
    rows = _copy(phantoms[1], tmp_path / "other", [0, 1, 2])
    rows["label:gout"] = "1"
    rows.to_csv(tmp_path / "other" / "studies.csv", index=False)
    (tmp_path / "other" / "cohort.yaml").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"cohort\.findings: got 'gout', must be among"):
        add(store, [tmp_path / "other"])
    with FileLock(store / ".lock"), pytest.raises(TrainingError, match="being changed by another process"):
        add(store, [phantoms[1]])


def test_labels_that_were_given_after_an_answer_can_be_left_out(phantoms: tuple[Path, Path], tmp_path: Path):
    rows = _copy(phantoms[0], tmp_path / "read", list(range(30)))
    shutil.copy(phantoms[0] / "observations.csv", tmp_path / "read" / "observations.csv")
    rows["influenced"] = ["1"] * 10 + ["0"] * 10 + [""] * 10
    rows.to_csv(tmp_path / "read" / "studies.csv", index=False)
    kept = load_cohort("manifest", tmp_path / "read").labels
    left = load_cohort("manifest", tmp_path / "read", {"influenced": "leave_out"}).labels
    assert np.isnan(left[:10]).all()
    np.testing.assert_array_equal(left[10:], kept[10:])
    assert np.isfinite(kept[:10]).any()


def test_a_record_is_read_back(store: Path):
    version = read_version(version_folders(store)[0])
    assert version is not None
    assert CohortVersion.from_json(json.loads(json.dumps(version.to_json()))) == version


def _cut_off(what: str, step: str, store: str, folder: str, patient: str) -> None:
    setattr(module, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    if what == "add":
        add(Path(store), [Path(folder)])
    else:
        withdraw(Path(store), [patient], why="letter")


@pytest.mark.parametrize(("what", "step"), [("add", "_require_same"), ("add", "replace_json"), ("withdraw", "_empty")])
def test_killed_at_any_step_there_is_the_old_version_or_the_new_one(
    store: Path, phantoms: tuple[Path, Path], what: str, step: str
):
    patient = _studies(version_folders(store)[0])["patient"].iloc[0]
    process = CONTEXT.Process(target=_cut_off, args=(what, step, str(store), str(phantoms[1]), patient))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(version_folders(store)) == (1 if what == "add" else 2)
    assert len(load_cohort("manifest", store)) == (30 if what == "add" else 29)
    made = add(store, [phantoms[1]])  # the next command removes or ends what was left
    assert made is not None
    assert made.changes == {"added": 18}
    assert list(store.glob(".making-*")) == []
    assert check_store(store, files=True).problems == ()


def test_a_file_that_brings_others_with_it_goes_into_no_version(tmp_path: Path) -> None:
    source, rows = tmp_path / "source", steps(3)
    source.mkdir()
    (source / "r.hea").write_bytes(header(rows))
    (source / "r.dat").write_bytes(encoded(rows, 16))
    (source / "studies.csv").write_text("study,patient,ecg,label:flu\na,p,r.hea,1\n", encoding="utf-8")

    with pytest.raises(InputError, match=r"ecgs: got 'r\.hea', must be one file in a version of a cohort: a zip"):
        freeze(tmp_path / "store", source, name="hearts")
    (source / "r.dat").unlink()
    with pytest.raises(InputError, match=r"ecgs: got 'r\.hea', must be one file"):
        freeze(tmp_path / "store", source, name="hearts")

    (source / "r.zip").write_bytes(packed({"r.hea": header(rows), "r.dat": encoded(rows, 16)}))
    (source / "studies.csv").write_text("study,patient,ecg,label:flu\na,p,r.zip,1\n", encoding="utf-8")
    freeze(tmp_path / "store", source, name="hearts")
    (record,) = load_cohort("manifest", tmp_path / "store").records
    (file,) = record.every_file
    assert file.path.read_bytes() == (source / "r.zip").read_bytes()
