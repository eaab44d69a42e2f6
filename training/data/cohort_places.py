"""Where on this machine a cohort lay when it was read: noted below CONSILIUM_HOME alone, never in the model store."""

from __future__ import annotations

import json
from pathlib import Path

from consilium.system.durable import replace_json
from consilium.system.environment import home_folder
from training.cohorts.cohort import Cohort


def remember_place(cohort: Cohort) -> None:
    """Note the folder of `cohort` under its digest, by which artifacts name what they were trained on."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    replace_json(folder / f"{cohort.digest}.json", {"root": str(cohort.root.resolve())})


def remembered_place(digest: str) -> Path | None:
    """The folder that was noted last under `digest`; None where there is none any more."""
    note = _folder() / f"{digest}.json"
    if not note.exists():
        return None
    root = Path(json.loads(note.read_text(encoding="utf-8"))["root"])
    return root if root.is_dir() else None


def _folder() -> Path:
    return home_folder() / "cohorts"
