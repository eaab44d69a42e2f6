import csv
import os
import tempfile
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from consilium.domain.errors import CohortError
from consilium.domain.study import Sex
from consilium.formats.time_zone import TimeZone
from consilium.ingest.study_records import study_from_records
from consilium.masking import mask_text
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.text.note import NoteKind
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from training.cohorts import load_cohort
from training.cohorts.manifest import read_manifest
from training.cohorts.phantom.write import write_phantom
from training.cohorts.splits import split_cohort

PLAIN = {"patient": "p1", "note_history": "Cough for three days.", "label:pneumonia": "1"}


def write_table(path, rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write(root, *studies, observations=None, description=None):
    """A cohort folder; each study is what differs from a plain one."""
    write_table(root / "studies.csv", [{"study": f"s{i}"} | PLAIN | study for i, study in enumerate(studies)])
    if observations is not None:
        write_table(root / "observations.csv", observations)
    if description is not None:
        (root / "cohort.yaml").write_text(yaml.safe_dump(description))
    return root


def problems(root):
    with pytest.raises(CohortError) as caught:
        read_manifest(root)
    return caught.value.problems


def places(root):
    return [(problem.table, problem.row, problem.column) for problem in problems(root)]


def only(root):
    (problem,) = problems(root)
    return problem


def test_a_full_row_becomes_a_study(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.dcm", "b.png"):
        (tmp_path / "images" / name).write_bytes(b"pixels")
    (tmp_path / "note.txt").write_text("Known asthma.\n")
    study = {
        "patient": "p7",
        "age": "61.5",
        "sex": "F",
        "reference_time": "2020-03-01T10:00:00",
        "images": "images/a.dcm; images/b.png",
        "views": "PA;LL",
        "note_history": "@note.txt",
        "note_impression": "Pneumonia.",
        "note_impression_time": "2020-03-01T11:00",
        "label:pneumonia": "1",
        "label:effusion": "",
        "label:failure": "0.0",
        "split": "test",
        "source": "site-b",
        "date": "2020-03",
    }
    observations = [
        {"study": "s0", "code": "1988-5", "value": "12", "unit": "mg/dL", "time": "2020-03-01T09:00:00"},
        {"study": "s0", "code": "8310-5", "value": "101.3", "unit": "[degF]"},
    ]
    cohort = read_manifest(write(tmp_path, study, observations=observations))
    (record,) = cohort.records
    assert (cohort.name, cohort.findings.names) == (tmp_path.name, ("pneumonia", "effusion", "failure"))
    assert [finding.display for finding in cohort.findings] == ["Pneumonia", "Effusion", "Failure"]
    assert (record.study_id, record.patient_id, record.split) == ("s0", "p7", "test")
    assert (record.source, record.date) == ("site-b", "2020-03")
    assert np.array_equal(record.labels, np.array([1, np.nan, 0], np.float32), equal_nan=True)
    assert [(i.path.name, i.known["view"]) for i in record.files["image"]] == [
        ("a.dcm", ViewPosition.PA),
        ("b.png", ViewPosition.LATERAL),
    ]
    assert (record.patient.age, record.patient.sex) == (61.5, Sex.FEMALE)
    assert record.reference_time == datetime(2020, 3, 1, 10, tzinfo=UTC)
    assert [(n.kind, n.text, n.time) for n in record.parts["text"]] == [
        (NoteKind.HISTORY, "Known asthma.", None),
        (NoteKind.IMPRESSION, "Pneumonia.", datetime(2020, 3, 1, 11, tzinfo=UTC)),
    ]
    assert [(o.variable, o.given_unit, o.time) for o in record.parts["observations"]] == [
        ("crp", "mg/dL", datetime(2020, 3, 1, 9, tzinfo=UTC)),
        ("temperature", "[degF]", None),
    ]
    assert [o.value for o in record.parts["observations"]] == pytest.approx([120.0, 38.5])


def test_ages_sexes_and_numbers_as_tables_write_them(tmp_path):
    written = (("18 months", "Female"), ("090Y", "m"), ("> 89", "W"), ("67,5", ""))
    studies = ({"study": f"s{i}", "age": age, "sex": sex} for i, (age, sex) in enumerate(written))
    observations = [{"study": "s0", "code": "1988-5", "value": "1,9", "unit": "mg/dL"}]
    records = read_manifest(write(tmp_path, *studies, observations=observations)).records
    assert [(r.patient.age, r.patient.sex) for r in records] == [
        (1.5, Sex.FEMALE),
        (90.0, Sex.MALE),
        (90.0, Sex.FEMALE),
        (67.5, Sex.UNKNOWN),
    ]
    assert [o.given_value for o in records[0].parts["observations"]] == [1.9]
    comma = "the comma was read as a decimal point"
    assert [r.warnings for r in records] == [
        (f"observations[0].value: {comma}",),
        (),
        ("patient.age: only a limit is given, read as 90 years",),
        (f"patient.age: {comma}",),
    ]


@pytest.mark.parametrize("value", ["1_000", "nan", "inf", "１２", "250,000", "1.2.3", "12 mg/L"])
def test_value_that_is_no_number_is_a_problem_of_its_row(tmp_path, value):
    observations = [{"study": "s0", "code": "1988-5", "value": value, "unit": "mg/L"}]
    assert places(write(tmp_path, {}, observations=observations)) == [("observations.csv", 2, "value")]


def test_times_of_a_cohort_are_those_of_its_zone(tmp_path):
    observations = [
        {"study": "s0", "code": "1988-5", "value": "1", "unit": "mg/L", "time": "2020-03-01T09:00:00"},
        {"study": "s0", "code": "1988-5", "value": "2", "unit": "mg/L", "time": "2020-03-01T09:00:00Z"},
    ]
    study = {"note_history": "x", "note_history_time": "2020-10-25T02:30", "reference_time": "2020-03-01T10:00+01:00"}
    root = write(tmp_path, study, observations=observations, description={"time_zone": "Europe/Berlin"})
    (record,) = read_manifest(root, TimeZone("Asia/Tokyo")).records
    hours = [datetime(2020, 3, 1, hour, tzinfo=UTC) for hour in (8, 9)]
    assert [o.time for o in record.parts["observations"]] == hours
    assert record.reference_time == datetime(2020, 3, 1, 9, tzinfo=UTC)
    assert record.parts["text"][0].time == datetime(2020, 10, 25, 0, 30, tzinfo=UTC)
    twice = "the clocks of Europe/Berlin show this time twice that day; the first is taken"
    assert record.warnings == (f"note_history[0].time: {twice}",)
    image = Image(np.zeros((4, 4), np.uint16), "0", "dicom", acquired=datetime(2020, 3, 1, 9, 30))
    assert record.study({"image": [image]}).parts["image"][0].acquired == datetime(2020, 3, 1, 8, 30, tzinfo=UTC)
    # Without a zone of its own it is read in the one that is asked for, and is another cohort.
    (root / "cohort.yaml").unlink()
    elsewhere = read_manifest(root, TimeZone("Asia/Tokyo"))
    assert elsewhere.records[0].parts["observations"][0].time == datetime(2020, 3, 1, 0, tzinfo=UTC)
    assert elsewhere.records[0].parts["observations"][1].time == hours[1]


def test_cohorts_whose_times_are_the_same_instants_have_the_same_digest(tmp_path):
    def digest(folder, time, zone):
        (tmp_path / folder).mkdir()
        root = write(tmp_path / folder, {"reference_time": time}, description={"name": "x", "time_zone": zone})
        return read_manifest(root).digest

    written = [
        ("2020-03-01T10:00", "Europe/Berlin"),
        ("2020-03-01T09:00Z", "Asia/Tokyo"),
        ("20200301T1800", "Asia/Tokyo"),
    ]
    assert len({digest(str(number), *one) for number, one in enumerate(written)}) == 1
    assert digest("other", "2020-03-01T10:00", "Asia/Tokyo") != digest("same", *written[0])


def test_zone_that_does_not_exist_is_a_problem_of_the_description(tmp_path):
    problem = only(write(tmp_path, {}, description={"time_zone": "Berlin"}))
    assert (problem.table, problem.column, problem.value) == ("cohort.yaml", "time_zone", "Berlin")


def test_limits_categories_and_laboratories_units_are_read(tmp_path):
    observations = [
        {"study": "s0", "code": "1988-5", "value": "< 0.3", "unit": "MG/DL", "comparator": ""},
        {"study": "s0", "code": "777-3", "value": "250", "unit": "K/uL", "comparator": ""},
        {"study": "s0", "code": "62238-1", "value": "90", "unit": "mL/min/1.73m2", "comparator": ">="},
        {"study": "s0", "code": "20454-5", "value": "++", "unit": "", "comparator": ""},
        {"study": "s0", "code": "2160-0", "value": "1.1", "unit": "parsecs per fortnight", "comparator": ""},
        {"study": "s0", "code": "LOCAL:1", "value": "see text", "unit": "", "comparator": ""},
    ]
    root = write(tmp_path, {"study": "s0", "patient": "p0", "label:a": "1"}, observations=observations)
    (record,) = read_manifest(root).records
    assert [(o.variable, o.value, o.given_text) for o in record.parts["observations"]] == [
        ("crp", pytest.approx(3), "<0.3"),
        ("platelets", pytest.approx(250), "250"),
        ("egfr", 90, ">=90"),
        ("urine_protein", 3, "2+"),
    ]
    assert [warning.split(":")[0] for warning in record.warnings] == [
        "observations[4] left out (Creatinine)",
        "observations[5] left out",
    ]


def test_a_value_that_is_none_of_its_variable_is_a_problem_of_its_row(tmp_path):
    observations = [
        {"study": "s0", "code": "20454-5", "value": "positive", "unit": "", "comparator": ""},
        {"study": "s0", "code": "1988-5", "value": "negative", "unit": "mg/L", "comparator": ""},
        {"study": "s0", "code": "1988-5", "value": "5", "unit": "mg/L", "comparator": "about"},
        {"study": "s0", "code": "1988-5", "value": "5", "unit": "mg/L", "comparator": "<"},
    ]
    root = write(tmp_path, {"study": "s0", "patient": "p0", "label:a": "1"}, observations=observations)
    assert sorted(places(root), key=str) == [
        ("observations.csv", 2, "value"),
        ("observations.csv", 3, "value"),
        ("observations.csv", 4, "comparator"),
    ]


def test_every_problem_of_every_table_is_in_one_report(tmp_path):
    studies = (
        {"age": "old", "sex": "1"},
        {"study": "s0", "images": "images/absent.png"},
        {"label:pneumonia": "yes", "reference_time": "1.3.2020", "date": "spring"},
        {"patient": "Doe^John", "note_history": ""},
        {"split": "test", "colour": "red"},
    )
    observations = [
        {"study": "s0", "code": "1988-5", "value": "high", "unit": "mg/L"},
        {"study": "s9", "code": "CRP", "value": "1", "unit": "mg/L"},
        {"study": "s0", "code": "1988-5", "value": "12", "unit": "mg/L"},
        {"study": "s0", "code": "1988-5", "value": "12", "unit": "mm[Hg]"},
        {"study": "s0", "code": "1988-5", "value": "12", "unit": "parsecs per fortnight"},
    ]
    root = write(tmp_path, *studies, observations=observations)
    assert sorted(places(root), key=str) == sorted(
        [
            ("studies.csv", None, "colour"),
            ("studies.csv", 2, "age"),
            ("studies.csv", 2, "sex"),
            ("studies.csv", 3, "study"),
            ("studies.csv", 3, "images"),
            ("studies.csv", 4, "label:pneumonia"),
            ("studies.csv", 4, "reference_time"),
            ("studies.csv", 4, "date"),
            ("studies.csv", 5, "patient"),
            ("studies.csv", 5, "study"),
            *(("studies.csv", row, "split") for row in (2, 3, 4, 5)),
            ("studies.csv", 6, "split"),
            ("observations.csv", 2, "value"),
            ("observations.csv", 3, "study"),
        ],
        key=str,
    )


@pytest.mark.parametrize(
    ("study", "column", "rule"),
    [
        ({"sexx": "F"}, "sexx", "the nearest is 'sex'"),
        ({"lable:effusion": "1"}, "lable:effusion", "the nearest is 'label:"),
        ({"label:Pleural effusion": "1"}, "finding.name", "lower-case identifier"),
        ({"images": "../x.png"}, "images", "inside the folder"),
        ({"images": "/etc/passwd"}, "images", "inside the folder"),
        ({"images": "truth/mask.png"}, "images", "not in truth/"),
        ({"images": "./Truth/mask.png"}, "images", "not in truth/"),
        ({"images": "x.png;"}, "images", "inside the folder"),
        ({"note_history": "@truth/answer.txt"}, "note_history", "not in truth/"),
        ({"note_history": "@absent.txt"}, "note_history", "file that exists; a note that itself begins with @ is"),
        ({"note_history": "@ 3 pm: pain"}, "note_history", "is written @@"),
        ({"note_history": "@" + "x" * 300}, "note_history", "can be read (File name too long); a note that"),
        ({"images": "y" * 300}, "images", "must be a file that can be read (File name too long)"),
        ({"images": "loop.png"}, "images", "must be a file that"),
        ({"note_history": "x" * 200_000}, "note_history", "at most"),
        ({"study": "s" * 200_000}, "study", "pseudonym"),
        ({"age": "9" * 200_000}, "age", "0 to 130"),
        ({"images": "z" * 200_000}, "images", "File name too long"),
        ({"date": "2" * 200_000}, "date", "ISO 8601"),
        ({"note_history": "@latin.txt"}, "note_history", "UTF-8"),
        ({"note_history": "x" * 30_000}, "note_history", "at most"),
        ({"note_findings_time": "2020-03-01T10:00"}, "note_findings_time", "without note_findings"),
        ({"views": "PA"}, "views", "one for each image"),
        ({"views": "sideways"}, "views", "must be of AP"),
        ({"age": "131"}, "age", "0 to 130"),
        ({"age": "nan"}, "age", "0 to 130"),
        ({"reference_time": "2020-03-01T10:00:00+19:00"}, "reference_time", "date and time"),
        ({"reference_time": "2020-03-01"}, "reference_time", "date and time"),
        ({"note_history": "x", "note_history_time": "noon"}, "note_history_time", "date and time"),
        ({"note_history": ""}, "study", "must have an image, a note, an observation, an ECG, a volume or a sound"),
        ({"study": ""}, "study", "pseudonym"),
        ({"split": "dev"}, "split", "must be one of train"),
        ({"label:pneumonia": "2"}, "label:pneumonia", "must be 1, 0 or empty"),
    ],
)
def test_what_a_study_may_not_hold(tmp_path, study, column, rule):
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("Müdigkeit".encode("latin-1"))
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "truth").mkdir()
    for name in ("mask.png", "answer.txt"):
        (tmp_path / "truth" / name).write_bytes(b"x")
    found = [problem for problem in problems(write(tmp_path, study)) if problem.column == column]
    assert found
    assert any(rule in problem.rule for problem in found)
    assert all(problem.row in (2, None) for problem in found)


@pytest.mark.parametrize(
    ("cell", "text"), [("@@ 3 pm: pain", "@ 3 pm: pain"), ("@@@home", "@@home"), ("pain @ rest", "pain @ rest")]
)
def test_a_note_that_begins_with_an_at_sign_is_written_with_two(tmp_path, cell, text):
    (record,) = read_manifest(write(tmp_path, {"note_history": cell})).records
    assert [note.text for note in record.parts["text"]] == [text]


@pytest.fixture
def closed_cohort():
    """A sound cohort whose files its reader may not read: one that is closed by mode, and a reader who is not root."""
    with tempfile.TemporaryDirectory() as name:
        root = write(Path(name), {"images": "a.png", "note_history": "@note.txt"}, observations=[])
        root.chmod(0o755)
        (root / "a.png").write_bytes(b"pixels")
        (root / "note.txt").write_text("Cough.")
        (root / "observations.csv").write_text("study,code,value,unit\n")
        (root / "cohort.yaml").write_text("name: closed\n")
        read_manifest(root)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield root
        finally:
            os.seteuid(user)


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("studies.csv", ("studies.csv", None, "file")),
        ("observations.csv", ("observations.csv", None, "file")),
        ("cohort.yaml", ("cohort.yaml", None, "file")),
        ("a.png", ("studies.csv", 2, "images")),
        ("note.txt", ("studies.csv", 2, "note_history")),
    ],
)
def test_a_file_that_may_not_be_read_is_a_problem_of_its_table_and_row(closed_cohort, file, place):
    nobody = os.geteuid()
    os.seteuid(os.getuid())
    (closed_cohort / file).chmod(0)
    os.seteuid(nobody)
    problem = only(closed_cohort)
    assert (problem.table, problem.row, problem.column) == place
    assert "must be a file that can be read (Permission denied)" in problem.rule


