"""A baseline of notes: the words and pairs of words in them."""

from __future__ import annotations

import re

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from training.training_side import Baseline, Readable, Source


def _note_source(readable: Readable) -> Source:
    texts = [" ".join(note.text for note in study.parts["text"]) for study in readable.studies]

    def classifier() -> Pipeline:
        return make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=1.0, max_iter=2000)
        )

    has_word = np.array([re.search(r"\w\w", text) is not None for text in texts], bool)
    return Source(np.array(texts, dtype=object), has_word, classifier)


BASELINE = Baseline("note_tfidf", _note_source, averaged=False)
