import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from consilium.calibration import patient_bootstrap
from tests.training.audit.made import made_cohort
from training.audit.shortcuts import EVERYTHING, Stand, bounded_auroc, find_shortcuts
from training.cohorts.splits import patient_folds

MODEL = Stand("the model", {"finding_0": 0.8, "finding_1": 0.8})


def coin(rng, n, labels=None, strength=0.0):
    """0 or 1; with `strength` it is the label."""
    free = rng.integers(0, 2, n)
    return free if labels is None else np.where(rng.random(n) < strength, labels, free)


def table(**columns):
    return pd.DataFrame({name: np.asarray(values, float) for name, values in columns.items()})


def probe(cohort, features, stand=MODEL, error_rate=0.05, k=4):
    folds = patient_folds(cohort.labels, cohort.patient_ids, k, 0)
    tables, concerns = find_shortcuts(cohort, features, folds, stand, error_rate=error_rate, seed=0)
    found = tables["shortcuts"]
    return (found.set_index(["finding", "group"]) if len(found) else found), concerns


def planted(seed=0, n=400):
    """The first of two findings follows the site; its date says nothing."""
    rng = np.random.default_rng(seed)
    labels = np.column_stack([coin(rng, n), coin(rng, n)])
    site = pd.Categorical(coin(rng, n, labels[:, 0], 0.8))
    features = {"source": pd.DataFrame({"source": site}), "date": table(year=rng.integers(2010, 2020, n))}
    return labels, features


def test_a_planted_shortcut_is_found_and_named():
    labels, features = planted()
    found, concerns = probe(made_cohort(labels), features)
    assert found.suspect[found.suspect].index.tolist() == [("finding_0", EVERYTHING), ("finding_0", "source")]
    expected = roc_auc_score(labels[:, 0], features["source"].source.astype(float))
    assert found.auroc["finding_0", "source"] == pytest.approx(expected, abs=0.02)
    [concern] = concerns
    assert (concern.kind, concern.grade, concern.finding) == ("shortcut", "suspect", "finding_0")
    for part in (
        "Finding 0 can be predicted without",
        f"{found.auroc['finding_0', 'source']:.2f} (",
        "from the site",
        "the model reaches 0.80",
    ):
        assert part in concern.text
    assert "date" not in concern.text


def test_a_model_that_gains_more_than_twice_as_much_is_believed():
    rng = np.random.default_rng(1)
    labels = coin(rng, 800)
    features = {"source": table(source=coin(rng, 800, labels, 0.45))}
    auroc = probe(made_cohort(labels), features)[0].auroc["finding_0", "source"]
    assert 0.68 < auroc < 0.78
    gain = auroc - 0.5
    for reached, suspect in (
        (0.5 + 2 * gain - 0.01, True),
        (0.5 + 2 * gain + 0.01, False),
        (np.nan, True),
        (0.4, True),
    ):
        found, concerns = probe(made_cohort(labels), features, Stand("the model", {"finding_0": reached}))
        assert found.suspect.item() is suspect
        assert bool(concerns) is suspect


def test_weak_signals_are_no_shortcut():
    rng = np.random.default_rng(2)
    labels = coin(rng, 800)
    found, concerns = probe(
        made_cohort(labels),
        {"source": table(source=coin(rng, 800, labels, 0.15))},
        Stand("the model", {"finding_0": 0.55}),
    )
    assert found.auroc.item() == pytest.approx(0.575, abs=0.03)
    assert not found.suspect.item()
    assert concerns == []


def test_what_may_be_medicine_is_marked():
    rng = np.random.default_rng(3)
    labels = coin(rng, 400)
    features = {"view": table(view=coin(rng, 400, labels, 0.9)), "date": table(year=coin(rng, 400, labels, 0.5))}
    _, concerns = probe(made_cohort(labels), features)
    texts = [concern.text for concern in concerns]
    assert len(texts) == 2
    assert "without looking at the patient" in texts[0]
    assert "the date" in texts[0]
    assert "view" not in texts[0]
    assert "may be medicine" in texts[1]
    assert "the view position" in texts[1]
    assert {concern.grade for concern in concerns} == {"suspect"}


