"""Words of the notes that give a label away: which, and how much of it they carry.

A word or pair of words is *revealing* where it names the finding, or nearly determines it: of the patients whose notes
hold it, `PRECISION` or more have the finding (or lack it), and would were as many patients with it as without it; and
chance makes none of the words tested do so. Honest language does that, too ("climbs four flights"), but for few
patients. So a finding is suspect only where the revealing words alone tell it with an AUROC beyond `GIVEN_AWAY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

from consilium.calibration import patient_bootstrap
from consilium.configuration.modality_sections import Scope
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Study
from training.audit.association import Association, associate, holm
from training.audit.report import REMARK, SUSPECT, Concern
from training.cohorts.cohort import Cohort
from training.cohorts.splits import Fold, Indices
from training.evaluation.metrics import ranking
from training.training_side import training_sides

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PRECISION = 0.95
GIVEN_AWAY = 0.75
"""AUROC of a word that marks every other patient with the finding, and nobody without it."""
LEAST_PATIENTS = 10
"""Whose notes hold a word; and of each class, with a note: below it nothing is tested."""

_OTHERS_LISTED = 10
_NAMED = 5
_REPLICATES = 500
_STEM, _LEAST_STEM = 0.75, 4
_UNSPECIFIC = frozenset({"other", "the", "of", "with", "unspecified", "unstated"})
_WORD_COLUMNS = ("finding", "word", "patients", "with_finding", "odds_ratio", "p", "names", "revealing")
_AUROC_COLUMNS = ("finding", "studies", "words", "auroc", "auroc_without", "auroc_alone", "alone_lower_bound")


@dataclass(frozen=True, slots=True, eq=False)
class _Notes:
    """The studies with a note.

    Attributes
    ----------
    rows : int [n]
        In the cohort.
    counts, weights : sparse [n, W]
        How often each word and pair of words stands in a study's notes; TF-IDF of it.
    words : str [W]
    """

    rows: Indices
    counts: csr_array
    weights: csr_array
    words: npt.NDArray[np.str_]

    def part(self, words: npt.NDArray[np.str_]) -> Mask:
        """Which words and pairs hold one of `words`, [W]."""
        chosen = set(words.tolist())
        return np.array([w in chosen or not chosen.isdisjoint(w.split()) for w in self.words.tolist()], bool)


def label_words(
    cohort: Cohort,
    folds: Sequence[Fold],
    *,
    inputs: Scope | None = None,
    error_rate: float = 0.05,
    seed: int = 0,
) -> tuple[dict[str, pd.DataFrame], list[Concern]]:
    """Test every word and pair of words of the notes that a model reads against every finding.

    Parameters
    ----------
    cohort : Cohort
    folds : sequence of (train, test)
        Patient-grouped; the test sides cover the cohort.
    inputs : Scope, optional
        Which notes a model reads.
    error_rate : float
        Chance that any word is reported by chance to determine a finding (Holm, over words and findings); and that any
        finding's `GIVEN_AWAY` is exceeded where none is (Bonferroni over findings).
    seed : int
        Of the bootstrap.

    Returns
    -------
    tables : dict
        ``label_words``: the revealing words of each finding, and the strongest of the others; p is that of Fisher's
        exact test over patients, adjusted. ``label_words_auroc``: what all words, all but the revealing ones, and these
        alone tell, by TF-IDF and logistic regression out of fold.
    concerns : list of Concern
        One for each finding with revealing words.
    """
    notes = _notes(cohort, inputs or Scope())
    able = [] if notes is None else [f for f in range(len(cohort.findings)) if _enough(cohort, notes.rows, f)]
    if notes is None or not able:
        empty = {"label_words": _WORD_COLUMNS, "label_words_auroc": _AUROC_COLUMNS}
        return {name: pd.DataFrame(columns=list(columns)) for name, columns in empty.items()}, []
    words = _associations(cohort, notes, able, np.arange(len(notes.rows)), error_rate)
    scores = _out_of_fold(cohort, notes, able, folds, error_rate)
    aurocs = _aurocs(cohort, notes, able, scores, error_rate / len(able), seed)
    counted = words.finding[words.revealing].value_counts()
    aurocs.insert(2, "words", aurocs.finding.map(counted).fillna(0).astype(int))
    listed = words[words.revealing | (words.p < error_rate)].sort_values(["revealing", "p"], ascending=[False, True])
    listed = listed[listed.revealing | (listed.groupby(["finding", "revealing"]).cumcount() < _OTHERS_LISTED)]
    listed = listed.sort_values("finding", key=lambda names: names.map(cohort.findings.index), kind="stable")
    tables = {"label_words": listed[list(_WORD_COLUMNS)].reset_index(drop=True), "label_words_auroc": aurocs}
    return tables, _concerns(cohort.findings, words, aurocs)


# --- words -----------------------------------------------------------------------------------------------------------


def _notes(cohort: Cohort, inputs: Scope) -> _Notes | None:
    studies = [record.readable(inputs) for record in cohort.records]
    texts = np.array([_text(study) for study in studies], dtype=object)
    rows = np.flatnonzero([re.search(r"\w\w", text) is not None for text in texts])
    if not len(rows):
        return None
    counter = CountVectorizer(ngram_range=(1, 2))
    counts = csr_array(counter.fit_transform(texts[rows]))
    # The weights of words depend on no label, so they may be learned from all notes.
    weights = csr_array(TfidfTransformer(sublinear_tf=True).fit_transform(counts))
    return _Notes(rows, counts, weights, counter.get_feature_names_out().astype(np.str_))


def _text(study: Study) -> str:
    return " ".join(filter(None, (side.text(study) for side in training_sides())))


def _enough(cohort: Cohort, rows: Indices, f: int) -> bool:
    labels, patients = cohort.labels[rows, f], cohort.patient_ids[rows]
    return min(len(np.unique(patients[labels == value])) for value in (0, 1)) >= LEAST_PATIENTS


def _associations(cohort: Cohort, notes: _Notes, able: Sequence[int], rows: Indices, error_rate: float) -> pd.DataFrame:
    """Every test of the findings `able` on the studies at `rows` of `notes`, adjusted for all of them together."""
    words = pd.concat([_association(cohort, notes, f, rows) for f in able], ignore_index=True)
    words["p"] = holm(words.p.to_numpy())
    words["revealing"] = words.names | ((words.p < error_rate) & words.pop("determines"))
    return words


def _association(cohort: Cohort, notes: _Notes, f: int, rows: Indices) -> pd.DataFrame:
    """The test of each word that enough patients' notes hold."""
    studies = notes.rows[rows]
    everything = associate(notes.counts[rows], cohort.labels[studies, f], cohort.patient_ids[studies])
    holding = everything.holding_present + everything.holding_absent
    chosen = np.flatnonzero(holding >= LEAST_PATIENTS)
    k, others = everything.holding_present[chosen], everything.holding_absent[chosen]
    found = Association(everything.present, everything.absent, k, others)
    # Half a patient more, as for odds ratios: none of 40 is not never.
    balanced = _purity((k + 0.5) / (found.present + 1), (others + 0.5) / (found.absent + 1))
    phrases = set(_phrases(list(cohort.findings)[f]))
    return pd.DataFrame(
        {
            "finding": cohort.findings.names[f],
            "word": notes.words[chosen],
            "patients": holding[chosen],
            "with_finding": k,
            "odds_ratio": found.odds_ratio,
            "p": found.p,
            "names": np.array([_names(word, phrases) for word in notes.words[chosen].tolist()], bool),
            "determines": (_purity(k, others) >= PRECISION) & (balanced >= PRECISION),
        }
    )


