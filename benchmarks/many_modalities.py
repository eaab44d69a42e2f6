"""Six modalities: what 2^M subsets cost in fusion, validation, prediction, calibration and explanation.

    python benchmarks/many_modalities.py [--studies 1000]

Random tokens of width 64, no encoders, one thread. Prints

1. processor time of every subset of three and of six modalities, one pass each against rows of one batch, in turns, and
   by how much the logits differ at most;
2. a fusion that learns from tokens of six modalities with an oracle of its own, is calibrated on other studies through
   all 63 subsets, answers new ones, a subset that calibration never saw among them, and explains each answer by exact
   Shapley values: seconds of each step, NLL against the best possible, and the most memory of the process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from types import MappingProxyType
from unittest.mock import patch

import numpy as np
import torch
from _options import read_options
from scipy.special import expit, logit
from torch import Tensor

from consilium.calibration import Calibration, fit_calibration
from consilium.configuration.recipe import CalibrationRecipe, FusionRecipe
from consilium.domain.findings import Finding, FindingSet
from consilium.explain.shapley import shapley
from consilium.modalities import registry
from consilium.modalities.modality import Modality
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from consilium.network.subsets import few_subsets, fuse_subsets
from consilium.system.memory import peak_memory
from training.fitting.modality_dropout import modality_dropout
from training.fitting.objectives.likelihood import negative_log_likelihood

NAMES = tuple(f"signal{number}" for number in range(6))
LENGTHS = (64, 48, 24, 64, 48, 36)
FINDINGS = FindingSet((Finding("first", "First"), Finding("second", "Second")))
PREVALENCE = np.array([0.4, 0.25])
WIDTH = 64
_D_PRIME = 0.9
_BATCH = 32

Studies = Mapping[str, Tokens]
Fuse = Callable[[dict[str, Tokens]], Tensor]


@contextmanager
def six_installed() -> Iterator[None]:
    """As if `NAMES` were the installed modalities."""
    six = {name: Modality(name=name, display=name, record=name, preparation="", encoder="") for name in NAMES}
    with patch.object(registry, "modalities", lambda: MappingProxyType(six)):
        yield


def fusion(name: str, modalities: int) -> tuple[torch.nn.Module, Fuse]:
    torch.manual_seed(0)
    body = FUSIONS[name](FusionRecipe(name=name, width=WIDTH), NAMES[:modalities], len(FINDINGS))
    both = torch.nn.ModuleList([body, FindingHead(WIDTH, len(FINDINGS))])
    return both, lambda tokens: both[1](both[0](tokens)).float()


def all_subsets(modalities: int) -> list[frozenset[str]]:
    sizes = range(1, modalities + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(NAMES[:modalities], size)]


def one_by_one(fuse: Fuse, tokens: Studies, subsets: Sequence[frozenset[str]]) -> dict[frozenset[str], Tensor]:
    def only(subset: frozenset[str]) -> dict[str, Tokens]:
        return {name: one.keep(torch.full_like(one.present, name in subset)) for name, one in tokens.items()}

    return {subset: fuse(only(subset)) for subset in subsets}


def rows_against_loop(names: Sequence[str], counts: Sequence[int], studies: Sequence[int], rounds: int) -> None:
    print("1. every subset: one pass each / rows of one batch, ms of processor time; greatest difference of a logit")
    print(f"   {'fusion':16}{'modalities':>11}{'studies':>9}{'loop':>9}{'rows':>9}{'ratio':>8}{'difference':>12}")
    for name in names:
        for modalities in counts:
            module, fuse = fusion(name, modalities)
            module.eval()
            subsets = all_subsets(modalities)
            for count in studies:
                tokens = random_tokens(count, modalities)
                with torch.inference_mode():
                    loop, rows = one_by_one(fuse, tokens, subsets), fuse_subsets(fuse, tokens, subsets)
                    difference = max(float((loop[s] - rows[s]).abs().max()) for s in subsets)
                    first, second = in_turns(
                        lambda f=fuse, t=tokens, s=subsets: one_by_one(f, t, s),
                        lambda f=fuse, t=tokens, s=subsets: fuse_subsets(f, t, s),
                        rounds,
                    )
                print(
                    f"   {name:16}{modalities:>11}{count:>9}{1000 * first:9.1f}{1000 * second:9.1f}"
                    f"{first / second:8.2f}{difference:12.1e}",
                    flush=True,
                )


def in_turns(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The least processor time of each over `rounds`."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, times in zip((first, second), took, strict=True):
            started = time.process_time()
            call()
            times.append(time.process_time() - started)
    return min(took[0]), min(took[1])


def random_tokens(studies: int, modalities: int) -> dict[str, Tokens]:
    draw = torch.Generator().manual_seed(1)
    lengths = zip(NAMES[:modalities], LENGTHS[:modalities], strict=True)
    return {
        name: Tokens(torch.randn(studies, n, WIDTH, generator=draw), torch.rand(studies, n, generator=draw) > 0.2)
        for name, n in lengths
    }


def simulated(studies: int, seed: int) -> tuple[dict[str, Tokens], np.ndarray, np.ndarray]:
    """Tokens whose mean tells of the findings, labels [N, F], and what each modality adds to the log-odds [M, N, F]."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, len(FINDINGS))) < PREVALENCE).astype(float)
    tokens, evidence = {}, []
    for name, longest in zip(NAMES, LENGTHS, strict=True):
        length = longest // 8
        seen = _D_PRIME * (rng.normal(size=labels.shape) + _D_PRIME * (labels - 0.5))
        values = 0.3 * rng.normal(size=(studies, length, WIDTH)).astype(np.float32)
        values[..., : len(FINDINGS)] += seen[:, None]
        there = rng.random(studies) > 0.2
        mask = torch.from_numpy(np.broadcast_to(there[:, None], (studies, length)).copy())
        tokens[name] = Tokens(torch.from_numpy(values), mask)
        evidence.append(np.where(there[:, None], seen, np.nan))
    return tokens, labels, np.array(evidence)