def test_a_time_stands_with_its_note_only(tmp_path):
    root = write(tmp_path, {"note_findings": "", "note_findings_time": "2020-03-01T10:00"})
    assert (only(root).column, only(root).rule) == ("note_findings_time", "must not stand without note_findings")


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"secret")
    root = tmp_path / "cohort"
    root.mkdir()
    (root / "inside.png").symlink_to(outside)
    assert "inside the folder" in only(write(root, {"images": "inside.png"})).rule


def test_a_patient_stays_in_one_split(tmp_path):
    root = write(tmp_path, {"split": "train"}, {"split": "test"}, {"patient": "p2", "split": "test"})
    assert (only(root).row, only(root).rule) == (3, "must be the same for all studies of a patient")


def test_given_splits_reach_the_run(tmp_path):
    names = ("train", "validation", "calibration", "test")
    studies = [
        {"patient": f"p{name}{label}", "split": name, "label:pneumonia": str(label)}
        for name in names
        for label in (0, 1)
    ]
    splits = split_cohort(read_manifest(write(tmp_path, *studies)), dict.fromkeys(names, 0.25), seed=0)
    assert {name: indices.tolist() for name, indices in splits.items()} == {
        name: [2 * i, 2 * i + 1] for i, name in enumerate(names)
    }


