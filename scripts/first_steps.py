"""The README's five minutes, ready to run: ``python scripts/first_steps.py FOLDER`` writes its files and `steps.sh`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
SECTION = "Five minutes with your own cohort"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a Markdown page: language and text."""
    return [(found[1], found[2]) for found in _FENCE.finditer(page)]


def section(page: str, title: str) -> str:
    """The section of a Markdown page below the heading `title`, up to the next of its level."""
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def write(folder: Path) -> None:
    """Write the tables, the recipe and the commands of the README's section."""
    found = blocks(section(README.read_text(encoding="utf-8"), SECTION))
    studies, observations = (text for language, text in found if language == "csv")
    (recipe,) = (text for language, text in found if language == "yaml")
    _check, steps = (text for language, text in found if language == "bash")
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "studies.csv").write_text(studies, encoding="utf-8")
    (folder / "mine" / "observations.csv").write_text(observations, encoding="utf-8")
    (folder / "mine.yaml").write_text(recipe, encoding="utf-8")
    (folder / "steps.sh").write_text(steps, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
