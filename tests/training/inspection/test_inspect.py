import csv
import io
import shutil

import numpy as np
import pytest
from PIL import Image as Pillow
from rich.console import Console

from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from training.cohorts import load_cohort
from training.cohorts.phantom.write import write_phantom
from training.inspection.inspect import check_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small phantom whose site follows its first finding."""
    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    write_phantom(folder, 160, 3, 64, workers=1, shortcut=0.9, splits=None)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return check_cohort(load_cohort("phantom", folder))


def printed(parts):
    console = Console(file=io.StringIO(), width=200)
    console.print(*parts)
    return console.file.getvalue()


def test_the_planted_shortcut_of_a_phantom_is_found(report):
    assert report.audit.verdict == "suspect"
    shortcuts = [concern for concern in report.audit.concerns if concern.kind == "shortcut"]
    assert [concern.finding for concern in shortcuts] == ["pneumonia"]
    assert "from the site" in shortcuts[0].text
    assert "from the device" in shortcuts[0].text
    table = report.audit.tables["shortcuts"].set_index(["finding", "group"])
    assert table.auroc["pneumonia", "source"] > 0.85
    for finding in ("heart_failure", "pleural_effusion", "pneumothorax"):
        assert not table.suspect[finding].any()


def test_verdict_and_reasons_are_on_the_terminal_and_in_the_json(report):
    output = " ".join(printed(report.terminal_tables()).split())
    assert "audit: suspect (a sound cohort is called suspect with a chance of at most 5 %)" in output
    assert "Pneumonia can be predicted without looking at the patient" in output
    for words in ("Heart failure not fixed", "patients present", "AUROC without"):
        assert words in output
    for code in ("heart_failure", "patients_present", "True"):
        assert code not in output
    assert report.to_json()["audit"] == report.audit.to_json()


def test_without_the_audit_the_report_is_the_rest(folder, report):
    quick = check_cohort(load_cohort("phantom", folder), audited=False)
    assert quick.audit is None
    assert "audit" not in quick.to_json()
    assert quick.to_json() == {name: part for name, part in report.to_json().items() if name != "audit"}
    assert "audit" not in printed(quick.terminal_tables())


def write_manifest(folder, rows):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(("a", "b", "c")):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50), dtype=np.uint8)
        Pillow.fromarray(pixels).save(folder / f"{name}.png")
    Pillow.fromarray(np.full((40, 50), 77, np.uint8)).save(folder / "blank.png")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:-200])
    with (folder / "studies.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerows([["study", "patient", "images", "views", "note_history", "label:gout"], *rows])
    return load_cohort("manifest", folder)


def test_files_that_cannot_be_used_are_named_with_the_reason(tmp_path):
    rows = [
        ["s1", "p1", "a.png", "PA", "pain", 1],
        ["s2", "p2", "b.png;blank.png", "", "", 0],
        ["s3", "p3", "broken.png", "", "pain", 1],
        ["s4", "p4", "a.png", "", "", 0],
        ["s5", "p5", "", "", "pain", ""],
    ]
    seen = []
    report = check_cohort(write_manifest(tmp_path / "made", rows), audited=False, progress=seen.append)
    files = {problem.split(":")[0]: problem for problem in report.problems}
    assert "blank" in files["blank.png"]
    assert "broken.png" in files
    assert "1 image file(s) stand in studies of several patients" in report.problems
    assert report.counts["images"] == 3
    assert report.remarks["images of unknown view"] == 2
    assert report.modalities.set_index("modality").studies["image"] == 3
    assert seen == sorted(seen)
    assert seen[-1] == 4, "every file once"


def test_values_that_are_left_out_are_counted_by_their_reason_over_all_studies(tmp_path):
    rows = [[f"s{i}", f"p{i}", "", "", "pain", i % 2] for i in range(3)]
    folder = write_manifest(tmp_path / "made", rows).root
    left_out = "".join(f"s{i},8867-4,80,/min\ns{i},718-7,14,furlong\n" for i in range(3))
    (folder / "observations.csv").write_text(f"study,code,value,unit\n{left_out}")
    report = check_cohort(load_cohort("manifest", folder), audited=False)
    ((reason, times),) = ((what, times) for what, times in report.remarks.items() if "left out" in what)
    assert times == 3
    assert reason.startswith("observations[*] left out (Haemoglobin): unit ")


def test_images_that_contradict_each_other_are_a_problem_of_their_study(tmp_path, folder):
    made = tmp_path / "made"
    made.mkdir()
    for name, source in zip(("first.dcm", "second.dcm"), sorted((folder / "images").iterdir()), strict=False):
        shutil.copy(source, made / name)
    rows = [["s1", "p1", "first.dcm;second.dcm", "", "", 1], ["s2", "p2", "a.png", "", "", 0]]
    report = check_cohort(write_manifest(made, rows), audited=False)
    [problem] = [problem for problem in report.problems if problem.startswith("study s1: ")]
    assert "2 different patient ids" in problem
    assert report.counts["images"] == 1


def test_what_is_doubtful_of_image_files_is_counted_and_names_its_element(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    tags = {"PatientAge": "036Y", "PatientSex": "F", "PresentationIntentType": "FOR PROCESSING"}
    (made / "tagged.dcm").write_bytes(dicom_file(ramp(), **tags))
    (made / "window.dcm").write_bytes(dicom_file(ramp(), WindowCenter=1, WindowWidth=0, PatientAge="040Y"))
    (made / "broken.dcm").write_bytes(dicom_file(ramp(), RescaleSlope=0))
    rows = [
        ["s1", "p1", "tagged.dcm", "PA", "", 1],
        ["s2", "p2", "window.dcm", "PA", "", 0],
        ["s3", "p3", "broken.dcm", "PA", "pain", 0],
    ]
    root = write_manifest(made, rows).root
    table = list(csv.reader(io.StringIO((root / "studies.csv").read_text())))
    with (root / "studies.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*row, extra] for row, extra in zip(table, ["age", "70", "", ""], strict=True))
    report = check_cohort(load_cohort("manifest", root), audited=False)
    assert report.remarks["images[*] gives the patient's age otherwise than the record"] == 1
    assert report.remarks["images[*].WindowWidth: 0 cannot be, and was passed over"] == 1
    assert report.remarks["images FOR PROCESSING"] == 1
    assert "broken.dcm: image.RescaleSlope: must not be zero" in report.problems
    values = report.tables["observations"].frame.set_index("value").studies
    assert (values["age"], values["sex"]) == (2, 1), "the files tell what the table does not"
