import csv
import logging

import numpy as np
import pytest
from PIL import Image

from consilium.domain.errors import CohortError, InputError
from consilium.domain.study import Sex
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.text.note import NoteKind
from training.cohorts import load_cohort
from training.cohorts.covid_chestxray import SAME_PEOPLE, TASKS, read_covid_chestxray
from training.cohorts.label_masking import load_word_mask, word_pattern

COLUMNS = (
    *("patientid", "offset", "sex", "age", "finding", "survival", "intubated", "intubation_present", "went_icu"),
    *("in_icu", "temperature", "pO2_saturation", "leukocyte_count", "neutrophil_count", "lymphocyte_count", "view"),
    *("modality", "date", "folder", "filename", "doi", "url", "clinical_notes", "other_notes"),
)
HANNOVER = "https://github.com/ml-workgroup/covid-19-image-repository"


def write(root, *rows, columns=COLUMNS, images=True):
    """A cohort folder of `rows` (each a dict of what differs from a plain X-ray of its own patient)."""
    (root / "images").mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for number, row in enumerate(rows):
            plain = {"patientid": f"9{number}", "finding": "COVID-19", "modality": "X-ray", "folder": "images"}
            full = plain | {"filename": f"{number}.png"} | row
            writer.writerow({key: value for key, value in full.items() if key in columns})
            if images and full["filename"].endswith("png"):
                Image.fromarray(np.full((4, 4), number, np.uint8)).save(root / "images" / full["filename"])
    return root


def severities(root, **options):
    return {r.study_id: float(r.labels[0]) for r in read_covid_chestxray(root, "severity", **options).records}


def test_a_row_becomes_a_study(tmp_path):
    row = {
        "sex": "F",
        "age": "61.0",
        "view": "AP Supine",
        "date": "11/27/19",
        "doi": "10.1/x",
        "url": "https://www.eurorad.org/case/1",
        "intubated": "Y",
        "clinical_notes": "Fever for 3 days.",
        "other_notes": "Case courtesy of Dr Somebody",
        "temperature": "38.3",
        "pO2_saturation": "88",
        "leukocyte_count": "2.85",
        "neutrophil_count": "1.92",
        "lymphocyte_count": "0.76",
    }
    (record,) = read_covid_chestxray(write(tmp_path, row), "severity").records
    assert (record.study_id, record.patient_id, record.labels.tolist()) == ("0.png", "90", [1.0])
    assert record.files["image"][0].path == tmp_path / "images" / "0.png"
    assert record.files["image"][0].known["view"] is ViewPosition.AP_SUPINE
    assert (record.patient.age, record.patient.sex) == (61.0, Sex.FEMALE)
    assert [(note.kind, note.text) for note in record.parts["text"]] == [(NoteKind.HISTORY, "Fever for 3 days.")]
    assert {o.variable: (o.value, o.given_unit) for o in record.parts["observations"]} == {
        "temperature": (38.3, "Cel"),
        "spo2": (88.0, "%"),
        "wbc": (2.85, "10*3/uL"),
        "neutrophils": (1.92, "10*3/uL"),
        "lymphocytes": (0.76, "10*3/uL"),
    }
    assert (record.source, record.date) == ("eurorad.org", "2019")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"went_icu": "Y"}, 1),
        ({"intubated": "Y", "went_icu": "N"}, 1),
        ({"in_icu": "Y"}, 1),
        ({"went_icu": "N"}, 0),
        ({"intubated": "N"}, 0),
        ({"intubation_present": "N", "in_icu": "N"}, np.nan),
        ({}, np.nan),
    ],
)
def test_severity_is_intensive_care_or_intubation_ever(tmp_path, known, expected):
    assert severities(write(tmp_path, known, {}))["0.png"] == pytest.approx(expected, nan_ok=True)


def test_severity_is_of_the_patient_not_of_the_row(tmp_path):
    root = write(tmp_path, {"patientid": "7", "went_icu": "N"}, {"patientid": "7", "went_icu": "Y"}, {"went_icu": "N"})
    assert severities(root) == {"0.png": 1, "1.png": 1, "2.png": 0}


def test_what_a_ct_row_says_of_the_patient_counts(tmp_path):
    root = write(tmp_path, {"patientid": "7"}, {"patientid": "7", "modality": "CT", "went_icu": "Y"})
    assert severities(root) == {"0.png": 1}


def test_negatives_resting_on_intubation_alone_can_be_left_unknown(tmp_path):
    root = write(tmp_path, {"intubated": "N"}, {"went_icu": "N"}, {"intubated": "Y"})
    assert severities(root) == {"0.png": 0, "1.png": 0, "2.png": 1}
    labels = severities(root, weak_negatives=False)
    assert np.isnan(labels.pop("0.png"))
    assert labels == {"1.png": 0, "2.png": 1}


