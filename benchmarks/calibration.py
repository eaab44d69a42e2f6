"""Calibration: which method at which size, how far off per subset, and whether sets cover as often as they claim.

    python benchmarks/calibration.py [--quick]
    python benchmarks/calibration.py --predictions CALIBRATION.npz TEST.npz

Simulated studies of four findings and three modalities, each modality missing in 15 %, of which the best possible
probability is known. Three models: ``straight`` stretches the log-odds, ``subsets`` each subset's differently, ``bent``
raises them to a power, which no scaling undoes. Prints

1. NLL of each method above that of the best possible probability, in thousandths of a nat, by size of the fit;
2. how often and how far the calibration error of a finding in a subset exceeds .03 on 5,000 studies, by the share of
   2,000 calibration studies that is held out for sets and intervals;
3. in what share of 200 splits the coverage of a class lies in its 95 % band, by size of the split;
4. subsets that shrink to what is additive over modalities against subsets that shrink to the same, on 4,000 new
   studies of three and of six modalities: paired NLL with a bootstrap over patients, calibration error, and what the
   subset of everything loses where the fit never saw it. `--predictions` compares the two on a model's own predictions
   instead, as `Predictions.save` writes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _options import read_options
from scipy.special import expit, logit

from consilium.calibration import (
    Calibrator,
    Choice,
    Shrinkage,
    choose,
    fit_calibration,
    fit_calibrator,
    patient_bootstrap,
    percentile_interval,
)
from consilium.calibration.selection import SHRINKAGES
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.findings import Finding, FindingSet
from consilium.modalities.registry import nonempty_subsets, subset_key
from training.evaluation.coverage import SetAnswers, coverage_table
from training.evaluation.metrics import finding_metrics
from training.evaluation.predictions import Predictions

PREVALENCE = np.array([0.4, 0.25, 0.2, 0.12])
FINDINGS = FindingSet(tuple(Finding(name, name) for name in ("first", "second", "third", "fourth")))
MODELS = ("straight", "subsets", "bent")
METHODS = ("scaling", "isotonic", "venn_abers")
_D_PRIME = 1.3
_HIERARCHIES = {"same": (Shrinkage(0.0, 0.1), Shrinkage(0.0, 0.5)), "additive": SHRINKAGES}
_WORLDS = ("same", "additive", "interacting")
_STRETCH = {"image": 1.5, "text": 2.5, "observations": 1.1}


def simulate(model: str, studies: int, seed: int) -> tuple[Predictions, dict[str, np.ndarray]]:
    """The model's logits, and the best possible log-odds per subset."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, len(FINDINGS))) < PREVALENCE).astype(float)
    evidence = {m: _D_PRIME * (rng.normal(size=labels.shape) + _D_PRIME * (labels - 0.5)) for m in _STRETCH}
    present = dict(zip(_STRETCH, (rng.random((studies, len(_STRETCH))) > 0.15).T, strict=True))
    fused, best = {}, {}
    for subset in nonempty_subsets(_STRETCH):
        have = np.all([present[m] for m in subset], axis=0)[:, None]
        truth = logit(PREVALENCE) + sum(evidence[m] for m in subset)
        scores = {
            "straight": 2 * truth - 0.5,
            "subsets": np.mean([_STRETCH[m] for m in subset]) * truth + 0.3,
            "bent": np.sign(truth) * np.abs(truth) ** 1.7,
        }[model]
        key = subset_key(subset)
        fused[key], best[key] = np.where(have, scores, np.nan), np.where(have, truth, np.nan)
    patients = np.arange(studies).astype(str)
    return Predictions(patients, patients, labels, present, fused, {}), best


def nll(labels: np.ndarray, log_odds: dict[str, np.ndarray]) -> float:
    present_rows = {subset: ~np.isnan(z[:, 0]) for subset, z in log_odds.items()}
    losses = [
        np.logaddexp(0, z[present_rows[s]]) - labels[present_rows[s]] * z[present_rows[s]] for s, z in log_odds.items()
    ]
    return float(np.mean([np.nanmean(loss) for loss in losses]))


