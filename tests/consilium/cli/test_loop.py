"""The parts of a year in service that need no training: its calendar, its studies, its audit log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from consilium.cli.loop.arrivals import arrivals, phase_folder, slice_cohort, write_hospital, written
from consilium.cli.loop.year import MONTHS, Year
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort

SMALL = Year(at_start=24, a_month=3, seed=5)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("year") / "hospital"
    write_hospital(folder, SMALL)
    return folder


def _cohort(hospital: Path, begin: int) -> Cohort:
    return load_cohort("manifest", phase_folder(hospital, begin))


def test_every_study_arrives_once_within_its_month_and_is_read_later_or_never() -> None:
    found = {month: arrivals(SMALL, month) for month in range(1, MONTHS + 1)}
    assert found[3] == arrivals(SMALL, 3)
    ids = [one.study_id for month in found.values() for one in month]
    assert len(ids) == len(set(ids)) == MONTHS * SMALL.a_month
    assert set(ids).isdisjoint(f"S{number:06d}" for number in SMALL.numbers(0))
    for month, studies in found.items():
        assert all(SMALL.begin(month) <= one.time < SMALL.begin(month + 1) for one in studies)
        assert all(one.read_at is None or one.read_at - one.time >= timedelta(days=1) for one in studies)


def test_reads_are_delayed_and_lacking_as_often_as_the_year_says() -> None:
    many = [one for month in range(1, MONTHS + 1) for one in arrivals(Year(a_month=1000), month)]
    delays = [(one.read_at - one.time).days for one in many if one.read_at is not None]
    assert len(delays) / len(many) == pytest.approx(0.7, abs=0.02)
    assert np.mean(delays) == pytest.approx(13.5, abs=0.6)


def test_the_months_of_a_phase_have_its_shifts_and_the_days_are_those_of_the_calendar() -> None:
    assert [SMALL.phase_of(month) for month in range(1, 13)] == [1] * 4 + [5] * 3 + [8] * 5
    assert "device" in SMALL.phases[5]
    assert set(SMALL.phases[5]) < set(SMALL.phases[8])
    assert sum(len(SMALL.days(month)) for month in range(1, 13)) in {365, 366}
    assert SMALL.begin(13).year == SMALL.number + 1


def test_a_phase_holds_the_studies_up_to_its_last_month(hospital: Path) -> None:
    lengths = [len(_cohort(hospital, begin)) for begin in SMALL.phases]
    assert lengths == [24 + 4 * 3, 24 + 7 * 3, 24 + 12 * 3]
    assert written(SMALL) == sum(lengths)


def test_a_slice_holds_its_studies_alone_with_all_their_records(hospital: Path, tmp_path: Path) -> None:
    source, wanted = _cohort(hospital, 5), [f"S{number:06d}" for number in SMALL.numbers(6)]
    slice_cohort(source, tmp_path / "slice", wanted)
    found = load_cohort("manifest", tmp_path / "slice")
    before = {record.study_id: record for record in source.records}
    assert [record.study_id for record in found.records] == wanted
    for record in found.records:
        assert record.parts == before[record.study_id].parts
        assert [file.path.read_bytes() for file in record.every_file] == [
            file.path.read_bytes() for file in before[record.study_id].every_file
        ]


def test_labels_that_slipped_are_those_of_the_next_study(hospital: Path, tmp_path: Path) -> None:
    source = _cohort(hospital, 1)
    slice_cohort(source, tmp_path / "slipped", {record.study_id for record in source.records}, slipped=True)
    found = load_cohort("manifest", tmp_path / "slipped")
    assert np.array_equal(found.labels, np.roll(source.labels, -1, axis=0))