def test_what_only_medicine_may_explain_is_not_called_an_origin():
    rng = np.random.default_rng(9)
    labels = coin(rng, 400)
    features = {"missingness": table(age=coin(rng, 400, labels, 0.9)), "date": table(year=coin(rng, 400))}
    _, concerns = probe(made_cohort(labels), features)
    [concern] = concerns
    assert "may be medicine" in concern.text
    assert "all that is known" in concern.text


def test_facts_that_tell_only_together_are_found():
    rng = np.random.default_rng(4)
    site, year = coin(rng, 600), coin(rng, 600)
    features = {"source": table(source=site), "date": table(year=year)}
    found, concerns = probe(made_cohort((site != year).astype(int)), features)
    assert found.suspect.to_dict() == {
        ("finding_0", EVERYTHING): True,
        ("finding_0", "source"): False,
        ("finding_0", "date"): False,
    }
    assert "all that is known" in concerns[0].text


def test_a_patient_who_is_known_again_is_no_shortcut():
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(60), 5)
    labels = coin(rng, 60)[patients]
    number = rng.random(60)[patients]
    found, _ = probe(made_cohort(labels, patients=patients), {"size": table(rows=number)})
    assert found.auroc.item() < 0.6


def test_unknown_labels_teach_nothing_and_few_patients_are_not_probed():
    rng = np.random.default_rng(6)
    labels = np.column_stack([coin(rng, 300), np.zeros(300)]).astype(float)
    labels[:100, 0] = np.nan
    labels[:18, 1] = 1
    site = np.where(np.isnan(labels[:, 0]), 0, labels[:, 0])
    found, _ = probe(made_cohort(labels, patients=np.arange(300) // 2), {"source": table(source=site)})
    assert found.index.get_level_values("finding").unique().tolist() == ["finding_0"]
    assert found.studies.item() == 200
    assert found.positives.item() == np.nansum(labels[:, 0])
    assert found.auroc.item() == 1.0


def test_the_more_is_asked_the_less_each_answer_is_believed():
    labels, features = planted()
    one, _ = probe(made_cohort(labels[:, :1]), {"source": features["source"]})
    many, _ = probe(made_cohort(labels), features)
    assert one.low.item() == pytest.approx(one.lower_bound.item())
    assert many.lower_bound["finding_0", "source"] < many.low["finding_0", "source"] < many.auroc["finding_0", "source"]
    # One finding out of two, half of the error for the single groups, one group out of two.
    slope = norm.isf(0.05 / 8) / norm.isf(0.05)
    auroc, low, bound = (logit(many[column]["finding_0", "source"]) for column in ("auroc", "low", "lower_bound"))
    assert (auroc - bound) / (auroc - low) == pytest.approx(slope)


def test_the_bound_has_the_width_of_delong_s_for_one_study_a_patient():
    rng = np.random.default_rng(7)
    labels = (rng.random(500) < 0.3).astype(np.float32)
    scores = rng.normal(size=500) + 1.2 * labels
    measured = bounded_auroc(labels, scores, patient_bootstrap(np.arange(500), 2000, 0), 0.01)
    wins = (scores[labels == 1][:, None] > scores[labels == 0][None, :]).astype(float)
    auroc = wins.mean()
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / len(wins) + wins.mean(axis=0).var(ddof=1) / wins.shape[1])
    expected = expit(logit(auroc) - norm.isf(0.01) * error / (auroc * (1 - auroc)))
    assert measured["auroc"] == pytest.approx(auroc)
    assert measured["lower_bound"] == pytest.approx(expected, abs=0.005)


def test_studies_of_one_patient_count_as_one():
    rng = np.random.default_rng(8)
    labels = (rng.random(100) < 0.4).astype(np.float32)
    scores = rng.normal(size=100) + labels
    once = bounded_auroc(labels, scores, patient_bootstrap(np.arange(100), 500, 0), 0.05)
    again = bounded_auroc(
        np.tile(labels, 4), np.tile(scores, 4), patient_bootstrap(np.tile(np.arange(100), 4), 500, 0), 0.05
    )
    assert again["auroc"] == pytest.approx(once["auroc"])
    assert again["lower_bound"] == pytest.approx(once["lower_bound"], abs=1e-6)


def test_nothing_to_go_by_is_no_concern():
    found, concerns = probe(made_cohort([0, 1] * 20), {})
    assert len(found) == 0
    assert concerns == []