def _purity(present: npt.NDArray, absent: npt.NDArray) -> Floats:
    """Share of the larger of the two in both together."""
    return np.maximum(present, absent) / (present + absent)


def _phrases(finding: Finding) -> Iterator[tuple[str, ...]]:
    """One or two words each that name `finding`."""
    for text in (finding.name.replace("_", " "), finding.display):
        for part in re.split(r"\b(?:or|and)\b|[,/;()]", text.lower()):
            words = [word for word in re.findall(r"\w\w+", part) if word not in _UNSPECIFIC and not word.isdigit()]
            yield from [(words[0],)] if len(words) == 1 else pairwise(words)


def _names(word: str, phrases: set[tuple[str, ...]]) -> bool:
    parts = word.split()
    return any(
        len(phrase) == len(parts) and all(_same_stem(a, b) for a, b in zip(parts, phrase, strict=True))
        for phrase in phrases
    )


def _same_stem(first: str, second: str) -> bool:
    """Intubated and intubation, not pneumonia and pneumothorax."""
    shorter = min(len(first), len(second))
    common = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    return first == second or common >= max(_LEAST_STEM, _STEM * shorter)


# --- what they carry -------------------------------------------------------------------------------------------------


def _out_of_fold(
    cohort: Cohort, notes: _Notes, able: Sequence[int], folds: Sequence[Fold], error_rate: float
) -> Floats:
    """Scores by all words, by all but the revealing ones, and by these alone, [3, n, findings].

    Which words are revealing is decided on each fold's training side: chosen with the test side's labels, they would
    tell these too well.
    """
    labels = cohort.labels[notes.rows][:, able]
    scores = np.zeros((3, *labels.shape))
    place = np.full(len(cohort), -1)
    place[notes.rows] = np.arange(len(notes.rows))
    for fold in folds:
        train, test = (place[rows][place[rows] >= 0] for rows in fold)
        words = _associations(cohort, notes, able, train, error_rate)
        for column, f in enumerate(able):
            revealing = words.word[words.revealing & (words.finding == cohort.findings.names[f])]
            held = notes.part(revealing.to_numpy(np.str_))
            for row, chosen in enumerate((held | True, ~held, held)):
                read = notes.weights[:, np.flatnonzero(chosen)]
                scores[row, test, column] = _evidence(read, labels[:, column], train, test)
    return scores