def test_quoted_line_breaks_do_not_shift_the_rows(tmp_path):
    root = write(tmp_path, {"note_history": "one\ntwo\nthree"}, {"age": "old"})
    assert only(root).row == 3


def test_description_names_and_orders_the_findings(tmp_path):
    findings = [{"name": "effusion", "display": "Pleural effusion", "code": "60046008"}, {"name": "pneumonia"}]
    description = {"name": "ward-7", "findings": findings}
    cohort = read_manifest(write(tmp_path, {"label:effusion": "0"}, description=description))
    assert (cohort.name, cohort.findings.names) == ("ward-7", ("effusion", "pneumonia"))
    assert cohort.findings.findings[0].code == "60046008"
    assert cohort.labels.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("description", "column", "rule"),
    [
        ({"exclusiv": True}, "exclusiv", "the nearest is 'exclusive'"),
        ({"exclusive": "maybe"}, "exclusive", "boolean"),
        ({"findings": [{"name": "pneumonia", "title": "x"}]}, "findings.0.title", "nearest"),
        ({"findings": [{"name": "effusion"}]}, "label:effusion", "must be there as a column"),
        ({"findings": [{"name": "effusion"}]}, "label:pneumonia", "must be one of the findings"),
        ({"exclusive": True}, "findings", "at least two"),
        (["a", "list"], "file", "dictionary"),
    ],
)
def test_what_a_description_may_not_hold(tmp_path, description, column, rule):
    found = [problem for problem in problems(write(tmp_path, {}, description=description)) if problem.column == column]
    assert found
    assert rule in found[0].rule


