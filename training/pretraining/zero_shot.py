"""Zero-shot: a finding is asked for in words, and no label is learned from.

Of each finding there are sentences that say it is present, and sentences that say it is absent. The score of a study is
how much nearer its record lies to the mean of the first than to that of the second (Radford et al. 2021, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.modalities.pretraining.sentences import Sentences
from consilium.modalities.registry import find_modality
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.collate import Preprocessing
from consilium.system.installed import load
from training.cohorts.cohort import Cohort, Prompts
from training.cohorts.cohort_kind import Oracle
from training.evaluation.comparisons import MACRO, estimate_columns
from training.evaluation.metrics import Measured, Sample, macro
from training.pretraining.embeddings import Embeddings, Floats, embed_studies

_FEWEST = 10
"""Calibration studies of either class; with fewer nothing is calibrated."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked for in words.

    Attributes
    ----------
    directions : dict of finding to float32 [E]
        From the mean of the sentences that say it is absent to that of those that say it is present.
    words : str
        The modality that holds words.
    """

    directions: dict[str, Floats]
    words: str


def modality_of_words(modalities: Sequence[str]) -> str:
    """The first of `modalities` whose records hold words.

    Raises
    ------
    InputError
        There is none.
    """
    for name in modalities:
        if find_modality(name).sentences:
            return name
    raise InputError("encoders", ", ".join(modalities), "must read a modality that holds words, to be asked in words")


def sentence_studies(sentences: Sequence[str], words: str, section: Any) -> list[Study]:
    """A study of one record for each sentence."""
    made: Sentences = load(find_modality(words).sentences)
    return [Study({words: (made.record(sentence, section),)}) for sentence in sentences]


def ask(model: AlignedEncoders, preprocessing: Preprocessing, prompts: Mapping[str, Prompts]) -> Asked:
    """The directions of the findings that `prompts` has sentences for.

    Raises
    ------
    InputError
        There are no prompts, or the encoders read no words.
    """
    if not prompts:
        rule = "must have sentences for at least one finding: prompts: {NAME: {present: [...], absent: [...]}}"
        raise InputError("cohort.yaml: prompts", {}, rule)
    words = modality_of_words(model.modalities)
    section = preprocessing.recipe.modalities[words]

    def mean(sentences: Sequence[str]) -> Floats:
        places = embed_studies(model, preprocessing, sentence_studies(sentences, words, section))[words]
        centre: Floats = places.mean(axis=0)
        return centre / max(float(np.linalg.norm(centre)), 1e-12)

    return Asked({name: mean(prompt.present) - mean(prompt.absent) for name, prompt in prompts.items()}, words)


def zero_shot(
    asked: Asked,
    cohort: Cohort,
    test: Embeddings,
    calibration: Embeddings | None,
    oracle: Oracle | None,
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """How well the findings are told by what was asked in words.

    Parameters
    ----------
    calibration : Embeddings or None
        Of labelled studies that scores become probabilities by (Platt); None: there are no probabilities.
    oracle : Oracle or None
        Of a cohort that knows its best possible answers.

    Returns
    -------
    DataFrame
        One row a modality that holds no words and finding, then their mean: ``n``, ``positives``, ``auroc`` with
        ``_low`` and ``_high`` (95 %, bootstrap by patient), ``possible_auroc`` and ``share`` of what lies above .5,
        ``nll`` and ``ece`` of the probabilities.
    """
    findings = [name for name in cohort.findings.names if name in asked.directions]
    columns = [cohort.findings.index(name) for name in findings]
    lines: list[dict[str, Any]] = []
    for name in (one for one in test.places if one != asked.words):
        rows = test.present(name)
        records = test.rows[rows]
        labels = cohort.labels[records][:, columns].astype(np.float64)
        directions = np.stack([asked.directions[finding] for finding in findings], axis=1)
        scores = (test.places[name][rows] @ directions).astype(np.float64)
        chances = _calibrated(scores, name, directions, cohort, calibration, columns)
        possible = _possible(oracle, cohort, records, name, columns)
        sample = Sample(labels, patient_bootstrap(cohort.patient_ids[records], bootstrap, seed))
        lines += [{"modality": name, **line} for line in _lines(findings, sample, scores, chances, possible)]
    return pd.DataFrame(lines)


def _calibrated(
    scores: npt.NDArray[np.float64],
    modality: str,
    directions: Floats,
    cohort: Cohort,
    calibration: Embeddings | None,
    columns: Sequence[int],
) -> npt.NDArray[np.float64] | None:
    """Probabilities, float64 [N, F]; NaN of a finding with too few calibration studies; None without any."""
    if calibration is None:
        return None
    rows = calibration.present(modality)
    known = calibration.places[modality][rows] @ directions
    labels = cohort.labels[calibration.rows[rows]][:, list(columns)]
    found = np.full(scores.shape, np.nan)
    for position in range(scores.shape[1]):
        has = np.isfinite(labels[:, position])
        truth = labels[has, position]
        if min((truth == 1).sum(), (truth == 0).sum()) >= _FEWEST:
            scale = max(float(known[has, position].std()), 1e-9)
            fitted = LogisticRegression(C=np.inf).fit(known[has, position, None] / scale, truth)
            found[:, position] = fitted.predict_proba(scores[:, position, None] / scale)[:, 1]
    return found


def _possible(
    oracle: Oracle | None, cohort: Cohort, records: npt.NDArray[np.int64], modality: str, columns: Sequence[int]
) -> npt.NDArray[np.float64] | None:
    if oracle is None or modality not in oracle.posteriors:
        return None
    place = {study: row for row, study in enumerate(np.asarray(oracle.study_ids).tolist())}
    wanted = [place[cohort.records[row].study_id] for row in records.tolist()]
    return oracle.posteriors[modality][wanted][:, list(columns)]


def _lines(
    findings: Sequence[str],
    sample: Sample,
    scores: npt.NDArray[np.float64],
    chances: npt.NDArray[np.float64] | None,
    possible: npt.NDArray[np.float64] | None,
) -> list[dict[str, Any]]:
    """One line a finding that has both classes, then the mean."""
    squashed = [expit(scores), chances, possible]
    measured = [None if one is None else sample.measure(one) for one in squashed]
    able = [f for f in range(len(findings)) if _both_classes(measured, f)]
    lines = [_line(findings[f], *(None if one is None else one[f] for one in measured)) for f in able]
    if len(able) > 1:
        means = [None if one is None else macro([one[f] for f in able]) for one in measured]
        lines.append(_line(MACRO, *means))
    return lines


def _both_classes(measured: Sequence[Sequence[Measured] | None], finding: int) -> bool:
    of = measured[0]
    assert of is not None
    return 0 < of[finding].positives < of[finding].n


def _line(name: str, told: Measured | None, chance: Measured | None, best: Measured | None) -> dict[str, Any]:
    assert told is not None
    auroc = told.figures["auroc"]
    line: dict[str, Any] = {"finding": name, "n": told.n, "positives": told.positives}
    line |= estimate_columns("auroc", percentile_interval(auroc))
    if best is not None:
        possible = float(best.figures["auroc"][0])
        line |= {"possible_auroc": possible, "share": (float(auroc[0]) - 0.5) / (possible - 0.5)}
    if chance is not None:
        line |= {key: float(chance.figures[key][0]) for key in ("nll", "ece")}
    return line
