"""Time and memory by the size of a cohort: ``python benchmarks/cohort_scale.py [--studies 1000,10000] [--out WORK]``.

Phantoms of growing size are written, read, cached, checked, audited, split, learned from for an epoch, and answered.
Each stage is a process of its own, which finds on the disk what the stages before it left; its time is counted from
where it begins with its own work, and its memory is the most that the process and any one of its children held. The
last column says how time grows from one size to the next: 1 is linear. With ``--out`` the command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from _options import read_options
from _trained import NOWHERE, stay_in

from consilium.configuration.recipe import Recipe
from consilium.system.threads import limit_threads
from training.audit.audit import audit_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.phantom.write import write_phantom
from training.cohorts.splits import Indices, split_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.fitting.fit import Fit, fit
from training.inspection.inspect import check_cohort
from training.pretraining.encoder_card import markdown_table
from training.pretraining.measured import read_cohort
from training.recipes import find_recipe

SEED = 47

Work = Callable[[], object]


def _recipe(size: int) -> Recipe:
    return find_recipe("phantom-tiny", [f"modalities.image.size={size}", "training.epochs=1"])


class Stages:
    """What is measured. Each method does what its stage needs, and gives its own work."""

    def __init__(self, root: Path, studies: int, size: int) -> None:
        self.root, self.studies, self.recipe, self.size = root, studies, _recipe(size), size

    def write(self) -> Work:
        return lambda: write_phantom(self.root, self.studies, SEED, self.size)

    def read(self) -> Work:
        return self._cohort

    def cache(self) -> Work:
        cohort = self._cohort()
        return lambda: self._cached(cohort)

    def check(self) -> Work:
        cohort = self._cohort()
        return lambda: check_cohort(cohort, audited=False)

    def audit(self) -> Work:
        cached = self._cached(self._cohort())
        return lambda: audit_cohort(cached, self.recipe.scope)

    def split(self) -> Work:
        cohort = self._cohort()
        cohort = replace(cohort, records=tuple(replace(record, split=None) for record in cohort.records))
        return lambda: split_cohort(cohort, self.recipe.splits.model_dump(), SEED)

    def epoch(self) -> Work:
        cached = self._cached(self._cohort())
        parts = split_cohort(cached.cohort, self.recipe.splits.model_dump(), SEED)
        return lambda: self._fit(cached, parts["train"], parts["validation"])

    def predict(self) -> Work:
        """Of the model after a training on a hundred studies: answering costs the same."""
        cached = self._cached(self._cohort())
        parts = split_cohort(cached.cohort, self.recipe.splits.model_dump(), SEED)
        found = self._fit(cached, parts["train"][:100], parts["validation"][:50])
        return lambda: predict(found.model, found.preprocessing, cached, parts["test"], self.recipe)

    def _cohort(self) -> Cohort:
        return read_cohort(self.recipe, self.root)

    def _fit(self, cached: CachedCohort, train: Indices, validation: Indices) -> Fit:
        with TemporaryDirectory() as folder:
            return fit(cached, self.recipe, train, validation, Path(folder), NOWHERE)

    def _cached(self, cohort: Cohort) -> CachedCohort:
        return cache_cohort(cohort, self.recipe, file_cache_folder())


STAGES = {
    "write": "writing the phantom",
    "read": "reading its tables",
    "cache": "decoding every file into the cache",
    "check": "`consilium check --no-audit`, which decodes every file",
    "audit": "the audit: copies, support, words, shortcuts, sources",
    "split": "splitting by patient",
    "epoch": "one epoch, preparation included",
    "predict": "answering the test split from every subset",
}


def measure(root: Path, studies: int, size: int, stage: str) -> dict[str, float]:
    """One stage, in this process."""
    stay_in(str(root.parent / "home"))
    limit_threads(1)
    work = getattr(Stages(root, studies, size), stage)()
    begun, cpu = time.perf_counter(), _cpu()
    work()
    seconds, cpu = time.perf_counter() - begun, _cpu() - cpu
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"seconds": seconds, "cpu": cpu, "mebibytes": most / 1024}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def here(folder: Path, studies: int, size: int, stage: str) -> dict[str, float]:
    """The same of the cohort in `folder`."""
    return measure(folder / "cohort", studies, size, stage)


def apart(folder: Path, studies: int, size: int, stage: str) -> dict[str, float]:
    """As `here`, in a process of its own; what was measured before is read."""
    kept = folder / f"{stage}.json"
    if not kept.exists():
        command = [sys.executable, __file__, "--stage", stage, "--studies", str(studies), "--size", str(size)]
        logging.info("%d studies: %s", studies, STAGES[stage])
        found = subprocess.run([*command, "--out", str(folder)], stdout=subprocess.PIPE, check=True)
        kept.write_bytes(found.stdout.splitlines()[-1])
    measured: dict[str, float] = json.loads(kept.read_bytes())
    return measured


def table(out: Path, sizes: Sequence[int], size: int, run: Callable[..., dict[str, float]] = apart) -> pd.DataFrame:
    """One line a stage and size of the cohort, as `run` measures it."""
    lines = []
    for stage, description in STAGES.items():
        before: tuple[int, float] | None = None
        for studies in sizes:
            folder = out / str(studies)
            folder.mkdir(parents=True, exist_ok=True)
            found = run(folder, studies, size, stage)
            line = {"stage": description, "studies": studies, "CPU s": f"{found['cpu']:.1f}"}
            line |= {"wall s": f"{found['seconds']:.1f}", "MiB": f"{found['mebibytes']:.0f}", "grows as n^": "–"}
            if before is not None and before[1] > 0:
                line["grows as n^"] = f"{math.log(found['cpu'] / before[1]) / math.log(studies / before[0]):.2f}"
            before = studies, found["cpu"]
            lines.append(line)
    return pd.DataFrame(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", default="1000,10000", help="sizes of the cohorts, ascending")
    parser.add_argument("--size", type=int, default=64, help="pixels of the films")
    parser.add_argument("--out", type=Path, help="folder of the cohorts and of what was measured")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    parser.add_argument("--stage", choices=sorted(STAGES), help="this stage alone, in this process")
    given = read_options(parser, arguments, studies="60")
    if given.stage:
        print(json.dumps(here(given.out, int(given.studies), given.size, given.stage)))
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with TemporaryDirectory(prefix="consilium-benchmark-") as room:
        sizes = [int(text) for text in given.studies.split(",")]
        found = table((given.out or Path(room)).resolve(), sizes, given.size, here if given.smoke else apart)
    command = f"python benchmarks/cohort_scale.py {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    about = (
        f"Phantoms with films of {given.size} pixels, the smallest model (`phantom-tiny`), one thread. CPU time is "
        "that of the stage and its children, memory the most that its process or one child held."
    )
    text = "\n\n".join(
        ["# Time and memory by the size of a cohort", f"Made with\n\n    {command}", about, markdown_table(found)]
    )
    print(text)
    if given.page is not None:
        given.page.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
