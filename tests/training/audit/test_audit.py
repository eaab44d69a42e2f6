import json

import numpy as np
import pytest

from consilium.domain.study import Patient
from consilium.domain.variables import BUILT_IN
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.note import Note, NoteKind
from tests.training.audit.made import made_cached, made_cohort
from training.audit.audit import audit_cohort
from training.audit.report import SOUND, SUSPECT, UNUSABLE

N = 200
WORDS = ("tired", "cough", "pain", "fever", "chills", "walk", "stairs", "since", "week", "evening", "night", "sleeps")


def made(seed=0, site_follows=0.0):
    """Notes and one value of which the value tells the finding; the site, too, as far as it `site_follows`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, N)
    site = np.where(rng.random(N) < site_follows, labels, rng.integers(0, 3, N))
    notes = [(Note(NoteKind.HISTORY, " ".join(rng.choice(WORDS, 12))),) for _ in range(N)]
    value = np.abs(rng.normal(30 + 40 * labels, 20))
    crp = [(Observation("crp", BUILT_IN["crp"].code, v, v, "mg/L"),) for v in value]
    return made_cohort(
        labels,
        source=[f"site {number}" for number in site],
        date=[str(year) for year in rng.integers(2015, 2020, N)],
        notes=notes,
        observations=crp,
        patient=[Patient(float(age)) for age in rng.integers(20, 90, N)],
    )


@pytest.fixture(scope="module")
def sound():
    return audit_cohort(made_cached(made()))


def test_a_sound_cohort_is_called_sound(sound):
    assert sound.verdict == SOUND, sound.summary.reasons
    assert sound.summary.reasons == ()
    assert 0 < sound.false_alarm_rate <= 0.05
    assert {"shortcuts", "sources", "duplicates"} <= set(sound.tables)
    values = sound.tables["shortcuts"].reference
    assert values.iloc[0] > 0.85, "the values stand in for the model"


def test_a_site_that_follows_the_finding_is_suspect_and_named():
    cohort = made(1, site_follows=0.9)
    report = audit_cohort(made_cached(cohort))
    assert report.verdict == SUSPECT
    shortcut = next(reason for reason in report.summary.reasons if "without looking" in reason)
    assert "from the site" in shortcut
    assert "the best simple baseline reaches" in shortcut
    grades = [concern.grade for concern in report.concerns]
    assert grades == sorted(grades, reverse=True), "suspect stands before remark"


def test_the_model_s_own_auroc_is_what_the_probe_is_held_against():
    report = audit_cohort(made_cached(made(1, site_follows=0.5)), model_auroc={"finding_0": 0.6})
    assert (report.tables["shortcuts"].reference == 0.6).all()
    assert any("the model reaches 0.60" in reason for reason in report.summary.reasons)


def test_a_report_names_nobody_and_is_json(sound):
    text = json.dumps(sound.to_json(), allow_nan=False)
    assert json.loads(text)["verdict"] == "sound"
    assert "study-" not in text
    assert "patient-" not in text


def test_the_same_seed_gives_the_same_report(sound):
    again = audit_cohort(made_cached(made()))
    assert again.to_json() == sound.to_json()


def test_a_handful_of_patients_is_no_error():
    few = made_cohort(
        [0, 1, 0, 1], patients=[0, 0, 1, 1], notes=[(Note(NoteKind.HISTORY, f"cough {row}"),) for row in range(4)]
    )
    report = audit_cohort(made_cached(few))
    assert "shortcuts" not in report.tables
    json.dumps(report.to_json(), allow_nan=False)


def test_a_finding_too_rare_to_evaluate_does_not_condemn_the_others():
    rng = np.random.default_rng(2)
    common, rare = rng.integers(0, 2, 60), np.arange(60) < 3
    notes = [(Note(NoteKind.HISTORY, " ".join(rng.choice(WORDS, 12))),) for _ in range(60)]
    beside = audit_cohort(made_cached(made_cohort(np.column_stack([common, rare]), notes=notes)))
    assert beside.verdict == SUSPECT
    assert {concern.finding for concern in beside.concerns if concern.grade == SUSPECT} == {"finding_1"}
    alone = audit_cohort(made_cached(made_cohort(rare, notes=notes)))
    assert alone.verdict == UNUSABLE