def test_strict_leaves_out_images_taken_after_the_outcome(tmp_path):
    icu = {"patientid": "7", "went_icu": "Y"}
    root = write(
        tmp_path,
        icu | {"offset": "1", "in_icu": "N"},
        icu | {"offset": "3", "in_icu": "Y"},
        icu | {"offset": "9", "in_icu": "N"},
        icu | {"offset": "2", "intubation_present": "N"},
        {"went_icu": "Y", "intubation_present": "Y"},
        {"went_icu": "N", "offset": "40"},
    )
    assert len(severities(root)) == 6
    assert severities(root, strict=True) == {"0.png": 1, "3.png": 1, "5.png": 0}


@pytest.mark.parametrize(
    ("finding", "cause"),
    [
        ("COVID-19", "covid_19"),
        ("COVID-19, ARDS", "covid_19"),
        ("Pneumonia/Viral/COVID-19", "covid_19"),
        ("SARS", "other_viral"),
        ("Pneumonia/Viral/MERS-CoV", "other_viral"),
        ("Varicella", "other_viral"),
        ("Influenza", "other_viral"),
        ("Streptococcus", "bacterial"),
        ("Mycoplasma Bacterial Pneumonia", "bacterial"),
        ("E.Coli", "bacterial"),
        ("Tuberculosis", "bacterial"),
        ("Pneumocystis", "fungal"),
        ("Pneumonia/Fungal/Aspergillosis", "fungal"),
        ("ARDS", "other"),
        ("Pneumonia", "other"),
        ("Pneumonia/Lipoid", "other"),
        ("No Finding", "no_finding"),
        ("Unknown", None),
        ("todo", None),
        ("", None),
    ],
)
def test_aetiology_has_one_cause_or_is_unknown(tmp_path, finding, cause):
    cohort = read_covid_chestxray(write(tmp_path, {"finding": finding}), "aetiology")
    assert cohort.findings.exclusive
    if cause is None:
        assert np.isnan(cohort.labels).all()
    else:
        assert cohort.labels[0].tolist() == [float(name == cause) for name in TASKS["aetiology"].names]


def test_the_same_people_share_an_id(tmp_path):
    root = write(tmp_path, *({"patientid": patient} for pair in SAME_PEOPLE for patient in pair), {"patientid": "5"})
    cohort = read_covid_chestxray(root, "severity")
    assert len(cohort) == 13
    assert len(set(cohort.patient_ids)) == 7
    assert cohort.records[0].patient_id == cohort.records[1].patient_id == "78"


def test_an_image_listed_under_two_patients_stands_once_and_joins_them(tmp_path, caplog):
    rows = [
        {"patientid": "1", "filename": "same.png"},
        {"patientid": "2", "filename": "same.png", "went_icu": "Y"},
        {"patientid": "2", "filename": "other.png"},
        {"patientid": "3", "filename": "own.png", "went_icu": "N"},
    ]
    with caplog.at_level(logging.WARNING):
        cohort = read_covid_chestxray(write(tmp_path, *rows), "severity")
    assert [(r.study_id, r.patient_id, r.labels[0]) for r in cohort.records] == [
        ("same.png", "1", 1),
        ("other.png", "1", 1),
        ("own.png", "3", 0),
    ]
    assert "1 left out: image listed before" in caplog.text


def test_oxygen_in_mmhg_is_not_taken_for_percent(tmp_path, caplog):
    root = write(
        tmp_path, {"pO2_saturation": "130"}, {"pO2_saturation": "70", "url": HANNOVER}, {"pO2_saturation": "70"}
    )
    with caplog.at_level(logging.WARNING):
        records = read_covid_chestxray(root, "severity").records
    assert [[o.value for o in record.parts["observations"]] for record in records] == [[], [], [70.0]]
    assert "2 left out: oxygen value in mmHg" in caplog.text


def test_numbers_that_are_none_are_left_out_and_counted(tmp_path, caplog):
    root = write(tmp_path, {"temperature": "high", "age": "44"}, {"neutrophil_count": "inf", "age": "412"})
    with caplog.at_level(logging.WARNING):
        records = read_covid_chestxray(root, "severity").records
    assert [record.parts["observations"] for record in records] == [(), ()]
    assert [record.patient.age for record in records] == [44.0, None]
    assert "temperature that is no finite number" in caplog.text
    assert "age that cannot be read" in caplog.text


def test_a_full_clone_loads_its_xrays_that_are_on_disk(tmp_path, caplog):
    root = write(
        tmp_path,
        {},
        {"modality": "CT", "folder": "volumes", "filename": "scan.nii.gz", "view": "Axial"},
        {"modality": "CT", "filename": "slice.png"},
        {"filename": "elsewhere.jpg"},
    )
    with caplog.at_level(logging.WARNING):
        cohort = read_covid_chestxray(root, "severity")
    assert [record.study_id for record in cohort.records] == ["0.png"]
    assert "2 left out: not an X-ray" in caplog.text
    assert "1 left out: image not on disk" in caplog.text


