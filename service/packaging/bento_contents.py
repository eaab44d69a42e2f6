"""What lies beside the packages in a bento that `consilium bento` built: a packed model, or the name of an alias."""

from __future__ import annotations

from pathlib import Path

MODEL, SOURCE = "model", "follows.txt"


def source(place: Path) -> str:
    """What the bento whose packages lie in `place` serves: a folder, or ``models:/name@alias``."""
    follows = place / SOURCE
    return follows.read_text(encoding="utf-8").strip() if follows.is_file() else str(place / MODEL)