def _aurocs(
    cohort: Cohort, notes: _Notes, able: Sequence[int], scores: Floats, level: float, seed: int
) -> pd.DataFrame:
    """``label_words_auroc``, but for the number of words; the lower bound is wrong with the chance `level`.

    The bootstrap over patients gives the standard error of the AUROC's logit.
    """
    weights = patient_bootstrap(cohort.patient_ids[notes.rows], _REPLICATES, seed)
    lines: list[dict[str, object]] = []
    for column, f in enumerate(able):
        labels = cohort.labels[notes.rows, f]
        known = ~np.isnan(labels)
        everything, without, alone = (
            ranking(labels[known] == 1, row[known, column], weights[:, known])["auroc"] for row in scores
        )
        logits = logit(alone[~np.isnan(alone)].clip(1e-6, 1 - 1e-6))
        bound = expit(logits[0] - norm.isf(level) * logits[1:].std(ddof=1))
        counts = {"finding": cohort.findings.names[f], "studies": int(known.sum())}
        figures = {"auroc": everything[0], "auroc_without": without[0], "auroc_alone": alone[0]}
        lines.append({**counts, **figures, "alone_lower_bound": float(bound)})
    return pd.DataFrame(lines)


def _evidence(read: csr_array, labels: npt.NDArray[np.float32], train: Indices, test: Indices) -> Floats:
    """What a logistic regression of the words `read` [n, w] says of the test side, without its intercept.

    The intercept follows the training side's prevalence, and so goes against the test side's: pooled over folds it
    would pull the AUROC below one half.
    """
    learned = train[~np.isnan(labels[train])]
    if not read.shape[1] or len(np.unique(labels[learned])) < 2:
        return np.zeros(len(test))
    regression = LogisticRegression(C=1.0, max_iter=2000).fit(read[learned], labels[learned])
    return np.asarray(read[test] @ regression.coef_[0])


def _concerns(findings: FindingSet, words: pd.DataFrame, aurocs: pd.DataFrame) -> list[Concern]:
    concerns = []
    for line in aurocs[aurocs.words > 0].to_dict("records"):
        finding = list(findings)[findings.index(line["finding"])]
        own = words[words.revealing & (words.finding == finding.name)].sort_values("p")
        text = (
            f"{finding.display}: {line['words']} word(s) of the notes name it or nearly determine it"
            f" ({', '.join(own.word.head(_NAMED))}); alone they tell it with AUROC {line['auroc_alone']:.2f} (at least"
            f" {line['alone_lower_bound']:.2f}), all words with {line['auroc']:.2f}, the others with"
            f" {line['auroc_without']:.2f}"
        )
        grade = SUSPECT if line["alone_lower_bound"] > GIVEN_AWAY else REMARK
        concerns.append(Concern("label_words", grade, text, finding.name))
    return concerns
