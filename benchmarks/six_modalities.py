"""A recipe with six modalities through the whole pipeline: cohort, training, evaluation, calibration, explanation.

    python benchmarks/six_modalities.py [--studies 400] [--epochs 8]

The modalities are laboratory values and five made-up waves of any length, a distribution of their own
(`tests/six/waves`), whose files are read once into the cache. Everything happens in a process of its own. Prints

1. seconds of each stage, and the most memory that the process had used when it ended;
2. how many of the 63 subsets were calibrated, the model's mean AUROC with everything, and its share of the possible;
3. the time of one answer and of its explanation, and by how much Shapley values of the modalities miss their sum.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _options import read_options

from consilium.system.memory import peak_memory

ROOT = Path(__file__).parents[1]
WAVES = tuple(f"wave_{letter}" for letter in "abcde")
MODALITIES = ("observations", *WAVES)


def recipe(epochs: int) -> dict[str, Any]:
    """Small encoders of all six."""
    return {
        "name": "six",
        "cohort": {"kind": "phantom"},
        "modalities": {"observations": {"width": 16, "depth": 1}, **{wave: {"window": 8} for wave in WAVES}},
        "fusion": {"name": "cross_attention", "width": 32, "depth": 1, "heads": 2, "dropout": 0.0},
        "training": {"epochs": epochs, "batch_size": 32, "learning_rate": 0.003},
        "evaluation": {
            "protocol": "split", "bootstrap": 20, "audit": False, "baselines": False,
            "out_of_distribution": 0, "faithfulness": 0,
        },
    }  # fmt: skip


class Stages:
    """Seconds of each stage and the process's most memory at its end, MiB."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun
        self.memory[name] = peak_memory() / 2**20


def run(folder: Path, studies: int, epochs: int) -> dict[str, Any]:
    """The whole pipeline in this process, which has the waves on its path."""
    import torch

    from consilium.configuration.recipe import Recipe
    from consilium.inference.diagnostician import Diagnostician
    from training.cohorts import load_cohort
    from training.cohorts.phantom.write import write_phantom
    from training.data.cache_folders import file_cache_folder
    from training.data.cached_cohort import cache_cohort
    from training.evaluation.rows import AS_PRESENT
    from training.pipeline.train import train

    torch.set_num_threads(1)
    stages, made, root = Stages(), Recipe.model_validate(recipe(epochs)), folder / "cohort"
    with stages.timed("phantom"):
        write_phantom(root, studies, 3, 64, workers=1, modalities=MODALITIES)
    with stages.timed("train, calibrate, evaluate"):
        trained = train(made, root, progress=False)
    with stages.timed("load"):
        diagnostician = Diagnostician.load(trained.folder)
    cohort = load_cohort("phantom", root)
    cached = cache_cohort(cohort, made, file_cache_folder())
    study = whole_study(cohort.records)
    with stages.timed("answer"):
        diagnosis = diagnostician.diagnose([study])[0]
    with stages.timed("explain"):
        explanation = diagnostician.explain(study)
    calibration = json.loads((trained.folder / "calibration.json").read_text(encoding="utf-8"))
    wanted = {"row": AS_PRESENT, "finding": "macro"}
    return {
        "seconds": stages.seconds,
        "memory_mib": stages.memory,
        "cached": {name: len(cached.caches[name]) for name in WAVES},
        "calibrated": len(calibration["fused"]["scaling"]["bias"]),
        "auroc": trained.evaluation.value("metrics", "auroc", **wanted),
        "share": trained.evaluation.value("oracle_shares", "auroc_share", **wanted),
        "read": list(diagnosis.modalities),
        "explained": [
            {
                "finding": one.finding,
                "modalities": one.modalities,
                "miss": abs(one.prior_log_odds + sum(one.modalities.values()) - one.log_odds),
                "units": {name: len(units) for name, units in one.parts.items()},
            }
            for one in explanation.findings
        ],
    }


def whole_study(records: Sequence[Any]) -> Any:
    """The first study that has every modality, as a caller would send it."""
    from consilium.ingest.study_records import read_files, study_from_records

    record = next(one for one in records if len(one.every_file) == len(WAVES) and one.parts["observations"])
    files = {file.field: [file.path.read_bytes()] for file in record.every_file}
    sent = [observation.sent() for observation in record.parts["observations"]]
    patient = {"age": record.patient.age, "sex": record.patient.sex.value}
    return study_from_records(**read_files(files), observations=sent, patient=patient)


def apart(folder: Path, studies: int, epochs: int) -> dict[str, Any]:
    """What `run` gives, in a process that finds the waves installed and keeps everything below `folder`."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "six"), str(Path(__file__).parent)]),
        "CONSILIUM_HOME": str(folder / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    command = [sys.executable, __file__, "--here", str(folder), "--studies", str(studies), "--epochs", str(epochs)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    options = read_options(parser, arguments, studies=120, epochs=1)
    if options.here is not None:
        (options.here / "found.json").write_text(
            json.dumps(run(options.here, options.studies, options.epochs)), encoding="utf-8"
        )
        return
    with TemporaryDirectory() as folder:
        show(apart(Path(folder), options.studies, options.epochs))


def show(found: dict[str, Any]) -> None:
    for stage, seconds in found["seconds"].items():
        print(f"{stage:28} {seconds:8.2f} s, at most {found['memory_mib'][stage]:6.0f} MiB so far")
    miss = max(one["miss"] for one in found["explained"])
    print(f"{found['calibrated']} subsets calibrated, {sum(found['cached'].values())} files cached")
    print(f"mean AUROC {found['auroc']:.3f}, {found['share']:.2f} of the possible")
    print(f"an answer from {', '.join(found['read'])}; its Shapley values miss it by {miss:.1e}")


if __name__ == "__main__":
    main()
