"""Blank the words of a note that give the label away, by a list in the open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class WordMask:
    """What is blanked and what is put in its place."""

    pattern: re.Pattern[str]
    replacement: str

    def __call__(self, text: str) -> str:
        """`text` without the masked words; a blank left twice by a cut becomes one."""
        masked, count = self.pattern.subn(self.replacement, text)
        return re.sub(r"[ \t]{2,}", " ", masked).strip() if count else text


def word_pattern(entries: Sequence[str]) -> re.Pattern[str]:
    """One pattern for all entries: whole words, any case, ``*`` the rest of a word, a blank any blanks and hyphens."""
    longest_first = sorted(entries, key=len, reverse=True)
    alternatives = (r"[\s-]*".join(_word(part) for part in entry.split()) for entry in longest_first)
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


def _word(part: str) -> str:
    return r"\w*".join(re.escape(piece) for piece in part.split("*"))


def load_word_mask(name: str, task: str) -> WordMask:
    """The mask for `task` from the list `name` beside this module."""
    lists: Mapping[str, Any] = yaml.safe_load(files("training.cohorts").joinpath(name).read_text(encoding="utf-8"))
    return WordMask(word_pattern(lists[task]), str(lists["replacement"]))
