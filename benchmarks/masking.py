"""What masking takes out of notes: recall by kind, with and without the names given, and what it takes that is none.

    python benchmarks/masking.py            # 2,000 sentences with something to hide and 5,000 without
    python benchmarks/masking.py --smoke    # a few of them, in seconds
    python benchmarks/masking.py --missed   # and what was missed

The corpus is that of the tests. Of its three parts the one that is held out was written after the rules; what its
first run showed mended two of them. By the test part more were chosen. Dates, identifiers, numbers and addresses
have the same forms in all. It is made up: a hospital's prose has names, spellings and layouts that it does not
have, so a hospital should measure on its own notes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from _options import read_options
from rich.console import Console
from rich.table import Table

from consilium.masking import mask_text
from tests.consilium.masking.corpus import (
    DEVELOPMENT,
    HELD_OUT,
    TEST,
    Recall,
    clean_sentences,
    masked_words,
    planted_sentences,
    recall,
)

_NOTE = "Fever and productive cough for three days. Crackles right base, SpO2 92 %. Known COPD, seen 12.03.2020. " * 5
_NAMES = ("Yamada^Tarou=山田^太郎=やまだ^たろう", "MRN-00412345")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--missed", action="store_true", help="print what was missed")
    parser.add_argument("--part", choices=(DEVELOPMENT, TEST, HELD_OUT), default=HELD_OUT, help="of the corpus")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--planted", type=int, default=2000, help="sentences with something to hide")
    parser.add_argument("--clean", type=int, default=5000, help="sentences without")
    given = read_options(parser, arguments, planted=100, clean=100)
    sentences = list(planted_sentences(given.part, given.planted, given.seed))
    given_names, without_names = recall(sentences, names_given=True), recall(sentences, names_given=False)
    console = Console()
    console.print(_table(given_names, without_names))
    words, masked = masked_words(clean_sentences(given.part, given.clean, given.seed))
    console.print(f"masked of {words} words and numbers with nothing to hide: {len(masked)}")
    console.print(f"a note of {len(_NOTE)} characters: {_milliseconds(20):.2f} ms")
    if given.missed:
        for title, missed in (("given", given_names.missed), ("not given", without_names.missed)):
            console.print(f"missed, names {title}:")
            for kind, shown, text in missed:
                console.print(f"  {kind}: {shown!r} in {text!r}", markup=False)


def _table(given_names: Recall, without_names: Recall) -> Table:
    table = Table("kind", "planted", "found, names given", "found, names not given")
    kinds = {kind: kind.partition(" ")[0] if kind.startswith("date") else kind for kind in sorted(given_names.planted)}
    for group in dict.fromkeys(kinds.values()):
        members = [kind for kind, its in kinds.items() if its == group]
        planted = sum(given_names.planted[kind] for kind in members)
        found = (sum(one.found[kind] for kind in members) / planted for one in (given_names, without_names))
        table.add_row(group, str(planted), *(f"{value:.3f}" for value in found))
    table.add_row("all", str(given_names.planted.total()), f"{given_names.share:.4f}", f"{without_names.share:.3f}")
    return table


def _milliseconds(repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        mask_text(_NOTE, _NAMES)
    return (time.process_time() - began) / repeats * 1000


if __name__ == "__main__":
    main()
