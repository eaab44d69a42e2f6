"""Public heart sounds of several sources: ``python benchmarks/pcg.py PCG --page docs/measured/sound.md``.

Training sets of the PhysioNet/CinC Challenge 2016 (Liu et al. 2016). The source of a recording gives its label away, so
figures of random folds say little: those within a source and of a source that was left out stand beside them, each of
the product's pipeline (the fusion stacked on features of the spectrogram) and of logistic regression on the same
features and folds; and what the audit says of the cohort.
"""

from __future__ import annotations

import argparse
import csv
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
import yaml
from _options import read_options
from _trained import stay_in
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from consilium.modalities.audio.cycle import read_cycle
from consilium.modalities.audio.feature_encoder import features_of
from consilium.modalities.audio.records import read_sound
from consilium.modalities.audio.section import AudioSection
from consilium.modalities.audio.sound_converter import SoundConverter
from training.audit.sources import source_folds
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.phantom.audio.heart_sounds import as_wav, draw_heart_sound
from training.cohorts.splits import Fold, folds
from training.evaluation.rows import AS_PRESENT
from training.inspection.inspect import check_cohort
from training.pipeline.train import train
from training.recipes import find_recipe

FINDING = "abnormal"
RECIPE = {
    "name": "pcg",
    "cohort": {"kind": "manifest"},
    "modalities": {"audio": {"seconds": 20}},
    "fusion": {"name": "stacked", "width": 64},
    "splits": {"train": 0.9, "validation": 0.0, "calibration": 0.05, "test": 0.05},
    "evaluation": {
        "protocol": "cross_validation",
        "folds": 5,
        "repeats": 5,
        "baselines": False,
        "bootstrap": 20,
        "audit": False,
        "out_of_distribution": 0,
        "faithfulness": 0,
    },
}
REPLICATES, SEED = 1000, 0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Out-of-fold answers of product and baseline [draws, N], NaN where there is none, and their folds [draws, N]."""

    folds: npt.NDArray[np.int64]
    product: Floats
    baseline: Floats

    def intervals(self, labels: Floats, chosen: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        """AUROC within folds of both and their difference, of the `chosen` recordings: value, low, high."""
        count = len(labels)
        drawn = np.random.default_rng(SEED).integers(0, count, (REPLICATES, count))
        weights = np.stack([np.ones(count), *(np.bincount(rows, minlength=count) for rows in drawn)]) * chosen
        one, two = (self._auroc(which, labels, weights) for which in (self.product, self.baseline))
        return _interval(one), _interval(two), _interval(one - two)

    def _auroc(self, answers: Floats, labels: Floats, weights: Floats) -> Floats:
        """Share of pairs of one fold, of an abnormal and a normal recording, that are ranked rightly, by replicate."""
        found = []
        for own, fold in zip(answers, self.folds, strict=True):
            known = np.isfinite(own)
            there, gone = known & (labels == 1), known & (labels == 0)
            same = fold[there, None] == fold[None, gone]
            apart = own[there, None] - own[None, gone]
            right = same * ((apart > 0) + 0.5 * (apart == 0))
            counts = [((weights[:, there] @ pairs) * weights[:, gone]).sum(axis=1) for pairs in (right, same)]
            found.append(counts[0] / counts[1])
        return np.mean(found, axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything that the page tells: labels and sources [N], both ways of testing, and the audit's words."""

    labels: Floats
    sources: npt.NDArray[np.str_]
    random: Figures
    left_out: Figures
    verdict: str
    concerns: Sequence[str]
    faults: Mapping[str, int]


def _interval(values: Floats) -> Floats:
    return np.array([values[0], *np.nanpercentile(values[1:], [2.5, 97.5])])