def test_exclusive_findings_have_exactly_one_truth(tmp_path):
    studies = [
        {"label:pneumonia": "1", "label:failure": "1"},
        {"label:pneumonia": "0", "label:failure": "0"},
        {"label:pneumonia": "", "label:failure": "1"},
        {"label:pneumonia": "", "label:failure": ""},
    ]
    root = write(tmp_path, *studies, description={"exclusive": True})
    assert [row for _, row, _ in places(root)] == [2, 3]
    write(tmp_path, *studies[2:], description={"exclusive": True})
    labels = read_manifest(tmp_path).labels
    assert labels[0].tolist() == [0.0, 1.0]
    assert np.isnan(labels[1]).all()


def test_a_code_outside_the_table_is_left_out_with_a_warning(tmp_path):
    unknown = {"study": "s0", "code": "4544-3", "value": "1", "unit": "1"}
    if_known = {"study": "s0", "code": "1988-5", "value": "9", "unit": "mg/L"}
    (record,) = read_manifest(write(tmp_path, {}, observations=[{**unknown, "code": "99999-9"}, if_known])).records
    assert [o.variable for o in record.parts["observations"]] == ["crp"]
    assert "99999-9" in record.warnings[0]
    root = write(tmp_path, {"note_history": ""}, observations=[{**unknown, "code": "99999-9"}])
    assert "must have an image, a note, an observation, an ECG, a volume or a sound" in only(root).rule


