from __future__ import annotations

import pytest

from consilium.domain.study import Patient, Sex, Study
from consilium.modalities.observations.records import read_observations
from consilium.monitoring.categories import age_band, study_categories


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *((0, "0 to 17"), (17.9, "0 to 17"), (18, "18 to 39"), (64.9, "40 to 64"), (79.9, "65 to 79")),
        *((80, "80 and older"), (130, "80 and older"), (None, "unknown")),
    ],
)
def test_age_bands(age: float | None, band: str):
    assert age_band(age) == band


def test_a_study_of_which_nothing_is_known():
    assert study_categories(Study()) == {"sex": "unknown", "age_band": "unknown"}


@pytest.mark.parametrize(
    ("unit", "kept"),
    [("mg/dL", "mg/dL"), ("MG/DL", "MG/DL"), (" mg/dL ", "mg/dL"), ("mg/dL{Jane Roe 1950}", "mg/dL")],
)
def test_units_are_kept_as_they_are_written_and_without_annotations(unit: str, kept: str):
    values, warnings = read_observations([{"code": "1988-5", "value": 12, "unit": unit}])
    assert not warnings
    assert study_categories(Study({"observations": values}, patient=Patient(50, Sex.MALE)))["unit:crp"] == kept


def test_units_that_are_missing_or_differ():
    records = [{"code": "1988-5", "value": 12, "unit": "mg/L"}, {"code": "1988-5", "value": 1, "unit": "mg/dL"}]
    records.append({"code": "2744-1", "value": 7.4, "unit": ""})
    values, _ = read_observations(records)
    found = study_categories(Study({"observations": values}))
    assert found["unit:crp"] == "mg/L, mg/dL"
    assert {value for name, value in found.items() if name.startswith("unit:") and name != "unit:crp"} == {"none"}
