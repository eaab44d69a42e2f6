"""Contenders scored on the same test studies, under the same bootstrap replicates of their patients.

A contender is a way of answering, trained once for each seed. Its figure is the mean over the seeds; its interval is
that of the test sample (95 %, by patient), and beside it stands the standard deviation over the seeds. Differences are
paired: the same studies, the same replicates, seeds averaged on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import percentile_interval
from consilium.domain.findings import FindingSet
from training.evaluation.comparisons import MACRO, estimate_columns
from training.evaluation.metrics import Measured, Replicates, Sample, entropy, macro, surprise

Floats = npt.NDArray[np.float64]
Answers = Mapping[str, Floats]
"""Probabilities [N, F] by subset; rows of NaN where a study lacks a modality of it."""

FIGURES = ("auroc", "nll")


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A way of answering.

    Attributes
    ----------
    name : str
        ``fusion/early``, ``end_to_end/early``, ``rule/product_of_experts``, ``ensemble/early``, ``peer/transchex``,
        ``bound/product_of_experts``.
    answers : tuple of mapping
        Of each seed.
    seconds : float
        Processor time of one training, mean over the seeds; NaN where nothing was trained.
    parameters : int
        Trained in it; 0 where nothing was.
    """

    name: str
    answers: tuple[Answers, ...]
    seconds: float = float("nan")
    parameters: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TestStudies:
    """The test studies and what is known of them.

    Attributes
    ----------
    sample : Sample
        Labels and replicates.
    oracle : mapping or None
        The best possible answers.
    confounded : bool [N] or None
        Studies with something hidden that looks like a finding.
    """

    findings: FindingSet
    sample: Sample
    oracle: Answers | None
    confounded: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A contender's figures for one subset.

    Attributes
    ----------
    seeds : dict of finding to (dict of figure to float [S, 1 + R])
        `FIGURES` in the sample and its replicates, for each seed; ``macro`` is the mean over findings.
    n, positives : dict of finding to int
    """

    seeds: dict[str, dict[str, Replicates]]
    n: dict[str, int]
    positives: dict[str, int]

    def mean(self, finding: str, figure: str) -> Replicates:
        """Mean over the seeds, [1 + R]."""
        return self.seeds[finding][figure].mean(axis=0)


Measurements = dict[tuple[str, str], Measurement]
"""By contender and subset."""


def measure(tested: TestStudies, contenders: Sequence[Contender]) -> Measurements:
    """Every contender on every subset that it answers."""
    return {
        (contender.name, subset): _measured(tested, [answers[subset] for answers in contender.answers])
        for contender in contenders
        for subset in contender.answers[0]
    }


def share_table(tested: TestStudies, contenders: Sequence[Contender], measurements: Measurements) -> pd.DataFrame:
    """One line per contender, subset and finding: AUROC, NLL and, where there is an oracle, the shares of the possible.

    ``auroc_share`` is (AUROC - .5) / (oracle AUROC - .5), ``information_share`` (H(y) - NLL) / (H(y) - oracle NLL), as
    in `training.evaluation.comparisons.oracle_shares`; ``_sd`` is the standard deviation over the seeds.
    """
    lines = []
    for contender in contenders:
        for subset, answer in contender.answers[0].items():
            measured = measurements[contender.name, subset]
            bests = None if tested.oracle is None else _possible(tested, tested.oracle[subset], answer)
            for finding in measured.seeds:
                line: dict[str, object] = {"contender": contender.name, "subset": subset, "finding": finding}
                line |= {"n": measured.n[finding], "positives": measured.positives[finding]}
                line |= {"seeds": len(contender.answers)}
                figures = dict(measured.seeds[finding])
                if bests is not None:
                    figures |= _shares(figures, bests[finding])
                for name, seeds in figures.items():
                    line |= estimate_columns(name, percentile_interval(seeds.mean(axis=0)))
                    line[f"{name}_sd"] = float(seeds[:, 0].std(ddof=1)) if len(seeds) > 1 else np.nan
                lines.append(line)
    return pd.DataFrame(lines)


def difference_table(measurements: Measurements, references: Sequence[str]) -> pd.DataFrame:
    """Every contender minus each of `references`, on the subsets that both answer: AUROC and NLL (below 0 is better).

    Lines only where both answer the same studies.
    """
    lines = []
    for reference in references:
        for (name, subset), measured in measurements.items():
            other = measurements.get((reference, subset))
            if name == reference or other is None or measured.n != other.n:
                continue
            for finding in measured.seeds:
                line: dict[str, object] = {"contender": name, "against": reference, "subset": subset}
                line |= {"finding": finding, "n": measured.n[finding]}
                for figure in FIGURES:
                    difference = measured.mean(finding, figure) - other.mean(finding, figure)
                    line |= estimate_columns(f"{figure}_difference", percentile_interval(difference))
                lines.append(line)
    return pd.DataFrame(lines)


def explaining_away_table(
    tested: TestStudies, contenders: Sequence[Contender], references: Sequence[str], subsets: Sequence[str]
) -> pd.DataFrame:
    """NLL of every contender minus that of each of `references`, with a confounder and without one.

    What looks like a finding and has another cause can be distinguished only by reading one modality in the light of
    another (explaining away, Pearl 1988), which no sum of log-odds does.
    """
    if tested.confounded is None:
        return pd.DataFrame()
    by_name = {contender.name: contender for contender in contenders}
    groups = {"with_confounder": tested.confounded, "without_confounder": ~tested.confounded}
    lines = []
    for group, inside in groups.items():
        for subset in subsets:
            answering = [contender for contender in contenders if subset in contender.answers[0]]
            nll = {contender.name: _nll(tested, contender, subset, inside) for contender in answering}
            for reference in (by_name[name] for name in references):
                for contender in answering:
                    if contender is reference or not _same_studies(contender, reference, subset):
                        continue
                    for finding, (n, own) in nll[contender.name].items():
                        difference = own - nll[reference.name][finding][1]
                        line: dict[str, object] = {"contender": contender.name, "against": reference.name}
                        line |= {"studies": group, "subset": subset, "finding": finding, "n": n, "nll": own[0]}
                        lines.append(line | estimate_columns("nll_difference", percentile_interval(difference)))
    return pd.DataFrame(lines)


def _measured(tested: TestStudies, answers: Sequence[Floats]) -> Measurement:
    named = [_named(tested.findings, tested.sample.measure(one)) for one in answers]
    first = named[0]
    return Measurement(
        {
            finding: {figure: np.stack([one[finding].figures[figure] for one in named]) for figure in FIGURES}
            for finding in first
        },
        {finding: one.n for finding, one in first.items()},
        {finding: one.positives for finding, one in first.items()},
    )


def _possible(tested: TestStudies, oracle: Floats, answer: Floats) -> dict[str, dict[str, Replicates]]:
    """Figures of the oracle and the labels' entropy, on the studies that were answered."""
    answered = ~np.isnan(answer)
    best = tested.sample.measure(np.where(answered, oracle, np.nan))
    blank = []
    for labels, rows in zip(tested.sample.labels.T, (answered & ~np.isnan(tested.sample.labels)).T, strict=True):
        positive = labels[rows] == 1
        figures = {"entropy": entropy(positive, tested.sample.weights[:, rows])}
        blank.append(Measured(len(positive), int(positive.sum()), figures))
    entropies = _named(tested.findings, blank)
    return {name: one.figures | entropies[name].figures for name, one in _named(tested.findings, best).items()}