def test_notes_and_ages_are_deidentified(tmp_path):
    text = "Seen by Dr Miller on 12 March 2020. Cough."
    (record,) = read_manifest(write(tmp_path, {"note_history": text, "age": "97"})).records
    assert record.parts["text"][0].text == "Seen by Dr [name] on [date]. Cough."
    assert record.patient.age == 90


def test_a_phantom_is_read_as_it_was_written(tmp_path):
    """Its truth counts the characters of its notes, so de-identification must find nothing in them."""
    root = tmp_path / "phantom"
    write_phantom(root, 30, seed=1, size=128, workers=1)
    rows = list(csv.DictReader((root / "studies.csv").open(newline="")))
    cohort = load_cohort("phantom", root)
    assert [record.study_id for record in cohort.records] == [row["study"] for row in rows]
    for record, row in zip(cohort.records, rows, strict=True):
        assert {note.kind.value: note.text for note in record.parts["text"]} == {
            kind.value: row[f"note_{kind.value}"] for kind in NoteKind if row.get(f"note_{kind.value}")
        }
        assert not record.warnings
        assert record.labels.tolist() == [float(row[f"label:{name}"]) for name in cohort.findings.names]


def test_records_give_studies_without_decoding_images(tmp_path):
    observations = [{"study": "s0", "code": "1988-5", "value": "9", "unit": "mg/L"}]
    (record,) = read_manifest(write(tmp_path, {}, observations=observations)).records
    study = record.study()
    assert study.parts["text"]
    assert study.parts["observations"]
    assert not study.parts["image"]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "exists"),
        (b"", "CSV"),
        (b"study,patient,label:gout\n1,2,3,4\n", "must have 3 cells"),
        (b"study,patient,label:gout\n1\n", "must have 3 cells"),
        (b"study,study\n1,2\n", "once"),
        (b'study\n"open', "CSV"),
        (b"study\n\xff\xfe\n", "UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, content, rule):
    if content is not None:
        (tmp_path / "studies.csv").write_bytes(content)
    assert rule in only(tmp_path).rule


def test_rows_of_another_length_are_reported_with_the_rest(tmp_path):
    lines = ["study,patient,age,label:gout,note_history", "s1,p1,70,1,pain, and swelling", "s2,p2,old,0,pain", "s3,p3"]
    (tmp_path / "studies.csv").write_text("\n".join(lines))
    (tmp_path / "observations.csv").write_text("study,code,value,unit\ns1,1988-5,9\ns3,1988-5,high,mg/L\n")
    assert sorted(places(tmp_path)) == [
        ("observations.csv", 2, "row"),
        ("observations.csv", 3, "value"),
        ("studies.csv", 2, "row"),
        ("studies.csv", 3, "age"),
        ("studies.csv", 4, "row"),
    ]


def test_missing_columns_are_reported_with_the_rest(tmp_path):
    (tmp_path / "studies.csv").write_text("study,age\ns0,old\n")
    assert {(row, column) for _, row, column in places(tmp_path)} >= {(None, "patient"), (None, "label:"), (2, "age")}


def test_the_digest_tells_content_apart_and_ignores_truth(tmp_path):
    root = write(tmp_path, {}, {"patient": "p2"})
    first = load_cohort("phantom", root).digest
    (root / "truth").mkdir()
    (root / "truth" / "posteriors.csv").write_text("study,p\n")
    assert load_cohort("manifest", root).digest == first
    write(tmp_path, {}, {"patient": "p2", "label:pneumonia": "0"})
    assert load_cohort("manifest", root).digest != first


def test_a_large_manifest_is_read_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    units = [("1988-5", "mg/L"), ("8310-5", "Cel"), ("6690-2", "10*3/uL"), ("2160-0", "mg/dL"), ("59408-5", "%")]
    studies = [{"patient": f"p{i}", "label:pneumonia": str(i % 2)} for i in range(2000)]
    observations = [
        {"study": f"s{i}", "code": code, "value": f"{rng.uniform(1, 30):.1f}", "unit": unit}
        for i in range(2000)
        for code, unit in units * 2
    ]
    root = write(tmp_path, *studies, observations=observations)
    start = time.process_time()
    cohort = read_manifest(root)
    assert time.process_time() - start < 8
    assert sum(len(record.parts["observations"]) for record in cohort.records) == 20_000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_descriptions_and_notes_with_a_byte_order_mark_are_read(tmp_path, encoding):
    (tmp_path / "studies.csv").write_text("study,patient,note_history,label:gout\ns1,p1,@a.txt,1\n", encoding=encoding)
    (tmp_path / "observations.csv").write_text("study,code,value,unit\ns1,1988-5,9,mg/L\n", encoding=encoding)
    (tmp_path / "cohort.yaml").write_text("name: feet\nfindings: [{name: gout}]\n", encoding=encoding)
    (tmp_path / "a.txt").write_text("Schwellung, 38 °C", encoding=encoding)
    cohort = read_manifest(tmp_path)
    (record,) = cohort.records
    assert cohort.name == "feet"
    assert record.parts["text"][0].text == "Schwellung, 38 °C"
    assert record.parts["observations"][0].value == 9


def test_notes_lose_the_names_of_the_table_the_headers_and_the_identifiers(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom_file(ramp(), PatientID="MRN-0042", ReferringPhysicianName="Hibbert^Julius"))
    (tmp_path / "b.png").write_bytes(b"no DICOM")
    study = {
        "study": "acc-77123",
        "patient": "pat-55512",
        "images": "a.dcm;b.png",
        "names": "Yamada^Tarou=山田^太郎; O'Brien",
        "note_history": "Anna MUELLER (MRN-0042, pat-55512); by Hibbert; wife 山田太郎さん, mother OBrien. acc-77123",
    }
    cohort = read_manifest(write(tmp_path, study))
    text = cohort.records[0].parts["text"][0].text
    assert text == "[name] ([id], [id]); by [name]; wife [name]さん, mother [name]. [id]"
    assert "names" not in {column.name for column in fields(cohort.records[0])}
    assert "Yamada" not in repr(cohort)
    raw = read_manifest(tmp_path, mask_notes=False).records[0].parts["text"][0].text
    assert raw == study["note_history"]


def test_names_do_not_change_what_a_cohort_is(tmp_path):
    one = read_manifest(write(tmp_path, {"note_history": "cough", "names": "Doe^Jane"})).digest
    assert read_manifest(write(tmp_path, {"note_history": "cough", "names": "Roe^Richard"})).digest == one


def test_a_cohort_and_a_request_give_the_model_the_same_text(tmp_path):
    data = dicom_file(ramp(), PatientID="MRN-0042")
    (tmp_path / "a.dcm").write_bytes(data)
    sent = (
        "Frau Müller, Anna (MRN-0042), Tel. 0711 123456, seit 12.3.2020 Husten. Sr. creatinine 2.1, 88 may need oxygen"
    )
    record = read_manifest(write(tmp_path, {"images": "a.dcm", "note_history": sent})).records[0]
    request = study_from_records(images=[read_dicom(data)], notes=[{"kind": "history", "text": sent}])
    masked = mask_text(request.parts["text"][0].text, request.known_names).text
    assert record.parts["text"][0].text == masked
    assert mask_text(masked).text == masked
