"""Compare what two checkouts of this repository make of the same cohort, recipe and seed.

    python scripts/compare_checkouts.py ../before . --recipe phantom-tiny --studies 300 --size 64

Each checkout writes a phantom cohort, trains the recipe on it and evaluates the model, in a process of its own that
imports that checkout alone. What they made is compared: every file of the cohort, every tensor of the network, the
answers to the reference studies in the artifact, and every number of the evaluation. Numbers that only one of them has
are listed by name, so that a renamed table does not pass for an equal one. Exit status 1 where something differs by
more than the tolerance.

With --work the results of each checkout are kept in that folder and used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

WEIGHTS = "*.safetensors"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--recipe", default="phantom-tiny")
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--work", type=Path, help="Folder to keep the results in; a temporary one unless given.")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        folders = [work / "before", work / "after"]
        for checkout, folder in zip((options.before, options.after), folders, strict=True):
            make(checkout.resolve(), folder, options)
        sound = [
            compare_bytes(*(folder / "cohort" for folder in folders)),
            *(compare(what, one, other, options.tolerance) for what, one, other in pairs(*folders)),
        ]
    return 0 if all(sound) else 1


def make(checkout: Path, folder: Path, options: argparse.Namespace) -> None:
    """Cohort, model and evaluation of one checkout, below `folder`, unless they are there."""
    cohort, trained = folder / "cohort", folder / "trained.json"
    if trained.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    size = ["--studies", str(options.studies), "--seed", str(options.seed), "--size", str(options.size)]
    if not cohort.exists():
        consilium(checkout, folder, "phantom", str(cohort), *size)
    output = consilium(checkout, folder, "train", options.recipe, "--cohort", str(cohort), "--json")
    trained.write_text(output, encoding="utf-8")


def consilium(checkout: Path, folder: Path, *arguments: str) -> str:
    """Standard output of the command of `checkout`, which keeps everything below `folder`."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "CONSILIUM_HOME": str(folder / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "CONSILIUM_TIME_ZONE": "UTC",
    }
    command = [sys.executable, "-m", "consilium.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


def pairs(before: Path, after: Path) -> Iterator[tuple[str, Mapping[str, npt.NDArray], Mapping[str, npt.NDArray]]]:
    """What is compared by name, of both."""
    one, other = (json.loads((folder / "trained.json").read_text(encoding="utf-8")) for folder in (before, after))
    yield "network", weights(Path(one["folder"])), weights(Path(other["folder"]))
    yield "reference answers", answers(Path(one["folder"])), answers(Path(other["folder"]))
    yield "evaluation", numbers(one["evaluation"]), numbers(other["evaluation"])


def weights(artifact: Path) -> dict[str, npt.NDArray]:
    """Every tensor of the artifact by file and name."""
    return {
        f"{path.relative_to(artifact).as_posix()}:{name}": tensor
        for path in sorted(artifact.rglob(WEIGHTS))
        for name, tensor in load_file(path).items()
    }


def answers(artifact: Path) -> dict[str, npt.NDArray]:
    """The probabilities of the reference studies."""
    studies = json.loads((artifact / "reference" / "studies.json").read_text(encoding="utf-8"))["studies"]
    return {
        f"{number}:{finding}": np.array(probability)
        for number, study in enumerate(studies)
        for finding, probability in study["probabilities"].items()
    }


def numbers(document: Any, path: str = "") -> dict[str, npt.NDArray]:
    """Every number of a JSON document by its path; rows of a table by what names them."""
    if isinstance(document, bool) or document is None or isinstance(document, str):
        return {}
    if isinstance(document, int | float):
        return {path: np.array(float(document))}
    if isinstance(document, Mapping):
        return {k: v for key, value in document.items() for k, v in numbers(value, f"{path}/{key}").items()}
    found: dict[str, npt.NDArray] = {}
    for position, value in enumerate(document):
        name = str(position)
        if isinstance(value, Mapping):
            words = [text for text in value.values() if isinstance(text, str)]
            name = ",".join(words) or name
        key = f"{path}[{name}]"
        while any(other == key or other.startswith(f"{key}/") for other in found):
            key += "'"
        found |= numbers(value, key)
    return found


def compare_bytes(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    digests = [
        {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(root)}
        for root in (one, other)
    ]
    differing = sorted(
        name for name in digests[0].keys() | digests[1].keys() if len({d.get(name) for d in digests}) > 1
    )
    print(f"cohort: {len(digests[0])} files, {len(differing)} differ {differing[:8]}")
    return not [name for name in differing if not name.startswith("truth/")]


def files_of(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def compare(what: str, one: Mapping[str, npt.NDArray], other: Mapping[str, npt.NDArray], tolerance: float) -> bool:
    """Whether the arrays of both that have one name are equal up to `tolerance`; tells of them, and of the others."""
    both = sorted(one.keys() & other.keys())
    apart = {name: difference(one[name], other[name]) for name in both}
    worst = max(apart, key=lambda name: apart[name], default="")
    only = [sorted(a.keys() - b.keys()) for a, b in ((one, other), (other, one))]
    far = sum(value > tolerance for value in apart.values())
    print(f"{what}: {len(both)} compared, {far} differ by more than {tolerance:g}; ", end="")
    print(f"largest {apart.get(worst, 0):.2g} ({worst}); only before {len(only[0])}, only after {len(only[1])}")
    for side, names in zip(("before", "after"), only, strict=True):
        for name in names[:10]:
            print(f"    only {side}: {name}")
    return far == 0 and bool(both)


def difference(one: npt.NDArray, other: npt.NDArray) -> float:
    """Largest absolute difference; NaN equals NaN."""
    if one.shape != other.shape:
        return float("inf")
    gaps = np.abs(one.astype(float) - other.astype(float))
    same = np.isnan(one.astype(float)) & np.isnan(other.astype(float))
    return float(np.max(np.where(same, 0, gaps), initial=0)) if not np.isnan(gaps[~same]).any() else float("inf")


if __name__ == "__main__":
    sys.exit(main())