def _shares(figures: Mapping[str, Replicates], best: Mapping[str, Replicates]) -> dict[str, Replicates]:
    return {
        "auroc_share": _ratio(figures["auroc"] - 0.5, best["auroc"] - 0.5),
        "information_share": _ratio(best["entropy"] - figures["nll"], best["entropy"] - best["nll"]),
    }


def _ratio(reached: Replicates, possible: Replicates) -> Replicates:
    """NaN where nothing was possible: in a replicate of very few studies."""
    return np.divide(reached, possible, out=np.full_like(reached, np.nan), where=possible != 0)


def _nll(
    tested: TestStudies, contender: Contender, subset: str, inside: npt.NDArray[np.bool_]
) -> dict[str, tuple[int, Replicates]]:
    """Number of studies and NLL, mean over the seeds, [1 + R], by finding and macro."""
    measured = []
    for f, labels in enumerate(tested.sample.labels.T):
        rows = inside & ~np.isnan(labels) & ~np.isnan(contender.answers[0][subset][:, f])
        positive, weights = labels[rows] == 1, tested.sample.weights[:, rows]
        each = np.mean([surprise(positive, answers[subset][rows, f]) for answers in contender.answers], axis=0)
        with np.errstate(invalid="ignore"):
            figures = {"nll": weights @ each / weights.sum(axis=1)}
        measured.append(Measured(int(rows.sum()), int(positive.sum()), figures))
    return {name: (one.n, one.figures["nll"]) for name, one in _named(tested.findings, measured).items()}


def _same_studies(first: Contender, second: Contender, subset: str) -> bool:
    if subset not in second.answers[0]:
        return False
    return np.array_equal(np.isnan(first.answers[0][subset]), np.isnan(second.answers[0][subset]))


def _named(findings: FindingSet, measured: Sequence[Measured]) -> dict[str, Measured]:
    return dict(zip(findings.names, measured, strict=True)) | {MACRO: macro(measured)}
