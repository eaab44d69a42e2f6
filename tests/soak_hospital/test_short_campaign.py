"""A short soak, in which most studies meet something."""

from __future__ import annotations

from pathlib import Path

from tests.soak_hospital.campaign import Campaign
from tests.soak_hospital.planned_studies import Mishap
from tests.soak_hospital.verdict import failures


def test_no_mishap_loses_a_study_answers_it_twice_or_mixes_patients(tmp_path: Path) -> None:
    played = Campaign(tmp_path, studies=15, seed=3, share=0.12).play()
    met = set().union(*(study.mishaps for study in played.studies))
    assert len(met) > len(Mishap) // 2
    assert played.deaths.total() > 0
    assert failures(played) == []
    played.hospital.store.close()
