"""The laboratory values of the COVID-19 Image Repository, and their way into the cohort."""

import csv
from datetime import timedelta
from pathlib import Path

import pytest

from consilium.domain.errors import CohortError, InputError
from consilium.formats.quantities import Comparator
from training.cohorts.covid_chestxray import read_covid_chestxray
from training.cohorts.hannover_labs import DAY_OF_IMAGE, read_labs

VALUES = ("crp", "d-dimer", "ldh", "lymphocytes", "neutrophils", "pco2", "po2")
COLUMNS = ["filename", *(f"{name}_{part}" for name in VALUES for part in ("val", "offset"))]


def write(path, *rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_values_keep_their_unit_and_their_day(tmp_path):
    rows = {"filename": "a.jpg", "crp_val": "81.0", "crp_offset": "-2.0", "po2_val": "55", "po2_offset": "0"}
    crp, po2 = read_labs(write(tmp_path / "labs.csv", rows))["a.jpg"]
    assert (crp.variable, crp.value, crp.time) == ("crp", 81, DAY_OF_IMAGE - timedelta(days=2))
    assert (po2.variable, po2.value, po2.time) == ("po2_blood", 55, DAY_OF_IMAGE)


def test_d_dimer_in_mg_per_litre_is_read_in_ng_per_millilitre(tmp_path):
    (found,) = read_labs(write(tmp_path / "labs.csv", {"filename": "a", "d-dimer_val": "0.6", "d-dimer_offset": "0"}))[
        "a"
    ]
    assert found.value == pytest.approx(600)


def test_beyond_detection_is_a_limit_at_the_column_s_smallest_and_largest_number(tmp_path):
    texts = ("-inf", "0.4", "31.2", "inf")
    table = write(
        tmp_path / "labs.csv",
        *({"filename": str(n), "d-dimer_val": text, "d-dimer_offset": "0"} for n, text in enumerate(texts)),
    )
    found = [values[0] for values in read_labs(table).values()]
    assert [one.comparator for one in found] == [Comparator.BELOW, None, None, Comparator.ABOVE]
    assert [one.value for one in found] == pytest.approx([400, 400, 31200, 31200])


def test_a_value_that_is_no_number_is_named_with_its_row_and_column(tmp_path):
    table = write(tmp_path / "labs.csv", {"filename": "a", "crp_val": "high", "crp_offset": "0"})
    with pytest.raises(CohortError, match=r"(?s)crp_val.*high"):
        read_labs(table)


def test_a_day_that_is_missing_is_named(tmp_path):
    with pytest.raises(CohortError, match="crp_offset"):
        read_labs(write(tmp_path / "labs.csv", {"filename": "a", "crp_val": "3"}))


def test_an_image_that_stands_twice_is_named(tmp_path):
    with pytest.raises(CohortError, match="must name an image once"):
        read_labs(write(tmp_path / "labs.csv", {"filename": "a"}, {"filename": "a"}))


def test_a_folder_without_the_table_is_named_by_its_key(tmp_path):
    with pytest.raises(InputError, match=r"cohort\.labs"):
        read_labs(tmp_path)


def test_public_table_joins_the_public_cohort(covid_chestxray_root: Path):
    folder = covid_chestxray_root.parent / "labs-hannover"
    if not folder.is_dir():
        pytest.skip("labs-hannover is not beside the covid-chestxray cohort")
    plain = read_covid_chestxray(covid_chestxray_root, "severity")
    cohort = read_covid_chestxray(covid_chestxray_root, "severity", labs=folder)
    added = [o for record in cohort.records for o in record.parts["observations"] if o.time is not None]
    count = {name: sum(o.variable == name for o in added) for name in ("crp", "d_dimer", "ldh", "pco2_blood")}
    assert count == {"crp": 69, "d_dimer": 32, "ldh": 40, "pco2_blood": 63}
    assert sum(record.reference_time is not None for record in cohort.records) == 69
    assert not any(o.implausible for o in added)
    assert cohort.digest != plain.digest