def test_other_spellings_of_the_columns_load(tmp_path):
    columns = ("patientID", "finding", "modality", "filename", "pO2 saturation", "wbc count", "RT_PCR_positive")
    root = write(tmp_path, {"patientID": "4", "pO2 saturation": "90", "wbc count": "7"}, columns=columns)
    (record,) = read_covid_chestxray(root, "severity").records
    assert {o.variable: o.value for o in record.parts["observations"]} == {"spo2": 90.0, "wbc": 7.0}


def test_no_image_on_disk_is_an_error(tmp_path):
    with pytest.raises(CohortError, match="none of the 2 X-ray images"):
        read_covid_chestxray(write(tmp_path, {}, {}, images=False), "severity")


@pytest.mark.parametrize("filename", ["../../outside.png", "..\\x.png"])
def test_a_path_that_leaves_the_folder_is_refused_with_its_row(tmp_path, filename):
    root = write(tmp_path, {}, {"filename": "absent.jpg"})
    with (root / "metadata.csv").open("a") as file:
        file.write(",".join({"modality": "X-ray", "filename": filename}.get(column, "") for column in COLUMNS) + "\n")
    with pytest.raises(CohortError) as caught:
        read_covid_chestxray(root, "severity")
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(4, "filename")]


def test_missing_columns_are_named_together(tmp_path):
    with pytest.raises(CohortError) as caught:
        read_covid_chestxray(write(tmp_path, {}, columns=("patientid", "filename")), "severity")
    assert [problem.column for problem in caught.value.problems] == ["finding", "modality"]


def test_unknown_kind_task_and_folder(tmp_path):
    with pytest.raises(InputError, match="severity, aetiology"):
        load_cohort("covid-chestxray", tmp_path, {"task": "survival"})
    with pytest.raises(InputError, match="must be one of covid-chestxray, manifest, phantom"):
        load_cohort("folder", tmp_path)
    with pytest.raises(InputError, match="must be a folder"):
        load_cohort("manifest", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"cohort\.task: got 'severity', is no known key; the cohort kind phantom has"):
        load_cohort("phantom", tmp_path, {"task": "severity"})
    with pytest.raises(InputError, match=r"cohort\.stric: got True, is no known key; the nearest is 'strict'"):
        load_cohort("covid-chestxray", tmp_path, {"task": "severity", "stric": True})


def test_digest_follows_task_masking_and_content(tmp_path):
    root = write(tmp_path, {"clinical_notes": "ICU, covid", "went_icu": "Y"}, {"went_icu": "N"})
    first = load_cohort("covid-chestxray", root, {"task": "severity"})
    assert load_cohort("covid-chestxray", root, {"task": "severity"}).digest == first.digest
    others = {
        load_cohort("covid-chestxray", root, {"task": "aetiology"}).digest,
        load_cohort("covid-chestxray", root, {"task": "severity", "mask_label_words": False}).digest,
    }
    assert len(others | {first.digest}) == 3


@pytest.mark.parametrize(
    ("task", "text", "masked"),
    [
        ("severity", "She was intubated and ventilated.", "She was and ."),
        ("severity", "Admitted to Intensive-Care unit, ETT in situ", "Admitted to unit, in situ"),
        ("severity", "COVID-19 pneumonia, coughing, icumen", "COVID-19 pneumonia, coughing, icumen"),
        ("aetiology", "COVID-19 pneumonia in ICU", "pneumonia in ICU"),
        ("aetiology", "SARS-CoV-2 RT-PCR was positive", "was positive"),
        ("aetiology", "Pneumocystis jirovecii (PCP) suspected", "() suspected"),
    ],
)
def test_words_that_give_the_label_away_are_blanked_by_task(task, text, masked):
    assert load_word_mask("covid_masked_words.yaml", task)(text) == masked


def test_masking_can_be_switched_off(tmp_path):
    root = write(tmp_path, {"clinical_notes": "Ventilated in ICU.  Fever."})
    texts = [
        load_cohort("covid-chestxray", root, {"task": "severity", "mask_label_words": mask})
        .records[0]
        .parts["text"][0]
        .text
        for mask in (True, False)
    ]
    assert texts == ["in . Fever.", "Ventilated in ICU.  Fever."]


def test_entries_are_whole_words():
    pattern = word_pattern(["flu", "rt pcr", "viral*"])
    assert pattern.findall("flu fluid RT-PCR rt  pcr virally antiviral") == ["flu", "RT-PCR", "rt  pcr", "virally"]
