"""Reports give the answer away: the leak check that a training ends in finds whoever reads them.

What a model of words would learn is made by a bag of words; the check is `training.evaluation.comparisons.find_leaks`.
That no recipe can read reports is tested with the recipe.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from consilium.calibration import patient_bootstrap
from tests.training.cohorts.phantom.sampling import DESIGN, likelihoods_of, sample
from training.cohorts.phantom.image.dictation import render_report
from training.cohorts.phantom.oracle import posterior
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.state import FINDINGS, PRESENT, phantom_findings
from training.cohorts.phantom.text.note import ORDINARY, render_note
from training.evaluation.comparisons import find_leaks
from training.evaluation.metrics import Sample

STUDIES, LEARNED = 5000, 3000
Made = tuple[dict[str, list[str]], np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def made() -> Made:
    """Notes by kind, labels, and the best possible answers from what was written before the image was read."""
    state, readings = sample(STUDIES, 12)
    likelihoods = likelihoods_of(readings)
    prior = DESIGN.states().prior
    everything, before = (posterior(prior, likelihoods, DEFAULT_MODALITIES, m) for m in (DEFAULT_MODALITIES, ["text"]))
    thresholds = ORDINARY.thresholds
    cuts = np.concatenate(
        [thresholds[:, :1] - 1, (thresholds[:, 1:] + thresholds[:, :-1]) / 2, thresholds[:, -1:] + 1], 1
    )
    evidence = np.take_along_axis(cuts, readings["text"].T, axis=1).T
    notes: dict[str, list[str]] = {"before": [], "findings": [], "impression": []}
    for number in range(STUDIES):
        rng = np.random.default_rng(number)
        note = render_note(evidence[number], rng, "north")
        findings, impression = render_report(readings["image"][number], everything[number], rng)
        for kind, text in zip(notes, (f"{note.history} {note.indication}", findings, impression), strict=True):
            notes[kind].append(text)
    return notes, PRESENT[state][:, : len(FINDINGS)].astype(float), before


def leaks(made: Made, *kinds: str) -> list[str]:
    """Of a model that reads notes of these kinds."""
    notes, labels, best = made
    texts = [" ".join(parts) for parts in zip(*(notes[kind] for kind in kinds), strict=True)]
    answers = np.empty((STUDIES - LEARNED, len(FINDINGS)))
    for finding in range(len(FINDINGS)):
        model = make_pipeline(CountVectorizer(ngram_range=(1, 2), min_df=5), LogisticRegression(C=0.1, max_iter=200))
        model.fit(texts[:LEARNED], labels[:LEARNED, finding])
        answers[:, finding] = model.predict_proba(texts[LEARNED:])[:, 1]
    sampled = Sample(labels[LEARNED:], patient_bootstrap(np.arange(len(answers)).astype(str), 200, 0))
    return find_leaks(phantom_findings(), sampled, {"text": answers}, {"text": best[LEARNED:]})


@pytest.mark.parametrize("kinds", [("impression",), ("before", "findings")])
def test_a_model_that_reads_reports_is_better_than_possible(made: Made, kinds: tuple[str, ...]) -> None:
    assert any("AUROC better than the oracle's" in leak for leak in leaks(made, *kinds))


def test_a_model_that_reads_what_was_written_before_is_not(made: Made) -> None:
    assert leaks(made, "before") == []
