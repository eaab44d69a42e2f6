"""What drafts of reports are worth: ``python benchmarks/drafts.py --model MODEL --cohort COHORT``.

Drafts every test study of a phantom cohort with a model that was trained on it, reads the drafts back, and counts

words   how often a finding was there of which the draft used each word, beside what the word stands for
calls   precision, recall and F1 of what the impression names as above the operating point, and F1 of the best possible
        answer at the operating points that are best for it on the calibration studies; of judged findings alone

`make demo` leaves both: ``models:/consilium-phantom-demo@champion`` and ``var/demo/cohort``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _options import read_options
from _trained import trained_model
from scipy.stats import binomtest

from consilium.domain.certainty import Certainty
from consilium.domain.diagnosis import Explanation
from consilium.domain.report_draft import Draft
from consilium.domain.study import Study
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.registry import file_inputs, modality_of
from consilium.output.drafting.draft_report import draft_report
from consilium.output.drafting.phrases import Phrases, built_in_phrases
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort, StudyRecord
from training.cohorts.phantom.oracle import load_oracle

_AT_ONCE = 32
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ReadBack:
    """What drafts say, studies by findings: the word (None: not judged) and whether it is named as called."""

    words: list[list[Certainty | None]]
    called: Booleans
    probabilities: Floats


def studies_of(records: Sequence[StudyRecord], pool: DecodePool, modalities: Sequence[str]) -> list[Study]:
    """The records of a cohort with their files read."""
    inputs = {modality_of(name).name: name for name in file_inputs()}
    found = []
    for record in records:
        waiting = {
            modality: [
                pool.submit(file.path, inputs[modality], f"{inputs[modality]}[{number}]")
                for number, file in enumerate(record.files.get(modality, ()))
            ]
            for modality in modalities
            if modality in inputs
        }
        read = {modality: [one.result() for one in files] for modality, files in waiting.items() if files}
        found.append(record.study(read))
    return found


def read_back(drafts: Sequence[Draft], names: Sequence[str], phrases: Phrases, shown: Mapping[str, str]) -> ReadBack:
    """What the sentences of drafts say; `shown` is what a draft calls each finding."""
    words: list[list[Certainty | None]] = []
    called = np.zeros((len(drafts), len(names)), bool)
    probabilities = np.full((len(drafts), len(names)), np.nan)
    opening = phrases.called.partition("{")[0]
    for row, draft in enumerate(drafts):
        sections = {one.name: one.sentences for one in draft.sections}
        by_finding = {one.finding: one for one in sections["findings"] if one.finding is not None}
        words.append([by_finding[name].certainty for name in names])
        probabilities[row] = [by_finding[name].probability for name in names]
        (text,) = [one.text for one in sections["impression"] if one.text.startswith(opening)] or [""]
        called[row] = [f"{shown[name]} (" in text for name in names]
    return ReadBack(words, called, probabilities)


def f1_of(called: Booleans, present: Booleans) -> tuple[float, float, float]:
    """Precision, recall, F1 of one finding; 0 where nothing was called, or nothing there was."""
    hits = float((called & present).sum())
    precision = hits / max(called.sum(), 1)
    recall = hits / max(present.sum(), 1)
    return precision, recall, 0.0 if hits == 0 else 2 * precision * recall / (precision + recall)


def best_calls(chances: Floats, tuned_on: tuple[Floats, Booleans]) -> Booleans:
    """Calls of the best possible answer: by finding at the threshold with the best F1 on other studies."""
    called = np.zeros(chances.shape, bool)
    for column in range(chances.shape[1]):
        known, present = tuned_on[0][:, column], tuned_on[1][:, column]
        thresholds = np.unique(known)
        best = max(thresholds, key=lambda one: f1_of(known >= one, present)[2], default=0.5)
        called[:, column] = chances[:, column] >= best
    return called


def words_table(drafted: ReadBack, present: Booleans) -> list[str]:
    lines = ["| word | stands for | used | mean probability | was there |", "| --- | --- | --- | --- | --- |"]
    flat = [(word, row, column) for row, words in enumerate(drafted.words) for column, word in enumerate(words)]
    for word in Certainty:
        places = [(row, column) for found, row, column in flat if found is word]
        if not places:
            lines.append(f"| {word} | {word.lowest:.2f} to {word.below:.2f} | 0 | – | – |")
            continue
        there = sum(bool(present[place]) for place in places)
        low, high = binomtest(there, len(places)).proportion_ci(method="wilson")
        mean = float(np.mean([drafted.probabilities[place] for place in places]))
        share = f"{there / len(places):.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"| {word} | {word.lowest:.2f} to {word.below:.2f} | {len(places)} | {mean:.2f} | {share} |")
    silent = sum(word is None for word, _, _ in flat)
    return [*lines, "", f"Not judged: {silent} of {len(flat)}."]


def calls_table(names: Sequence[str], drafted: ReadBack, best: Booleans, present: Booleans) -> list[str]:
    lines = ["| finding | precision | recall | F1 | best possible F1 |", "| --- | --- | --- | --- | --- |"]
    every = []
    for column, name in enumerate(names):
        precision, recall, f1 = f1_of(drafted.called[:, column], present[:, column])
        possible = f1_of(best[:, column], present[:, column])[2]
        every.append((precision, recall, f1, possible))
        lines.append(f"| {name} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {possible:.3f} |")
    mean = np.mean(every, axis=0)
    return [*lines, "| mean | " + " | ".join(f"{value:.3f}" for value in mean) + " |"]


def measure(model: str, root: Path) -> list[str]:
    """The page's lines."""
    diagnostician = Diagnostician.load(model, "cpu")
    cohort: Cohort = load_cohort("phantom", root)
    oracle = load_oracle(root)
    phrases = built_in_phrases("en")
    by_split = {split: [one for one in cohort.records if one.split == split] for split in ("calibration", "test")}
    with DecodePool(1, start=False) as pool:
        studies = studies_of(by_split["test"], pool, diagnostician.recipe.modalities)
    drafts, shown = [], {}
    for start in range(0, len(studies), _AT_ONCE):
        some = studies[start : start + _AT_ONCE]
        for study, diagnosis in zip(some, diagnostician.diagnose(some), strict=True):
            drafts.append(draft_report(study, Explanation(diagnosis, ()), phrases))
            shown |= {one.finding: one.display[:1].upper() + one.display[1:] for one in diagnosis.findings}
    names = diagnostician.findings.names
    drafted = read_back(drafts, names, phrases, shown)
    columns = [cohort.findings.names.index(name) for name in names]
    truth = {split: np.array([one.labels for one in records])[:, columns] == 1 for split, records in by_split.items()}
    chances = {
        split: oracle.of([one.study_id for one in records], oracle.modalities)[:, columns]
        for split, records in by_split.items()
    }
    judged = np.array([[word is not None for word in words] for words in drafted.words])
    best = best_calls(chances["test"], (chances["calibration"], truth["calibration"])) & judged
    return [
        f"{len(drafts)} drafts.",
        "",
        *words_table(drafted, truth["test"]),
        "",
        *calls_table(names, drafted, best, truth["test"] & judged),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or models:/NAME@ALIAS")
    parser.add_argument("--cohort", type=Path, help="the phantom cohort that it was trained on")
    given = read_options(parser, argv)
    with trained_model(given.model, given.cohort, smoke=given.smoke) as (model, root):
        print("\n".join(measure(model, root)))


if __name__ == "__main__":
    main()
