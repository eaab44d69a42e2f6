"""What a contender's training leaves behind, in memory and on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consilium.system.durable import replace_json
from training.evaluation.predictions import Predictions

_log = logging.getLogger(__name__)

_DONE = "done.json"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One training of a contender.

    Attributes
    ----------
    epochs : int
        How many gave its weights.
    validation_loss : float or None
        None: no validation chose its weights.
    seconds : float
        Processor time of the training; NaN where it was interrupted.
    parameters : int
    calibration, test : Predictions
        Uncalibrated, of these splits.
    """

    epochs: int
    validation_loss: float | None
    seconds: float
    parameters: int
    calibration: Predictions
    test: Predictions


def kept(folder: Path, key: str, make: Callable[[], Trained]) -> Trained:
    """What `folder` holds of the training called `key`; where it holds none or another, that of `make`, stored."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    done = folder / _DONE
    if done.exists():
        stored = json.loads(done.read_text(encoding="utf-8"))
        if stored.pop("key") == digest:
            seconds = float("nan") if stored["seconds"] is None else stored.pop("seconds")
            parts = (Predictions.load(folder / f"{split}.npz") for split in ("calibration", "test"))
            return Trained(stored["epochs"], stored["validation_loss"], seconds, stored["parameters"], *parts)
        done.unlink()
    trained = make()
    folder.mkdir(parents=True, exist_ok=True)
    trained.calibration.save(folder / "calibration.npz")
    trained.test.save(folder / "test.npz")
    seconds = None if trained.seconds != trained.seconds else trained.seconds
    facts = {"epochs": trained.epochs, "validation_loss": trained.validation_loss, "parameters": trained.parameters}
    replace_json(done, {"key": digest, "seconds": seconds, **facts})
    loss = "none" if trained.validation_loss is None else f"{trained.validation_loss:.4f}"
    _log.info("%s/%s: best epoch %d, validation %s", folder.parent.name, folder.name, trained.epochs, loss)
    return trained
