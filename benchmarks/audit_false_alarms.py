"""What the audit says of phantoms: ``python benchmarks/audit_false_alarms.py [--seeds 10] [--studies 800]``.

Each seed gives one clean phantom, and the audit must call every one sound; with ``--shortcut 0.9`` the site follows the
first finding, and every one must be called suspect. A line of JSON a seed goes to ``--out``; seeds that stand there are
not measured again, so that the command can be interrupted and go on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _options import read_options

from training.audit.report import REMARK
from training.cohorts import load_cohort
from training.cohorts.phantom.write import write_phantom
from training.inspection.inspect import check_cohort


def measure(seed: int, studies: int, size: int, shortcut: float | None) -> dict[str, Any]:
    """The audit of one phantom: verdict, what speaks against it, and how near the probes came."""
    folder = Path(tempfile.mkdtemp())
    try:
        write_phantom(folder / "phantom", studies, seed, size, workers=1, shortcut=shortcut)
        begun = time.process_time()
        report = check_cohort(load_cohort("phantom", folder / "phantom"), seed=seed).audit
    finally:
        shutil.rmtree(folder)
    assert report is not None
    probes, sources = report.tables["shortcuts"], report.tables["sources"]
    return {
        "seed": seed,
        "studies": studies,
        "size": size,
        "shortcut": shortcut,
        "verdict": report.verdict,
        "highest_probe": round(float(probes.auroc.max()), 3),
        "highest_lower_bound": round(float(probes.lower_bound.max()), 3),
        "largest_drop": round(float(sources["drop"].max()), 3),
        "largest_drop_lower_bound": round(float(sources.lower_bound.max()), 3),
        "reasons": [concern.text for concern in report.concerns if concern.grade != REMARK],
        "remarks": [concern.text for concern in report.concerns if concern.grade == REMARK],
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--studies", type=int, default=800)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--shortcut", type=float)
    parser.add_argument("--out", type=Path, default=Path("var/audit_false_alarms.jsonl"))
    arguments = read_options(parser, argv, seeds=1, studies=80, size=64, out=Path(os.devnull))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    design = {"studies": arguments.studies, "size": arguments.size, "shortcut": arguments.shortcut}
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {line["seed"]: line for line in map(json.loads, lines) if design.items() <= line.items()}
    for seed in range(1, arguments.seeds + 1):
        if seed not in done:
            done[seed] = measure(seed, **design)
            with arguments.out.open("a") as file:
                file.write(json.dumps(done[seed]) + "\n")
        line = done[seed]
        print(
            f"seed {seed}: {line['verdict']}; probes up to {line['highest_probe']:.3f} (at least"
            f" {line['highest_lower_bound']:.3f}), sources left out cost up to {line['largest_drop']:.3f};"
            f" {line['cpu_seconds']:.0f} s of CPU"
        )
        for reason in line["reasons"]:
            print(f"  {reason}")
    verdicts = [done[seed]["verdict"] for seed in range(1, arguments.seeds + 1)]
    print({verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))})


if __name__ == "__main__":
    main()
