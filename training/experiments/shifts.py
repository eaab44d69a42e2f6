"""What breaks first: one model on phantom cohorts that depart from home, each with its own best possible answer.

The row ``none`` is a fresh cohort from home, so that every other row differs from it by its shift alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from consilium.configuration.recipe import CohortRecipe
from consilium.system.environment import home_folder
from training.cohorts.phantom.named_shifts import STANDARD, parse_shift
from training.cohorts.phantom.schemes import ORDINARY
from training.cohorts.phantom.write import write_phantom
from training.evaluation.comparisons import MACRO
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.pipeline.evaluate_registered import evaluate_model

_log = logging.getLogger(__name__)

_FIGURES = ("auroc", "nll", "ece")
_SHARES = ("auroc_share", "information_share")


def measure_shifts(
    source: str,
    *,
    studies: int,
    size: int,
    seed: int,
    shifts: Mapping[str, Sequence[str]] = STANDARD,
    scheme: str = ORDINARY.name,
    bootstrap: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Evaluate the model `source` on one phantom cohort per shift.

    The cohorts are kept below `home_folder`, so that a second model is evaluated on the same studies, and an
    interrupted call goes on with what is there.

    Parameters
    ----------
    source : str
        Model folder, ``models:/name@alias`` or ``models:/name/version``.
    studies, size, seed : int
        Of each cohort: number of studies, rows and columns of the images, seed.
    shifts : mapping of name to what `parse_shift` reads
    scheme : str
        Of the phantoms that the model has learned from.
    bootstrap : int or None
        Replicates; None: the recipe's.
    progress : callable or None
        Called with each shift's name before it is evaluated.

    Returns
    -------
    DataFrame
        Columns ``shift``, ``n``, the means over findings of AUROC, NLL and ECE, and the shares of the possible AUROC
        and information, each with ``_low`` and ``_high``.
    """
    lines = []
    for name, texts in shifts.items():
        if progress is not None:
            progress(name)
        root = _cohort(texts, studies, size, seed, scheme)
        evaluation = evaluate_model(source, root, cohort=CohortRecipe(kind="phantom"), bootstrap=bootstrap)
        lines.append(_line(name, evaluation))
    return pd.DataFrame(lines)


def _cohort(texts: Sequence[str], studies: int, size: int, seed: int, scheme: str) -> Path:
    key = hashlib.sha256(json.dumps([list(texts), studies, size, seed, scheme]).encode()).hexdigest()[:16]
    root = home_folder() / "cache" / "phantoms" / key
    if not root.exists():
        _log.info("writing %d phantom studies%s", studies, f" with {', '.join(texts)}" if texts else "")
        write_phantom(root, studies, seed, size, splits=None, shift=parse_shift(texts), scheme=scheme)
    return root


def _line(name: str, evaluation: Evaluation) -> dict[str, object]:
    where: dict[str, object] = {"row": AS_PRESENT, "finding": MACRO}
    line: dict[str, object] = {"shift": name, "n": int(evaluation.value("metrics", "n", **where))}
    for table, figures in (("metrics", _FIGURES), ("oracle_shares", _SHARES)):
        for figure in figures:
            for column in (figure, f"{figure}_low", f"{figure}_high"):
                line[column] = evaluation.value(table, column, **where)
    return line