def methods_by_size(sizes: Sequence[int], studies: int) -> None:
    print("1. NLL above the best possible, thousandths of a nat; in brackets how often auto took the method")
    print(f"   {'model':10}{'fit on':>8}" + "".join(f"{name:>20}" for name in (*METHODS, "auto")))
    for model in MODELS:
        fresh, best = simulate(model, 20000, 999)
        floor = nll(fresh.labels, best)
        for size in sizes:
            cost: dict[str, list[float]] = {name: [] for name in (*METHODS, "auto")}
            taken = []
            seeds = max(1, min(4, studies // size))
            for seed in range(seeds):
                fitting = simulate(model, size, seed)[0]
                prior = logit((fitting.labels.sum(axis=0) + 0.5) / (size + 1))
                arguments = FINDINGS, fitting.labels, fitting.patient_ids, fitting.fused, prior
                choice: Choice = choose("auto", *arguments, seed)
                taken.append(choice.method)
                for name in METHODS:
                    fitted = fit_calibrator(name, FINDINGS, fitting.labels, fitting.fused, prior, choice.shrinkage)
                    answers = {s: fitted(z, s, exclusive=False) for s, z in fresh.fused.items()}
                    cost[name].append(1000 * (nll(fresh.labels, answers) - floor))
                cost["auto"].append(cost[choice.method][-1])
            line = "".join(f"{np.mean(cost[name]):12.1f} ({taken.count(name) / seeds:4.0%})" for name in METHODS)
            print(f"   {model:10}{size:>8}{line}{np.mean(cost['auto']):20.1f}", flush=True)


def error_by_share(shares: Sequence[float], seeds: int) -> None:
    print("\n2. ECE of 28 findings and subsets on 5,000 studies, calibrated on 2,000")
    print(f"   {'model':10}{'held out':>10}{'mean':>8}{'worst':>8}{'above .03':>11}{'all below':>11}")
    for model in MODELS:
        for share in shares:
            errors = np.array([_errors(model, share, seed) for seed in range(seeds)])
            figures = (
                errors.mean(),
                errors.max(axis=1).mean(),
                (errors > 0.03).mean(),
                (errors <= 0.03).all(axis=1).mean(),
            )
            print(
                f"   {model:10}{share:>10}{figures[0]:8.3f}{figures[1]:8.3f}{figures[2]:11.1%}{figures[3]:11.0%}",
                flush=True,
            )


def _errors(model: str, share: float, seed: int) -> list[float]:
    calibration = _fit(simulate(model, 2000, seed)[0], seed, conformal_share=share)
    fresh = simulate(model, 5000, 5000 + seed)[0]
    errors = []
    for subset, logits in fresh.fused.items():
        p = calibration.probabilities(logits, subset)
        present_rows = ~np.isnan(p[:, 0])
        for f in range(len(FINDINGS)):
            figures = finding_metrics(
                fresh.labels[present_rows, f], p[present_rows, f], None, np.ones((1, present_rows.sum()))
            )
            errors.append(float(figures["ece"][0]))
    return errors


def coverage_by_size(sizes: Sequence[int], splits: int) -> None:
    print(
        f"\n3. Share of {splits} splits in whose test half the coverage lies in its 95 % band; mean coverage, set size"
    )
    print(f"   {'split':>8}{'class':>10}{'in band':>10}{'coverage':>10}{'set size':>10}{'own groups in band':>21}")
    for size in sizes:
        tables = []
        for split in range(splits):
            calibration = _fit(simulate("subsets", size, 10_000 + split)[0], split, method="scaling")
            fresh = simulate("subsets", size, 20_000 + split)[0]
            tables.append(coverage_table(FINDINGS, fresh.labels, SetAnswers.of(fresh, calibration)))
        for answer in ("absent", "present"):
            lines = [table[table["class"] == answer] for table in tables]
            whole = [line[line["subset"] == "as_present"] for line in lines]
            groups = [line[(line["subset"] != "as_present") & line["in_band"].notna()] for line in lines]
            inside, within = (
                np.mean([bool(v) for part in parts for v in part["in_band"]]) for parts in (whole, groups)
            )
            covered, large = (np.mean([part[name].mean() for part in whole]) for name in ("coverage", "set_size"))
            print(f"   {size:>8}{answer:>10}{inside:10.1%}{covered:10.3f}{large:10.2f}{within:21.1%}", flush=True)


def many_modalities(modalities: int, world: str, studies: int, seed: int) -> tuple[Predictions, dict[str, np.ndarray]]:
    """What a model of `modalities` says, whose scales and offsets differ by subset as `world` says; the best log-odds.

    The seed's last digit decides the model.
    """
    draw, rng = np.random.default_rng([seed % 10, modalities]), np.random.default_rng(seed)
    names, size = [f"m{number}" for number in range(modalities)], np.sqrt(3 / modalities)
    scales, offsets = (draw.normal(0, sd * size, (modalities, len(FINDINGS))) for sd in (0.15, 0.4))
    labels = (rng.random((studies, len(FINDINGS))) < PREVALENCE).astype(float)
    d_prime = _D_PRIME * size
    evidence = [d_prime * (rng.normal(size=labels.shape) + d_prime * (labels - 0.5)) for _ in names]
    present = rng.random((modalities, studies)) > 0.2
    fused, best = {}, {}
    for members in (list(chosen) for k in range(1, modalities + 1) for chosen in combinations(range(modalities), k)):
        have = present[members].all(axis=0)[:, None]
        truth = logit(PREVALENCE) + sum(evidence[m] for m in members)
        scale, offset = 0.7 + scales[members].sum(axis=0), offsets[members].sum(axis=0)
        own = draw.normal(size=(2, len(FINDINGS))) * [[0.12], [0.3]]
        if world == "same":
            scale, offset = 0.7, 0.0
        elif world == "interacting":
            scale, offset = scale + own[0], offset + own[1]
        key = "+".join(names[m] for m in members)
        fused[key] = np.where(have, (truth - offset) / np.maximum(scale, 0.15), np.nan)
        best[key] = np.where(have, truth, np.nan)
    patients = np.arange(studies).astype(str)
    return Predictions(patients, patients, labels, dict(zip(names, present, strict=True)), fused, {}), best


def hierarchies(sizes: Sequence[int], repetitions: int, modalities: Sequence[int] = (3, 6)) -> None:
    print("\n4. NLL above the best possible, thousandths of a nat: subsets shrink to the same, and to what is additive")
    columns = f"{'same':>8}{'additive':>10}{'difference':>26}{'ECE':>7}{'ECE':>7}{'never seen':>12}{'seconds':>16}"
    print(f"   {'modalities':>11} {'subsets are':12}{'fit on':>8}{columns}")
    for count in modalities:
        for world in _WORLDS:
            for size in sizes:
                lines = [_compared(count, world, size, seed) for seed in range(repetitions)]
                same, additive, low, high, first, second, unseen, *seconds = np.mean(lines, axis=0)
                difference = f"{additive - same:+.2f} [{low:+.2f}, {high:+.2f}]"
                took = " / ".join(f"{value:.2f}" for value in seconds)
                print(
                    f"   {count:>11} {world:12}{size:>8}{same:8.2f}{additive:10.2f}{difference:>26}"
                    f"{first:7.4f}{second:7.4f}{unseen:12.2f}{took:>16}",
                    flush=True,
                )


def _compared(modalities: int, world: str, size: int, seed: int) -> list[float]:
    fitting, _ = many_modalities(modalities, world, size, seed)
    fresh, best = many_modalities(modalities, world, 4000, 1000 + seed)
    fitted, seconds = _both(fitting, seed)
    floor = nll(fresh.labels, best)
    answers = {name: _answers(calibrator, fresh.fused) for name, calibrator in fitted.items()}
    costs = [1000 * (nll(fresh.labels, one) - floor) for one in answers.values()]
    low, high = _difference(fresh, answers)
    errors = [_mean_ece(fresh, one) for one in answers.values()]
    everything = max(fresh.fused, key=len)
    seen = {subset: values for subset, values in fitting.fused.items() if subset != everything}
    blind = fit_calibrator("scaling", FINDINGS, fitting.labels, seen, _prior(fitting.labels), SHRINKAGES[1])
    there = {everything: fresh.fused[everything]}
    unseen = nll(fresh.labels, _answers(blind, there)) - nll(fresh.labels, {everything: best[everything]})
    return [*costs, low, high, *errors, 1000 * unseen, *seconds]


def predictions_of_a_model(calibration: Path, test: Path) -> None:
    """Compare the hierarchies on a model's own predictions."""
    fitting, fresh = Predictions.load(calibration), Predictions.load(test)
    fitted, _ = _both(fitting, 0)
    answers = {name: _answers(calibrator, fresh.fused) for name, calibrator in fitted.items()}
    everything = max(fresh.fused, key=lambda subset: subset.count("+"))
    moved = np.abs(expit(answers["additive"][everything]) - expit(answers["same"][everything]))
    print(f"fitted on {len(fitting)}, {len(fresh)} new studies, {len(fresh.fused)} subsets")
    for name, one in answers.items():
        print(f"   {name:10} NLL {nll(fresh.labels, one):.4f}  ECE {_mean_ece(fresh, one):.4f}")
    low, high = _difference(fresh, answers)
    print(f"   additive minus same, thousandths of a nat, 95 %: [{low:+.2f}, {high:+.2f}]")
    print(f"   answers from everything move by {np.nanmean(moved):.4f} on average, {np.nanmax(moved):.4f} at most")


def _both(fitting: Predictions, seed: int) -> tuple[dict[str, Calibrator], list[float]]:
    """A calibrator of each hierarchy, and the processor time that choosing and fitting took."""
    findings = FindingSet(tuple(Finding(f"finding{f}", f"{f}") for f in range(fitting.labels.shape[1])))
    prior, fitted, seconds = _prior(fitting.labels), {}, []
    for name, candidates in _HIERARCHIES.items():
        started = time.process_time()
        data = findings, fitting.labels, fitting.patient_ids, fitting.fused, prior
        choice = choose("scaling", *data, seed, candidates)
        fitted[name] = fit_calibrator("scaling", findings, fitting.labels, fitting.fused, prior, choice.shrinkage)
        seconds.append(time.process_time() - started)
    return fitted, seconds


def _prior(labels: np.ndarray) -> np.ndarray:
    return logit((np.nansum(labels, axis=0) + 0.5) / ((~np.isnan(labels)).sum(axis=0) + 1))


def _answers(calibrator: Calibrator, logits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {subset: calibrator(values, subset, exclusive=False) for subset, values in logits.items()}


def _difference(fresh: Predictions, answers: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[float, float]:
    """95 % interval of the paired NLL difference, thousandths of a nat, mean over subsets and findings."""
    weights = patient_bootstrap(fresh.patient_ids, 300, 0)
    total = np.zeros(len(weights))
    for subset in fresh.fused:
        same, additive = (one[subset] for one in answers.values())
        with np.errstate(invalid="ignore"):  # of NaN
            gained = np.logaddexp(0, additive) - np.logaddexp(0, same) - fresh.labels * (additive - same)
        known = ~np.isnan(gained)
        total += ((weights @ np.where(known, gained, 0.0)) / (weights @ known)).mean(axis=1)
    interval = percentile_interval(1000 * total / len(fresh.fused))
    return interval.low, interval.high


def _mean_ece(fresh: Predictions, answers: Mapping[str, np.ndarray]) -> float:
    errors = []
    for log_odds in answers.values():
        for f in range(fresh.labels.shape[1]):
            known = ~np.isnan(log_odds[:, f]) & ~np.isnan(fresh.labels[:, f])
            p = expit(log_odds[known, f])
            errors.append(float(finding_metrics(fresh.labels[known, f], p, None, np.ones((1, len(p))))["ece"][0]))
    return float(np.mean(errors))


def _fit(predictions: Predictions, seed: int, **recipe: Any) -> Any:
    return fit_calibration(
        FINDINGS,
        predictions.labels,
        predictions.patient_ids,
        predictions.fused,
        predictions.unimodal,
        present=predictions.present,
        recipe=CalibrationRecipe(**recipe),
        seed=seed,
        bootstrap=1,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions: half a minute")
    parser.add_argument("--predictions", nargs=2, type=Path, metavar=("CALIBRATION", "TEST"))
    given = read_options(parser, argv, quick=True)
    if given.predictions:
        predictions_of_a_model(*given.predictions)
        return
    if given.smoke:
        methods_by_size((100,), 100)
        error_by_share((0.5,), 1)
        coverage_by_size((400,), 2)
        hierarchies((100,), 1, (3,))
        return
    quick = given.quick
    methods_by_size((100, 500) if quick else (100, 500, 2000, 20000), 1000 if quick else 20000)
    error_by_share((0.5,) if quick else (0.5, 0.3, 0.2), 2 if quick else 6)
    coverage_by_size((400,) if quick else (400, 2000), 20 if quick else 200)
    hierarchies((100, 400) if quick else (100, 400, 1000), 1 if quick else 4)


if __name__ == "__main__":
    main()