def write_cohort(pcg: Path, root: Path) -> Counter[str]:
    """A cohort folder of the recordings, each a patient of its own; how many have which fault."""
    (root / "sounds").mkdir(parents=True)
    rows, faults = [], Counter[str]()
    with (pcg / "labels.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            name = line["record"]
            path = next(pcg.glob(f"audio/{name}.*"))
            shutil.copy(path, root / "sounds" / path.name)
            faults.update(fault.value for fault in read_sound(path.read_bytes()).faults)
            cells = {"study": f"S{name}", "patient": f"P{name}", "source": line["source"]}
            rows.append({**cells, "sounds": f"sounds/{path.name}", f"label:{FINDING}": line[FINDING]})
    with (root / "studies.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    about = {"name": "pcg", "findings": [{"name": FINDING, "display": "Abnormal heart sound"}]}
    (root / "cohort.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    return faults


def measure(root: Path, faults: Mapping[str, int], settings: Sequence[str]) -> Found:
    """Train out of fold and out of source; audit."""
    path = root.with_name("pcg.yaml")
    path.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    recipe = find_recipe(str(path), settings)
    cohort = load_cohort("manifest", root)
    features = sound_features([record.files["audio"][0].path for record in cohort.records], recipe.modalities["audio"])
    drawn = [folds(cohort, recipe.evaluation.folds, recipe.seed + draw) for draw in range(recipe.evaluation.repeats)]
    away = [(fold.train, fold.test) for fold in source_folds(cohort)]
    sources = ["evaluation.protocol=leave_one_source_out", "evaluation.repeats=1"]
    report = check_cohort(cohort).audit
    assert report is not None
    return Found(
        labels=cohort.labels[:, 0].astype(np.float64),
        sources=np.array([record.source for record in cohort.records]),
        random=Figures(
            np.stack([_fold_of(pairs, len(cohort)) for pairs in drawn]),
            product(find_recipe(str(path), settings), root, cohort),
            np.stack([regression(features, cohort, pairs) for pairs in drawn]),
        ),
        left_out=Figures(
            _fold_of(away, len(cohort))[None],
            product(find_recipe(str(path), [*settings, *sources]), root, cohort),
            regression(features, cohort, away)[None],
        ),
        verdict=report.verdict,
        concerns=[concern.text for concern in report.concerns if concern.grade != "remark"],
        faults=faults,
    )


def product(recipe: object, root: Path, cohort: Cohort) -> Floats:
    """Out-of-fold probabilities of the product, [draws, N]."""
    found = train(recipe, root).evaluation  # type: ignore[arg-type]
    order = {record.study_id: row for row, record in enumerate(cohort.records)}
    rows = [order[study] for study in found.study_ids.tolist()]
    draws = found.repeats or (found.probabilities,)
    answers = np.full((len(draws), len(cohort)), np.nan)
    answers[:, rows] = np.stack([draw[AS_PRESENT][:, 0] for draw in draws])
    return answers


def sound_features(paths: Sequence[Path], section: AudioSection) -> Floats:
    """Features of spectrogram and cycle of each file, [N, 36]."""
    convert, found = SoundConverter(section), []
    for path in paths:
        spectra = convert(read_sound(path.read_bytes()))
        there = torch.from_numpy(np.isfinite(spectra).all(axis=0))
        own = features_of(torch.from_numpy(np.nan_to_num(spectra)), there)
        found.append(np.concatenate([own.flatten().numpy(), read_cycle(spectra, convert.step)]))
    return np.stack(found).astype(np.float64)


def regression(features: Floats, cohort: Cohort, pairs: Sequence[Fold]) -> Floats:
    """Out-of-fold probabilities [N] of a logistic regression."""
    found = np.full(len(cohort), np.nan)
    for train_rows, test_rows in pairs:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
        model.fit(features[train_rows], cohort.labels[train_rows, 0])
        found[test_rows] = model.predict_proba(features[test_rows])[:, 1]
    return found


def _fold_of(pairs: Sequence[Fold], count: int) -> npt.NDArray[np.int64]:
    found = np.full(count, -1)
    for number, (_, test) in enumerate(pairs):
        found[test] = number
    return found


def page(found: Found) -> Iterator[str]:
    """The page of the documentation."""
    counts = [f"{int((found.sources == s).sum())} of source {s}" for s in np.unique(found.sources)]
    yield _HEAD.format(count=len(found.labels), counts=", ".join(counts), draws=len(found.random.product))
    yield ""
    yield "| tested | recordings | product | logistic regression, same features | product less baseline |"
    yield "| --- | --- | --- | --- | --- |"
    yield from _line("on random folds, all pairs", found, found.random, np.ones(len(found.labels), bool))
    for source in np.unique(found.sources):
        own = found.sources == source
        if np.isfinite(found.left_out.baseline[0, own]).any():
            yield from _line(f"on random folds, pairs within source {source}", found, found.random, own)
            yield from _line(f"on source {source}, trained on the others", found, found.left_out, own)
    yield ""
    yield f"The audit's verdict of this cohort (`consilium check`): **{found.verdict}**."
    yield ""
    yield from (f"- {concern}" for concern in found.concerns)
    yield ""
    yield _FOOT.format(faults=", ".join(f"{name} {count}" for name, count in found.faults.items()) or "none")


def _line(tested: str, found: Found, figures: Figures, chosen: npt.NDArray[np.bool_]) -> Iterator[str]:
    one, two, gain = figures.intervals(found.labels, chosen)
    cells = [_figure(one), _figure(two), _figure(gain, signed=True)]
    yield f"| {tested} | {int(chosen.sum())} | {' | '.join(cells)} |"


def _figure(figure: Floats, *, signed: bool = False) -> str:
    shown = [(f"{x:+.3f}" if signed else f"{x:.3f}").replace("0.", ".", 1) for x in figure]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


_HEAD = """\
# Public heart sounds: what a model learns of sources

Training sets of the PhysioNet/CinC Challenge 2016 (Liu et al. 2016, ODC-By 1.0): {count} recordings, normal or
abnormal; {counts}. Made by

    python benchmarks/pcg.py PCG --page docs/measured/sound.md

*Product* is the fusion `stacked` on 36 features of the spectrogram and of what repeats in it
([sounds](../how-to/sound.md)), of the middle 20 s, trained and calibrated as every model is; beside it scikit-learn's
logistic regression (C = .1, balanced) of the same features on the same folds. AUROC, mean of {draws} draws of five
random folds, each recording compared with those of its own fold; in brackets 95 % intervals by bootstrap over
recordings, the difference paired."""
_FOOT = """\
Several recordings belong to one person, and no file tells which, so that random folds leak persons; intervals over
recordings are too narrow for that. "Abnormal" means another disease in each source. **In a source that a model has not
learned from it finds little or nothing**; figures of random folds say what it would reach in the same sources. Where
the product is behind the regression there, that may be because it chooses its strength on folds of the sources that it
learns from. Faults found at reading: {faults}."""


def _made(folder: Path) -> Path:
    """A folder of 48 made-up recordings of two sources."""
    (folder / "audio").mkdir(parents=True)
    rng, rows = np.random.default_rng(SEED), []
    for number in range(48):
        source, present = "ab"[number % 2], number % 4 < 2
        evidence = rng.normal(size=4) + np.array([0, 2 * present, 0, 0])
        (folder / "audio" / f"{number}.wav").write_bytes(as_wav(draw_heart_sound(evidence, rng)))
        rows.append({"record": number, "source": source, FINDING: int(present)})
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pcg", nargs="?", type=Path, help="folder with audio/ and labels.csv")
    parser.add_argument("--page", type=Path, help="write the page of the documentation")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key of the recipe; repeatable")
    small = [
        *("evaluation.folds=2", "evaluation.repeats=2", "fusion.width=16", "training.closed_form.folds=2"),
        "modalities.audio.seconds=4",
    ]
    options = read_options(parser, argv, settings=small)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.pcg is None and not options.smoke:
        parser.error("PCG must be given, or --smoke")
    with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
        stay_in(folder)
        pcg = options.pcg or _made(Path(folder) / "made")
        faults = write_cohort(pcg, Path(folder) / "cohort")
        text = "\n".join(page(measure(Path(folder) / "cohort", faults, options.settings))) + "\n"
    if options.page is not None:
        options.page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
