"""Calibration: which method at which size, how far off per subset, and whether sets cover as often as they say.

    python benchmarks/calibration.py [--quick]

Simulated studies of four findings and three modalities, each modality missing in 15 %, of which the best possible
probability is known. Three models: ``straight`` stretches the log-odds, ``subsets`` each subset's differently, ``bent``
raises them to a power, which no scaling undoes. Prints

1. NLL of each method above that of the best possible probability, in thousandths of a nat, by size of the fit;
2. how often and how far the calibration error of a finding in a subset exceeds .03 on 5,000 studies, by the share of
   2,000 calibration studies that is held out for sets and intervals;
3. in what share of 200 splits the coverage of a class lies in its 95 % band, by size of the split.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from _options import read_options
from scipy.special import logit

from consilium.calibration import Choice, choose, fit_calibration, fit_calibrator
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.findings import Finding, FindingSet
from consilium.modalities.registry import modality_names, nonempty_subsets, subset_key
from training.evaluation.coverage import SetAnswers, coverage_table
from training.evaluation.metrics import finding_metrics
from training.evaluation.predictions import Predictions

PREVALENCE = np.array([0.4, 0.25, 0.2, 0.12])
FINDINGS = FindingSet(tuple(Finding(name, name) for name in ("first", "second", "third", "fourth")))
MODELS = ("straight", "subsets", "bent")
METHODS = ("scaling", "isotonic", "venn_abers")
_D_PRIME = 1.3
_STRETCH = {"image": 1.5, "text": 2.5, "observations": 1.1}


def simulate(model: str, studies: int, seed: int) -> tuple[Predictions, dict[str, np.ndarray]]:
    """What the model says, and the best possible log-odds per subset."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, len(FINDINGS))) < PREVALENCE).astype(float)
    evidence = {m: _D_PRIME * (rng.normal(size=labels.shape) + _D_PRIME * (labels - 0.5)) for m in modality_names()}
    present = dict(zip(modality_names(), (rng.random((studies, len(modality_names()))) > 0.15).T, strict=True))
    said, best = {}, {}
    for subset in nonempty_subsets(modality_names()):
        have = np.all([present[m] for m in subset], axis=0)[:, None]
        truth = logit(PREVALENCE) + sum(evidence[m] for m in subset)
        told = {
            "straight": 2 * truth - 0.5,
            "subsets": np.mean([_STRETCH[m] for m in subset]) * truth + 0.3,
            "bent": np.sign(truth) * np.abs(truth) ** 1.7,
        }[model]
        key = subset_key(subset)
        said[key], best[key] = np.where(have, told, np.nan), np.where(have, truth, np.nan)
    patients = np.arange(studies).astype(str)
    return Predictions(patients, patients, labels, present, said, {}), best


def nll(labels: np.ndarray, log_odds: dict[str, np.ndarray]) -> float:
    heard = {subset: ~np.isnan(z[:, 0]) for subset, z in log_odds.items()}
    losses = [np.logaddexp(0, z[heard[s]]) - labels[heard[s]] * z[heard[s]] for s, z in log_odds.items()]
    return float(np.mean([loss.mean() for loss in losses]))


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
                    fitted = fit_calibrator(name, FINDINGS, fitting.labels, fitting.fused, prior, choice.subset_sd)
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
        heard = ~np.isnan(p[:, 0])
        for f in range(len(FINDINGS)):
            figures = finding_metrics(fresh.labels[heard, f], p[heard, f], None, np.ones((1, heard.sum())))
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


def _fit(predictions: Predictions, seed: int, **recipe: Any) -> Any:
    return fit_calibration(
        FINDINGS,
        predictions.labels,
        predictions.patient_ids,
        predictions.fused,
        predictions.opinions,
        present=predictions.present,
        recipe=CalibrationRecipe(**recipe),
        seed=seed,
        bootstrap=1,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions: half a minute")
    given = read_options(parser, argv, quick=True)
    if given.smoke:
        methods_by_size((100,), 100)
        error_by_share((0.5,), 1)
        coverage_by_size((400,), 2)
        return
    quick = given.quick
    methods_by_size((100, 500) if quick else (100, 500, 2000, 20000), 1000 if quick else 20000)
    error_by_share((0.5,) if quick else (0.5, 0.3, 0.2), 2 if quick else 6)
    coverage_by_size((400,) if quick else (400, 2000), 20 if quick else 200)


if __name__ == "__main__":
    main()