def part(tokens: Studies, rows: slice) -> dict[str, Tokens]:
    return {name: Tokens(one.values[rows], one.mask[rows]) for name, one in tokens.items()}


def train(module: torch.nn.Module, fuse: Fuse, tokens: Studies, labels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    rates = dict.fromkeys(NAMES, 0.3)
    for step in range(epochs * (len(labels) // _BATCH)):
        start = step * _BATCH % len(labels)
        here, truth = part(tokens, slice(start, start + _BATCH)), labels[start : start + _BATCH]
        present = {name: one.present for name, one in here.items()}
        kept = modality_dropout(present, rates, torch.Generator().manual_seed(step))
        left = {name: one.keep(kept[name]) for name, one in here.items()}
        loss = negative_log_likelihood(fuse(here), truth, exclusive=False)
        loss = loss + negative_log_likelihood(fuse(left), truth, exclusive=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def predict(fuse: Fuse, tokens: Studies, subsets: Sequence[frozenset[str]]) -> dict[str, np.ndarray]:
    """Logits [N, F] by subset, NaN where a study lacks a modality of it."""
    count = len(next(iter(tokens.values())).mask)
    present = {name: one.present.numpy() for name, one in tokens.items()}
    parts = [fuse_subsets(fuse, part(tokens, slice(s, s + _BATCH)), subsets) for s in range(0, count, _BATCH)]
    found = {}
    for subset in subsets:
        logits = np.concatenate([one[subset].double().numpy() for one in parts])
        known = np.all([present[name] for name in subset], axis=0)
        found[registry.subset_key(subset)] = np.where(known[:, None], logits, np.nan)
    return found


def six_modalities(studies: int, epochs: int, explained: int) -> None:
    every, few = all_subsets(len(NAMES)), few_subsets(NAMES)
    (tokens, labels, _), (held, held_labels, _), (new, truth, evidence) = (
        simulated(count, seed) for seed, count in enumerate((studies, studies, studies))
    )
    module, fuse = fusion("cross_attention", len(NAMES))
    took: dict[str, float] = {}
    with _timed(took, f"train, {epochs} epochs"):
        train(module, fuse, tokens, torch.from_numpy(labels).float(), epochs)
    module.eval()
    with _timed(took, f"validate, {len(few)} subsets"):
        predict(fuse, held, few)
    with _timed(took, f"predict, {len(every)} subsets"):
        logits = predict(fuse, held, every)
    unseen = frozenset(NAMES[1:4])
    seen = {key: values for key, values in logits.items() if key != registry.subset_key(unseen)}
    with _timed(took, "calibrate"):
        calibration = _calibrate(seen, held, held_labels)
    answers = predict(fuse, new, every)
    with _timed(took, f"explain {explained} studies"):
        gap = _explain(fuse, new, calibration, explained)
    print(f"\n2. {studies} studies to learn from, as many to calibrate on, as many new ones; seconds of processor time")
    for name, seconds in took.items():
        print(f"   {name:28}{seconds:8.2f}")
    print(f"   Shapley values miss the sum by {gap:.1e} at most")
    for title, subset in (("everything", every[-1]), ("a subset never calibrated", unseen)):
        key = registry.subset_key(subset)
        p = calibration.probabilities(answers[key], key)
        members = [NAMES.index(name) for name in subset]
        best = expit(logit(PREVALENCE) + evidence[members].sum(axis=0))
        print(f"   NLL of {title}: {_nll(p, truth):.4f}, best possible {_nll(best, truth):.4f}")
    print(f"   most memory: {peak_memory() / 2**20:.0f} MiB", flush=True)


@contextmanager
def _timed(took: dict[str, float], name: str) -> Iterator[None]:
    started = time.process_time()
    yield
    took[name] = time.process_time() - started


def _calibrate(logits: Mapping[str, np.ndarray], tokens: Studies, labels: np.ndarray) -> Calibration:
    return fit_calibration(
        FINDINGS,
        labels,
        np.arange(len(labels)),
        logits,
        {},
        present={name: one.present.numpy() for name, one in tokens.items()},
        recipe=CalibrationRecipe(),
        seed=0,
        bootstrap=100,
    )


def _explain(fuse: Fuse, tokens: Studies, calibration: Calibration, studies: int) -> float:
    """Greatest distance between the sum of a study's Shapley values and what its modalities brought together."""
    worst = 0.0
    for row in range(studies):
        here = part(tokens, slice(row, row + 1))
        there = [name for name, one in here.items() if bool(one.present)]
        if not there:
            continue
        with torch.inference_mode():
            fused = fuse_subsets(fuse, here, registry.nonempty_subsets(there))
        for f in range(len(FINDINGS)):
            worth = {s: _log_odds(calibration, z, registry.subset_key(s))[f] for s, z in fused.items()}
            worth[frozenset()] = calibration.prior_log_odds[f]
            brought = worth[frozenset(there)] - worth[frozenset()]
            worst = max(worst, abs(sum(shapley(worth).values()) - brought))
    return worst


def _log_odds(calibration: Calibration, logits: Tensor, key: str) -> list[float]:
    return calibration.log_odds(logits.double().numpy(), key)[0].tolist()


def _nll(p: np.ndarray, labels: np.ndarray) -> float:
    known = ~np.isnan(p)
    return float(-np.log(np.where(labels == 1, p, 1 - p)[known]).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = read_options(parser, argv, studies=160, epochs=1, rounds=1)
    torch.set_num_threads(1)
    with six_installed():
        if given.smoke:
            rows_against_loop(("late",), (3,), (1,), given.rounds)
        else:
            rows_against_loop(("cross_attention", "bottleneck", "late"), (3, 6), (1, 32), given.rounds)
        six_modalities(given.studies, given.epochs, 5 if given.smoke else 100)


if __name__ == "__main__":
    main()
